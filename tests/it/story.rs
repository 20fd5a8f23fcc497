//! README's story as it is written there, and what an auditor who kept one checkpoint can still say, years and mishaps later. Small in CI; `LEDGER_STORY_ENTRIES=300000` makes it as
//! long as it has to hold for.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::process::Stdio;

use ledger_sim::{SimServers, WorldSpec};
use serde_json::json;

use crate::erasure::{ANN, BOB, by, erase, world};
use crate::tamper::dump_into;
use crate::tamper_proof::fill;
use crate::tidy::top;
use crate::world::{World, output, temporary};

/// The block of README that tells a cleanup from beginning to end, a line each without its remark.
fn told_by_readme() -> Vec<String> {
    let readme = std::fs::read_to_string(top().join("README.md")).unwrap();
    let (_, block) = readme
        .split_once("A calendar cleanup, from beginning to end:\n\n```sh\n")
        .unwrap();
    let (block, _) = block.split_once("```").unwrap();
    let lines = block.lines();
    lines
        .map(|line| line.split(" #").next().unwrap().trim().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readme_tells_a_cleanup_that_works_with_what_it_names() {
    let spec = WorldSpec {
        plain_users: true,
        ..WorldSpec::seeded(91).users(3).events_per_user(6)
    };
    let sim = SimServers::start(spec.as_of(crate::migration::now()).generate());
    let sim = sim.await.unwrap();
    let world = World::bare().await;
    let folder = temporary("readme");
    let program = world.command(Vec::<&str>::new());
    symlink(program.get_program(), folder.path().join("ledger")).unwrap();
    let (exports, lines): (Vec<String>, Vec<String>) = told_by_readme()
        .into_iter()
        .partition(|line| line.starts_with("export "));
    let set = exports.iter().flat_map(|line| line.split_whitespace());
    let named: Vec<&str> = set.filter_map(|word| word.strip_suffix("=…")).collect();
    // What it names, and where the simulators are in place of Google.
    let elsewhere = ["GOOGLE_OAUTH_TOKEN_URL", "GOOGLE_CALENDAR_API_URL"];
    let environment: BTreeMap<String, String> = sim
        .env()
        .into_iter()
        .map(|(name, value)| (name.to_string(), value))
        .filter(|(name, _)| named.iter().chain(&elsewhere).any(|it| it == name))
        .collect();
    assert_eq!(
        environment.len(),
        named.len() + elsewhere.len(),
        "{named:?}"
    );

    // What a reader puts in: a hash, a head, a run and the time of going live.
    let mut known: Vec<(String, String)> = vec![(
        "2026-03-01T09:00:00Z".to_owned(),
        sim.world().spec.go_live.to_rfc3339(),
    )];
    let mut deleted = 0;
    for line in &lines {
        let mut line = line.clone();
        for (from, to) in &known {
            line = line.replace(from, to);
        }
        let mut command = std::process::Command::new("/bin/sh");
        let path = std::env::var_os("PATH").unwrap();
        let path = format!("{}:{}", folder.path().display(), path.display());
        let inner = program.get_envs();
        command
            .env_clear()
            .envs(inner.filter_map(|(name, value)| Some((name, value?))))
            .env("PATH", path)
            .envs(&environment)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .args(["-c", &line]);
        let told = output(&mut command);
        let last_word = |start: &str| {
            let mut lines = told.stdout.lines();
            let line = lines.find(|line| line.starts_with(start));
            line.map(|line| line.split_whitespace().nth(1).unwrap().to_owned())
        };
        if line.starts_with("ledger loss") {
            // Of records and files it says that nobody looked at them.
            assert!(told.stdout.contains("calendar: none"), "{told:?}");
            continue;
        }
        assert_eq!(told.exit, 0, "{line}: {told:?}");
        if line.starts_with("ledger init") {
            known.push(("3:87f4a45ed611…".to_owned(), last_word("head: ").unwrap()));
        } else if line.contains("--dry-run") {
            known.push(("3f9a41c2".to_owned(), last_word("plan: ").unwrap()));
        } else if line.contains("--plan") {
            let run = last_word("run ").unwrap();
            known.push(("RUN".to_owned(), run.trim_end_matches(':').to_owned()));
            deleted = sim.deleted().len();
        }
    }
    assert!(deleted > 0, "nothing was deleted");
    assert_eq!(sim.deleted().len(), 0, "and all came back");
}

fn entries() -> u64 {
    let set = std::env::var_os("LEDGER_STORY_ENTRIES");
    set.map_or(3_000, |text| text.to_str().unwrap().parse().unwrap())
}

#[tokio::test]
async fn a_day_one_checkpoint_outlasts_rotations_an_erasure_and_restores() {
    let world = world().await;
    let more = entries();
    let first_key = world.ledger(["key", "show", "--vkey"]).ok().stdout;
    let day_one = world.ledger(["checkpoint"]).ok().stdout;
    let size: u64 = day_one.lines().nth(1).unwrap().parse().unwrap();
    let file = world.home().join("day-one.txt");
    std::fs::write(&file, &day_one).unwrap();
    let file = file.to_str().unwrap();

    // Entries, and two rotations on the way.
    let mut retired = first_key.trim_end().to_owned();
    for part in 1..=2 {
        fill(&world, size + more * part / 3).await;
        let new = world.ledger(["key", "rotate"]).ok().stdout;
        world.ledger(["key", "retire", &retired]).ok();
        new.trim_end().clone_into(&mut retired);
    }
    // An erasure: what stood in the day-one entries is gone, the entries are not.
    let (owner, erased) = erase(&world, ANN, &[]);
    assert!(
        erased["erased"]["payloads"].as_u64().unwrap() >= 2,
        "{erased}"
    );
    let before = World::empty().await;
    dump_into(&world, &before, &[]);
    fill(&world, size + more).await;
    world.ledger(["checkpoint"]).ok();

    let holds = |url: &str| {
        let run = |arguments: &[&str]| {
            let mut command = world.command(arguments);
            output(command.env("DATABASE_URL", url)).ok()
        };
        let by_vkey = ["--vkey", first_key.trim_end()];
        for vkey in [&[][..], &by_vkey] {
            let arguments = [&["verify", "--json", "--checkpoint", file], vkey].concat();
            let report = run(&arguments).json();
            assert_eq!(
                (&report["verdict"], &report["anchored"]),
                (&json!("intact"), &json!(size)),
                "{report}"
            );
            assert_eq!(report["erased"][0]["owner"], owner, "{report}");
            assert_eq!(
                report["erased"][0]["payloads"],
                erased["erased"]["payloads"]
            );
        }
        let proof = run(&["prove", "--from", file]);
        assert!(proof.stdout.starts_with(&format!("old {size}\n")));
        run(&["verify", "--since", file]);
    };
    holds(world.url());
    let restored = World::empty().await;
    dump_into(&world, &restored, &[]);
    holds(restored.url());

    // An older backup: read-only, and named, until the loss is stated and signed.
    let on_backup = |arguments: &[&str]| {
        let mut command = world.command(arguments);
        output(command.env("DATABASE_URL", before.url()))
    };
    for refused in [
        &["checkpoint"][..],
        &["key", "rotate"],
        &["hold", "place", BOB, "--reason", "x", "--as", "bea"],
    ] {
        let refused = on_backup(refused);
        assert_ne!(refused.exit, 0, "{refused:?}");
    }
    assert_eq!(on_backup(&["verify"]).exit, 1);
    on_backup(&["log", "--from", "1", "--to", "3"]).ok();
    let stated = on_backup(&[
        "checkpoint",
        "restored",
        "--reason",
        "the disk failed",
        "--json",
    ]);
    assert_eq!(stated.ok().json()["lost_to"], size + more);
    on_backup(&["checkpoint"]).ok();
    on_backup(&["hold", "place", BOB, "--reason", "x", "--as", "bea"]).ok();
    holds(before.url());
}

/// Two ledgers of one home in one database, of which one is put back to what it was: its keys are not put under another key, since
/// the statement of that would stand in the place of what was lost.
#[tokio::test]
async fn an_erasure_stops_where_another_ledger_is_behind_its_record() {
    let world = world().await;
    world.ledger(["init", "other"]).ok();
    let of_other = |arguments: &[&str]| world.ledger([arguments, &["--ledger", "other"]].concat());
    of_other(&["checkpoint"]).ok();
    let mut superuser = world.superuser().await;
    let saved = "create schema saved; \
        create table saved.entries as table ledger.entries; create table saved.payloads as table ledger.payloads; \
        create table saved.heads as table ledger.heads; create table saved.checkpoints as table ledger.checkpoints; \
        create table saved.tree as table ledger.tree";
    crate::server::execute(&mut superuser, saved).await;
    let line = crate::world::line("test.happened", "service:api", &json!({}));
    world
        .ledger_in(["append", "--ledger", "other"], &line.to_string())
        .ok();
    let signed = of_other(&["checkpoint"]).ok().stdout;
    let to_test = ["--ledger", "test"];
    let run =
        |person: &str, arguments: &[&str]| by(&world, person, &[arguments, &to_test].concat());
    let asked = run("ann", &[&["erase", ANN], &crate::erasure::WHY[..]].concat()).json();
    let hash = asked["request"]["hash"].as_str().unwrap();
    for person in ["ann", "bea"] {
        run(person, &["approve", &hash[..12]]).ok();
    }

    let other = "ledger_id = (select ledger_id from ledger.heads where name = 'other')";
    for table in ["entries", "payloads", "checkpoints"] {
        let put_back = format!(
            "delete from ledger.{table} where {other}; insert into ledger.{table} select * from saved.{table} where {other}"
        );
        crate::server::execute(
            &mut superuser,
            crate::catalogue::without_triggers(table, &put_back),
        )
        .await;
    }
    let head = format!(
        "update ledger.heads h set (size, hash, recorded_at) = \
             (select s.size, s.hash, s.recorded_at from saved.heads s where s.ledger_id = h.ledger_id) where {other}"
    );
    crate::server::execute(
        &mut superuser,
        crate::catalogue::without_triggers("heads", &head),
    )
    .await;

    let kek = std::fs::read_to_string(world.home().join("kek")).unwrap();
    let owner = asked["owner"].as_str().unwrap().to_owned();
    let refused = run("cid", &["erase", &owner]);
    assert_eq!(refused.exit, 1, "{refused:?}");
    for said in ["ledger other does not hold the", "--ledger other"] {
        assert!(refused.stderr.contains(said), "{refused:?}");
    }
    assert_eq!(
        std::fs::read_to_string(world.home().join("kek")).unwrap(),
        kek
    );
    assert!(!world.home().join("kek.next").exists());

    // Written to since, it is as long as what was signed, and still another history.
    let elsewhere = temporary("elsewhere");
    for _ in 0..2 {
        let mut command = world.command(["append", "--ledger", "other"]);
        command
            .env("LEDGER_HOME", elsewhere.path())
            .env("LEDGER_KEK", kek.trim_end());
        crate::world::output_of(&mut command, &line.to_string()).ok();
    }
    let refused = run("cid", &["erase", &owner]);
    assert_eq!(refused.exit, 1, "{refused:?}");
    assert!(
        refused.stderr.contains("ledger other"),
        "{signed}: {refused:?}"
    );
    of_other(&["checkpoint", "restored", "--reason", "a disk"]).ok();
    let done = run("cid", &["erase", &owner]).ok().json();
    assert_eq!(done["state"], "done", "{done}");
    for name in ["test", "other"] {
        world.ledger(["verify", "--ledger", name]).ok();
    }
}
