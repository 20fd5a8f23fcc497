//! Checkpoints, from signing to what they prove years later: rotation, restore, a signer that refuses to fork.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::server::execute;
use crate::tamper::dump_into;
use crate::tamper_proof::fill;
use crate::world::{World, line, output, output_of, temporary};

/// Keeps the note that a command printed in a file.
fn keep(world: &World, name: &str, note: &str) -> PathBuf {
    let path = world.home().join(name);
    std::fs::write(&path, note).unwrap();
    path
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn append(world: &World) {
    world.append(&[line("test.happened", "service:api", &json!({}))]);
}

#[tokio::test]
async fn a_checkpoint_is_signed_shown_and_held_against_the_ledger() {
    let world = World::start().await;
    append(&world);
    let (_, before) = world.verify(&[]);
    assert!(
        before["warnings"]
            .to_string()
            .contains("no checkpoint was signed yet")
    );

    let signed = world.ledger(["checkpoint"]).ok();
    assert_eq!(signed.stderr, "");
    let vkey = world.ledger(["key", "show", "--vkey"]).ok().stdout;
    let origin = vkey.split('+').next().unwrap();
    assert!(
        signed.stdout.starts_with(&format!("{origin}\n2\n")),
        "{signed:?}"
    );
    let again = world.ledger(["checkpoint"]).ok();
    assert_eq!(again.stdout, signed.stdout);
    assert!(
        again.stderr.contains("nothing was appended since"),
        "{again:?}"
    );
    assert_eq!(
        world.ledger(["checkpoint", "show"]).ok().stdout,
        signed.stdout
    );
    let shown = world
        .ledger(["checkpoint", "show", "2", "--json"])
        .ok()
        .json();
    assert_eq!(shown["note"], signed.stdout);
    assert_eq!(world.ledger(["checkpoint", "show", "1"]).exit, 1);

    let first = keep(&world, "first.txt", &signed.stdout);
    let (exit, report) = world.verify(&["--checkpoint", path(&first)]);
    assert_eq!((exit, &report["anchored"]), (0, &json!(2)), "{report}");
    assert_eq!(report["warnings"], json!([]));
    append(&world);
    let (exit, report) = world.verify(&["--checkpoint", path(&first), "--vkey", vkey.trim_end()]);
    assert_eq!((exit, &report["anchored"]), (0, &json!(2)), "{report}");
    assert_eq!(
        report["unchecked"],
        json!(["entries 3 to 3 are not anchored"])
    );
    let behind = "the last checkpoint, of size 2, is 1 entries behind the head";
    assert_eq!(report["warnings"], json!([behind]));
    world.ledger(["checkpoint"]).ok();
    let listed = world.ledger(["checkpoint", "list", "--json"]).ok().lines();
    let sizes: Vec<&Value> = listed.iter().map(|line| &line["size"]).collect();
    assert_eq!(sizes, [2, 3]);

    // What another key signed, or what was changed since, is not this ledger's.
    let other = World::start().await;
    let theirs = other.ledger(["checkpoint"]).ok().stdout;
    let theirs = keep(&world, "theirs.txt", &theirs);
    let changed = signed.stdout.replacen("\n2\n", "\n3\n", 1);
    let changed = keep(&world, "changed.txt", &changed);
    for wrong in [&theirs, &changed] {
        let (exit, report) = world.verify(&["--checkpoint", path(wrong)]);
        assert_eq!((exit, &report["broken_count"]), (1, &json!(1)), "{report}");
    }
    let not_one = keep(&world, "not-one.txt", "hello\n");
    let refused = world.ledger(["verify", "--checkpoint", path(&not_one)]);
    assert_eq!(refused.exit, 2, "{refused:?}");
}

#[tokio::test]
async fn a_day_one_checkpoint_holds_after_rotations_and_a_restore() {
    let world = World::start().await;
    append(&world);
    let day_one = world.ledger(["checkpoint"]).ok().stdout;
    let day_one = keep(&world, "day-one.txt", &day_one);
    let first_key = world.ledger(["key", "show", "--vkey"]).ok().stdout;
    fill(&world, 1_000).await;

    let mut retired = first_key.trim_end().to_owned();
    for round in 1..=2_u64 {
        let new = world.ledger(["key", "rotate"]).ok().stdout;
        let both = world.ledger(["checkpoint", "show"]).ok().stdout;
        assert_eq!(both.matches("\u{2014} ").count(), 2, "{both}");
        fill(&world, 1_000 + 1_000 * round).await;
        world.ledger(["key", "retire", &retired]).ok();
        let alone = world.ledger(["checkpoint", "show"]).ok().stdout;
        assert_eq!(alone.matches("\u{2014} ").count(), 1, "{alone}");
        new.trim_end().clone_into(&mut retired);
    }
    let keys = world.ledger(["key", "list", "--json"]).ok().lines();
    let uses: Vec<(bool, bool)> = keys
        .iter()
        .map(|key| {
            let held = |name: &str| key[name].as_bool().unwrap();
            (held("in_use"), held("private_key_here"))
        })
        .collect();
    assert_eq!(uses, [(false, false), (false, false), (true, true)]);
    assert_eq!(
        world.ledger(["key", "retire", &retired]).exit,
        2,
        "the last key"
    );

    let restored = World::empty().await;
    dump_into(&world, &restored, &[]);
    std::fs::copy(world.home().join("kek"), restored.home().join("kek")).unwrap();
    for world in [&world, &restored] {
        let (exit, report) = world.verify(&["--checkpoint", path(&day_one)]);
        assert_eq!((exit, &report["anchored"]), (0, &json!(2)), "{report}");
        let by_vkey = [
            "--checkpoint",
            path(&day_one),
            "--vkey",
            first_key.trim_end(),
        ];
        let (exit, report) = world.verify(&by_vkey);
        assert_eq!((exit, &report["anchored"]), (0, &json!(2)), "{report}");
        let proof = world.ledger(["prove", "--from", path(&day_one)]).ok();
        assert!(proof.stdout.starts_with("old 2\n"), "{proof:?}");
        assert!(proof.stderr.contains("extends the one of 2"), "{proof:?}");
    }
}

#[tokio::test]
async fn a_signer_does_not_sign_a_second_history() {
    let world = World::start().await;
    append(&world);
    world.ledger(["checkpoint"]).ok();
    let backup = World::empty().await;
    dump_into(&world, &backup, &[]);
    append(&world);
    append(&world);
    let lost = world.ledger(["checkpoint"]).ok().stdout;
    let lost = keep(&world, "lost.txt", &lost);

    // The older backup, with the same home: behind what was signed, it is read-only.
    let on_backup = |arguments: &[&str]| {
        let mut command = world.command(arguments);
        output(command.env("DATABASE_URL", backup.url()))
    };
    let refused = on_backup(&["checkpoint"]);
    assert_eq!(refused.exit, 1, "{refused:?}");
    assert!(
        refused.stderr.contains("restored from an older backup"),
        "{refused:?}"
    );
    let refused = on_backup(&["key", "rotate"]);
    assert_ne!(refused.exit, 0, "{refused:?}");
    assert!(refused.stderr.contains("read-only"), "{refused:?}");
    let verified = on_backup(&["verify", "--json"]);
    assert_eq!(verified.exit, 1, "{verified:?}");
    assert!(
        verified.stdout.contains("the signer's record"),
        "{verified:?}"
    );
    on_backup(&["log"]).ok();

    // A person states the loss; then it goes on, and says of the lost checkpoint what became of it.
    let stated = on_backup(&[
        "checkpoint",
        "restored",
        "--reason",
        "the disk failed",
        "--json",
    ])
    .ok();
    assert_eq!(stated.json()["lost_from"], 3);
    assert_eq!(stated.json()["lost_to"], 4);
    on_backup(&["checkpoint"]).ok();
    let verified = on_backup(&["verify", "--json"]).ok().json();
    assert_eq!(verified["verdict"], "intact");
    let verified = on_backup(&["verify", "--json", "--checkpoint", path(&lost)])
        .ok()
        .json();
    let said = verified["unchecked"].to_string();
    assert!(
        said.contains("entries 3 to 4 were lost when the ledger was restored"),
        "{said}"
    );
    let again = on_backup(&["checkpoint", "restored", "--reason", "again"]);
    assert_eq!(again.exit, 2, "{again:?}");

    // A forged history of the same length: the record knows another root.
    let forged = World::empty().await;
    dump_into(&backup, &forged, &[]);
    let rewrite = "alter table ledger.entries disable trigger user; \
        update ledger.entries set bytes = convert_to(regexp_replace(convert_from(bytes, 'UTF8'), '\"occurred_at\":\"\\d+', '\"occurred_at\":\"1999'), 'UTF8') where seq = 3; \
        update ledger.entries set hash = sha256('\\x00'::bytea || bytes) where seq = 3; \
        alter table ledger.heads disable trigger user; \
        update ledger.heads set hash = (select hash from ledger.entries where seq = 3); \
        delete from ledger.checkpoints where false";
    execute(&mut forged.superuser().await, rewrite).await;
    let mut command = world.command(["append", "--json"]);
    command.env("DATABASE_URL", forged.url());
    let next = line("test.happened", "service:api", &json!({})).to_string();
    output_of(&mut command, &next).ok();
    let mut command = world.command(["checkpoint"]);
    let refused = output(command.env("DATABASE_URL", forged.url()));
    assert_eq!(refused.exit, 1, "{refused:?}");
    assert!(refused.stderr.contains("would be a fork"), "{refused:?}");
}

#[tokio::test]
async fn a_restored_ledger_that_was_written_to_since_is_a_fork_until_it_is_stated() {
    let world = World::start().await;
    append(&world);
    let backup = World::empty().await;
    dump_into(&world, &backup, &[]);
    append(&world);
    world.ledger(["checkpoint"]).ok();
    // Written to from a machine that knows nothing of what was signed.
    let elsewhere = temporary("elsewhere");
    for _ in 0..3 {
        let mut command = world.command(["append", "--json"]);
        command.env("DATABASE_URL", backup.url());
        command.env("LEDGER_HOME", elsewhere.path());
        let kek = std::fs::read_to_string(world.home().join("kek")).unwrap();
        command.env("LEDGER_KEK", kek.trim_end());
        let next = line("test.happened", "service:api", &json!({})).to_string();
        output_of(&mut command, &next).ok();
    }
    let on_backup = |arguments: &[&str]| {
        let mut command = world.command(arguments);
        output(command.env("DATABASE_URL", backup.url()))
    };
    let refused = on_backup(&["checkpoint"]);
    assert_eq!(refused.exit, 1, "{refused:?}");
    assert!(refused.stderr.contains("would be a fork"), "{refused:?}");
    let verified = on_backup(&["verify"]);
    assert_eq!(verified.exit, 1, "{verified:?}");
    on_backup(&[
        "checkpoint",
        "restored",
        "--reason",
        "written to before it was noticed",
    ])
    .ok();
    on_backup(&["checkpoint"]).ok();
    on_backup(&["verify"]).ok();
}

#[tokio::test]
async fn what_took_the_place_of_lost_entries_is_not_excused_as_lost() {
    let world = World::start().await;
    append(&world);
    world.ledger(["checkpoint"]).ok();
    let backup = World::empty().await;
    dump_into(&world, &backup, &[]);
    for _ in 0..4 {
        append(&world);
    }
    world.ledger(["checkpoint"]).ok();
    let on = |ledger: &World, arguments: &[&str]| {
        let mut command = world.command(arguments);
        output(command.env("DATABASE_URL", ledger.url()))
    };
    on(&backup, &["checkpoint", "restored", "--reason", "a disk"]).ok();
    // Entry 3 states that 3 to 6 are lost. What is signed from here on is of the new history, and so are its sizes.
    let cut = World::empty().await;
    dump_into(&backup, &cut, &[]);
    let vkey = world.ledger(["key", "show", "--vkey"]).ok().stdout;
    let id = vkey.split('+').next().unwrap().rsplit('/').next().unwrap();
    let key = std::fs::read_to_string(world.home().join("checkpoint-keys").join(id)).unwrap();
    let kek = std::fs::read_to_string(world.home().join("kek")).unwrap();
    let elsewhere = temporary("elsewhere");
    std::fs::create_dir(elsewhere.path().join("checkpoint-keys")).unwrap();
    let from_elsewhere = |ledger: &World, arguments: &[&str], input: &str| {
        let mut command = world.command(arguments);
        command.env("DATABASE_URL", ledger.url());
        command.env("LEDGER_HOME", elsewhere.path());
        command.env("LEDGER_KEK", kek.trim_end());
        command.env("LEDGER_CHECKPOINT_KEY", key.trim_end());
        output_of(&mut command, input)
    };
    let next = || line("test.happened", "service:api", &json!({})).to_string();
    let mut command = world.command(["append", "--json"]);
    command.env("DATABASE_URL", backup.url());
    output_of(&mut command, &next()).ok();
    let place = temporary("published");
    let target = format!("folder:{}", place.path().display());
    let kept = on(&backup, &["checkpoint", "--publish", &target]).ok();
    let kept = keep(&world, "kept.txt", &kept.stdout);
    let verify = ["verify", "--json", "--checkpoint", path(&kept)];
    let report = on(&backup, &verify).ok().json();
    assert_eq!(
        (&report["verdict"], &report["anchored"]),
        (&json!("intact"), &json!(4))
    );

    // Cut off, and then rewritten: the record beside the key is of the present, and the kept note is not said to be lost.
    for rewritten in [false, true] {
        if rewritten {
            for _ in 0..2 {
                from_elsewhere(&cut, &["append", "--json"], &next()).ok();
            }
        }
        assert_eq!(on(&cut, &["verify"]).exit, 1, "{rewritten}");
        let answer = from_elsewhere(&cut, &verify, "");
        let report = answer.json();
        assert_eq!(
            (answer.exit, &report["verdict"], &report["anchored"]),
            (3, &json!("unknown"), &json!(null)),
            "{report}"
        );
        let said = report["unchecked"].to_string();
        assert!(said.contains("cut off or rewritten since"), "{said}");
    }
    let refused = from_elsewhere(&cut, &["checkpoint", "--publish", &target], "");
    assert_eq!(refused.exit, 1, "{refused:?}");
    assert!(
        refused.stderr.contains("the ledger was cut or rewritten"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_ledger_put_back_to_before_a_rotation_is_taken_up_again() {
    let world = World::start().await;
    append(&world);
    world.ledger(["checkpoint"]).ok();
    let old = world.ledger(["key", "show", "--vkey"]).ok().stdout;
    let backup = World::empty().await;
    dump_into(&world, &backup, &[]);
    world.ledger(["key", "rotate"]).ok();
    world.ledger(["key", "retire", old.trim_end()]).ok();
    let lost = world.ledger(["checkpoint", "show"]).ok().stdout;
    let lost = keep(&world, "lost.txt", &lost);
    let on_backup = |arguments: &[&str]| {
        let mut command = world.command(arguments);
        output(command.env("DATABASE_URL", backup.url()))
    };
    assert_eq!(on_backup(&["checkpoint"]).exit, 1);
    on_backup(&["checkpoint", "restored", "--reason", "a disk"]).ok();
    on_backup(&["checkpoint"]).ok();
    // The key of the lost checkpoint is lost as well.
    let verify = ["verify", "--json", "--checkpoint", path(&lost)];
    let report = on_backup(&verify).ok().json();
    let said = report["unchecked"].to_string();
    assert!(said.contains("were lost when the ledger"), "{said}");
    let rotated = on_backup(&["key", "rotate"]);
    assert_eq!(rotated.exit, 0, "{rotated:?}");
    on_backup(&["key", "retire", old.trim_end()]).ok();
    on_backup(&["verify"]).ok();
}

#[tokio::test]
async fn a_flipped_bit_is_found_before_it_is_signed() {
    let world = World::start().await;
    append(&world);
    let flip = "alter table ledger.entries disable trigger user; \
        update ledger.entries set bytes = set_byte(bytes, 50, get_byte(bytes, 50) # 1) where seq = 2; \
        alter table ledger.entries enable always trigger refuse_change; \
        alter table ledger.entries enable always trigger refuse_truncate";
    world.ledger(["checkpoint", "--ledger", "catalogue"]).ok();
    let in_test = flip.replace(
        "seq = 2",
        "seq = 2 and ledger_id = (select ledger_id from ledger.heads where name = 'test')",
    );
    execute(&mut world.superuser().await, in_test).await;
    let refused = world.ledger(["checkpoint"]);
    assert_eq!(refused.exit, 1, "{refused:?}");
    assert!(refused.stderr.contains("entry 2 is damaged"), "{refused:?}");
    assert_eq!(
        world.ledger(["checkpoint", "show"]).exit,
        1,
        "nothing was signed"
    );
    // Another ledger is not held up by it.
    world.ledger(["init", "other"]).ok();
    world.ledger(["checkpoint", "--ledger", "other"]).ok();
    world.ledger(["checkpoint", "--ledger", "catalogue"]).ok();
}

#[tokio::test]
async fn a_key_from_the_environment_signs_and_one_of_another_ledger_does_not() {
    let world = World::start().await;
    let folder = world.home().join("checkpoint-keys");
    let vkey = world.ledger(["key", "show", "--vkey"]).ok().stdout;
    let id = vkey.split('+').next().unwrap().rsplit('/').next().unwrap();
    let file = folder.join(id);
    let key = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    let refused = world.ledger(["checkpoint"]);
    assert_eq!(refused.exit, 2, "{refused:?}");
    assert!(refused.stderr.contains("no key at hand"), "{refused:?}");
    let with = |key: &str| {
        output(
            world
                .command(["checkpoint"])
                .env("LEDGER_CHECKPOINT_KEY", key),
        )
    };
    with(key.trim_end()).ok();
    append(&world);
    let other = World::start().await;
    let vkey = other.ledger(["key", "show", "--vkey"]).ok().stdout;
    let id = vkey.split('+').next().unwrap().rsplit('/').next().unwrap();
    let theirs = std::fs::read_to_string(other.home().join("checkpoint-keys").join(id)).unwrap();
    for wrong in [theirs.trim_end(), "PRIVATE+KEY+x"] {
        let refused = with(wrong);
        assert_eq!(refused.exit, 2, "{refused:?}");
        assert!(!refused.stderr.contains("PRIVATE"), "{refused:?}");
    }
}

/// A signer that gets its keys from the environment may start with an empty home, as in a container. Its record begins with what was
/// stored last, which has to be of these entries, and from then on it is a record like any other.
#[tokio::test]
async fn a_signer_with_an_empty_home_begins_its_record_with_what_was_stored_last() {
    let world = World::start().await;
    append(&world);
    let vkey = world.ledger(["key", "show", "--vkey"]).ok().stdout;
    let id = vkey.split('+').next().unwrap().rsplit('/').next().unwrap();
    let key = std::fs::read_to_string(world.home().join("checkpoint-keys").join(id)).unwrap();
    let place = temporary("empty");
    let homes = ["first", "second", "third"].map(|name| place.path().join(name));
    let sign = |ledger: &World, home: &Path| {
        let mut command = world.command(["checkpoint", "--json"]);
        command
            .env("DATABASE_URL", ledger.url())
            .env("LEDGER_HOME", home)
            .env("LEDGER_CHECKPOINT_KEY", key.trim_end());
        output(&mut command)
    };
    let first = sign(&world, &homes[0]).ok();
    assert_eq!(
        (first.json()["size"].as_u64(), first.stderr.as_str()),
        (Some(2), "")
    );
    let backup = World::empty().await;
    dump_into(&world, &backup, &[]);
    append(&world);
    let there = sign(&world, &homes[0]).ok();
    assert_eq!(
        (there.json()["size"].as_u64(), there.stderr.as_str()),
        (Some(3), "")
    );

    // Another one takes over, also where nothing is new, and says by what it goes.
    let taken = sign(&world, &homes[1]).ok();
    assert_eq!(
        (&taken.json()["size"], &taken.json()["new"]),
        (&json!(3), &json!(false))
    );
    assert!(
        taken
            .stderr
            .contains("had no record here: the stored checkpoint of 3 entries"),
        "{taken:?}"
    );
    assert_eq!(
        sign(&world, &homes[1]).ok().stderr,
        "note: nothing was appended since; this is the last checkpoint\n"
    );
    for home in &homes[..2] {
        let refused = sign(&backup, home);
        assert_eq!(refused.exit, 1, "{refused:?}");
        assert!(
            refused.stderr.contains("restored from an older backup"),
            "{refused:?}"
        );
    }
    // What it cannot know: of a signer that loses its record each time, an older backup gets a second history.
    let mut command = world.command(["append", "--json"]);
    command.env("DATABASE_URL", backup.url());
    command.env("LEDGER_HOME", place.path().join("writer"));
    command.env(
        "LEDGER_KEK",
        std::fs::read_to_string(world.home().join("kek"))
            .unwrap()
            .trim_end(),
    );
    let next = line("test.happened", "service:api", &json!({})).to_string();
    output_of(&mut command, &next).ok();
    let second = sign(&backup, &homes[2]).ok();
    assert!(
        second.stderr.contains("the stored checkpoint of 2 entries"),
        "{second:?}"
    );
    assert_ne!(second.json()["root"], there.json()["root"]);

    // Entries that are not those of the stored checkpoint are not signed, with or without a record.
    let rewrite = "alter table ledger.checkpoints disable trigger user; delete from ledger.checkpoints where size = 2; \
        alter table ledger.entries disable trigger user; \
        update ledger.entries set bytes = convert_to(regexp_replace(convert_from(bytes, 'UTF8'), '\"occurred_at\":\"\\d+', '\"occurred_at\":\"1999'), 'UTF8') \
            where seq = 3 and ledger_id = (select ledger_id from ledger.heads where name = 'test'); \
        update ledger.entries set hash = sha256('\\x00'::bytea || bytes) \
            where seq = 3 and ledger_id = (select ledger_id from ledger.heads where name = 'test')";
    execute(&mut world.superuser().await, rewrite).await;
    let refused = sign(&world, &homes[2].join("new"));
    assert_eq!(refused.exit, 1, "{refused:?}");
    assert!(refused.stderr.contains("would be a fork"), "{refused:?}");
}

#[tokio::test]
async fn a_schedule_signs_what_is_new_and_ends_with_sigterm() {
    let world = World::start().await;
    let mut child = world
        .command(["checkpoint", "--every", "50ms", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    assert_eq!(next()["size"], 1);
    append(&world);
    assert_eq!(next()["size"], 2);
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(lines.next().is_none(), "nothing was signed twice");
    world.assert_intact();
}

#[tokio::test]
async fn two_signers_store_one_checkpoint_after_the_other() {
    let world = World::start().await;
    let answers: Vec<_> = std::thread::scope(|scope| {
        let signers: Vec<_> = (0..6)
            .map(|_| {
                scope.spawn(|| {
                    append(&world);
                    world.ledger(["checkpoint", "--json"])
                })
            })
            .collect();
        signers
            .into_iter()
            .map(|signer| signer.join().unwrap())
            .collect()
    });
    for answer in answers {
        answer.ok();
    }
    world.assert_intact();
}

#[tokio::test]
async fn each_receipt_of_a_run_is_found_again() {
    let world = World::start().await;
    let told = world.append(&[
        line("test.happened", "service:api", &json!({"n": 1})),
        line("test.happened", "service:api", &json!({"n": 2})),
    ]);
    let receipt = |entry: &Value, hash: &str| {
        format!(
            "2026-01-15T09:30:00.123456Z test.happened seq={} hash={hash} subject=service:x outcome=done\n",
            entry["seq"]
        )
    };
    let hash = |entry: &Value| entry["hash"].as_str().unwrap().to_owned();
    let mut log = String::from("started\n");
    for entry in &told {
        log.push_str(&receipt(entry, &hash(entry)));
    }
    let file = keep(&world, "run.log", &log);
    let (exit, report) = world.verify(&["--receipts", path(&file)]);
    assert_eq!((exit, &report["anchored"]), (0, &json!(3)), "{report}");
    let other = receipt(&told[0], &hash(&told[1]));
    let missing = receipt(&json!({"seq": 5}), &hash(&told[1]));
    let file = keep(&world, "other.log", &format!("{log}{other}{missing}"));
    let (exit, report) = world.verify(&["--receipts", path(&file)]);
    let broken: Vec<&Value> = report["broken"]
        .as_array()
        .unwrap()
        .iter()
        .map(|b| &b["seq"])
        .collect();
    assert_eq!(
        (exit, broken),
        (1, vec![&json!(2), &json!(4), &json!(5)]),
        "{report}"
    );
    let empty = keep(&world, "empty.log", "nothing\n");
    assert_eq!(world.ledger(["verify", "--receipts", path(&empty)]).exit, 2);
}

#[tokio::test]
async fn an_incremental_verification_reads_what_is_new_and_says_so() {
    let world = World::start().await;
    fill(&world, 600).await;
    let old = world.ledger(["checkpoint"]).ok().stdout;
    let old = keep(&world, "old.txt", &old);
    assert_eq!(world.verify_exit(&["--since", "600"]), 0, "nothing is new");
    world.ledger(["key", "rotate"]).ok();
    fill(&world, 700).await;
    for since in [path(&old), "600", "601"] {
        let (exit, report) = world.verify(&["--since", since]);
        assert_eq!(
            (exit, &report["verdict"]),
            (0, &json!("intact")),
            "{report}"
        );
        let said = report["unchecked"].to_string();
        assert!(said.contains("not read again"), "{said}");
        let anchored = if since == path(&old) {
            json!(600)
        } else {
            json!(null)
        };
        assert_eq!(report["anchored"], anchored, "{report}");
    }
    assert_eq!(world.verify_exit(&["--since", "650"]), 2);

    // What is new is checked; what is old is taken from the tree, which is.
    let mut superuser = world.superuser().await;
    let retyped = |seq: u64| {
        format!(
            "alter table ledger.entries disable trigger user; \
             update ledger.entries set type = type || 'x' where seq = {seq}; \
             alter table ledger.entries enable always trigger refuse_change; \
             alter table ledger.entries enable always trigger refuse_truncate"
        )
    };
    execute(&mut superuser, retyped(5)).await;
    assert_eq!(world.verify_exit(&["--since", "600"]), 0);
    assert_eq!(world.verify_exit(&[]), 1);
    execute(&mut superuser, retyped(650)).await;
    let (exit, report) = world.verify(&["--since", "600"]);
    assert_eq!(
        (exit, &report["broken"][0]["seq"]),
        (1, &json!(650)),
        "{report}"
    );
    let node = "alter table ledger.tree disable trigger user; \
        update ledger.tree set hash = sha256(hash) where index = 1; \
        alter table ledger.tree enable always trigger refuse_change; \
        alter table ledger.tree enable always trigger refuse_truncate";
    execute(&mut superuser, node).await;
    assert_eq!(world.verify_exit(&["--since", "600"]), 1);
}
