//! What leaves the ledger: bundles, checked by ourselves offline and by the Python that lies in them, and tiles, from which a
//! reader who knows the format alone gets the checkpoint's root.

use std::path::{Path, PathBuf};
use std::process::Command;

use ledger::chain::checkpoint::SignedCheckpoint;
use ledger::chain::entry::leaf_hash;
use ledger::chain::merkle::Frontier;
use ledger::chain::tiles::{Kind, Tile};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::world::{Output, World, binary, line, output, temporary};

fn sha256(path: &Path) -> String {
    hex::encode(Sha256::digest(std::fs::read(path).unwrap()))
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// `ledger verify --bundle` where there is no database, no key and no home.
fn verify_offline(bundle: &Path, arguments: &[&str]) -> (i32, Value) {
    let nowhere = Path::new("/nonexistent");
    let mut command = binary(nowhere);
    command
        .args(["verify", "--json", "--bundle", text(bundle)])
        .args(arguments);
    let output = output(&mut command);
    (output.exit, output.json())
}

/// Python, of which nothing but the standard library is used; none where it is not installed.
#[expect(clippy::print_stderr, reason = "says what was skipped, and why")]
fn python(folder: &Path, arguments: &[&str]) -> Option<Output> {
    let mut command = Command::new("python3");
    command
        .args(["-I", "-X", "utf8"])
        .args(arguments)
        .current_dir(folder);
    match command.output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("skipped: python3 is not installed, and the bundle's programs were not run");
            None
        }
        ran => {
            let ran = ran.unwrap();
            Some(Output {
                exit: ran.status.code().unwrap_or(-1),
                stdout: String::from_utf8(ran.stdout).unwrap(),
                stderr: String::from_utf8(ran.stderr).unwrap(),
            })
        }
    }
}

/// Opens a bundle as anybody would.
fn unzip(bundle: &Path) -> Option<TempDir> {
    let folder = temporary("bundle");
    let program = "import sys, zipfile; zipfile.ZipFile(sys.argv[1]).extractall()";
    let opened = python(folder.path(), &["-c", program, text(bundle)])?;
    opened.ok();
    Some(folder)
}

/// A ledger of some entries in two types, about two subjects, under a checkpoint.
async fn world() -> World {
    let world = World::start().await;
    let notes: Vec<Value> = (0..20)
        .map(|n| {
            let (event, subject) = if n % 4 == 0 {
                ("mark.set", "note:b")
            } else {
                ("note.added", "note:a")
            };
            line(event, subject, &json!({"n": n, "text": "名前 \u{1f600}"}))
        })
        .collect();
    world.append(&notes);
    world.ledger(["checkpoint"]).ok();
    world
}

fn vkey(world: &World) -> String {
    world
        .ledger(["key", "show", "--vkey"])
        .ok()
        .stdout
        .trim()
        .to_owned()
}

fn export(world: &World, name: &str, arguments: &[&str]) -> (PathBuf, Value) {
    let path = world.home().join(name);
    let asked = [&["export", "--json", "--bundle", text(&path)], arguments].concat();
    let answer = world.ledger(asked).ok().json();
    (path, answer)
}

#[tokio::test]
async fn a_bundle_is_checked_offline_and_by_the_python_in_it() {
    let world = world().await;
    let (bundle, answer) = export(&world, "all.zip", &[]);
    assert_eq!(answer["entries"], json!(21));
    assert_eq!(answer["payloads"], json!(21));
    assert_eq!(answer["sha256"], json!(sha256(&bundle)));
    let vkey = vkey(&world);

    let (exit, report) = verify_offline(&bundle, &[]);
    assert_eq!(
        (exit, &report["verdict"]),
        (0, &json!("intact")),
        "{report}"
    );
    assert_eq!(report["about"]["trust"], json!("first_use"));
    assert_eq!(report["about"]["complete"], json!([1, 21]));
    assert_eq!(report["sha256"], answer["sha256"]);
    assert!(
        report["unchecked"]
            .to_string()
            .contains("trusted on first use"),
        "{report}"
    );
    let (exit, report) = verify_offline(&bundle, &["--vkey", &vkey]);
    assert_eq!(
        (exit, &report["about"]["trust"]),
        (0, &json!("given")),
        "{report}"
    );
    let other = "example.com/log/testdata+33d7b496+AeHTu4Q3hEIMHNqc6fASMsq3rKNx280NI+oO5xCFkkSx";
    let (exit, report) = verify_offline(&bundle, &["--vkey", other]);
    assert_eq!(
        (exit, &report["verdict"]),
        (1, &json!("tampered")),
        "{report}"
    );

    let policy = world.home().join("policy");
    let witness = "witness.example.org+b8a2cf20+BFLN3yikSfFkVAJtrnh/CiY3Zozkoy7clp+P7XB28qUN";
    for (quorum, expected) in [("none", 0), ("W", 3)] {
        let text = format!("log {vkey}\nwitness W {witness}\nquorum {quorum}\n");
        std::fs::write(&policy, text).unwrap();
        let asked = ["--policy", policy.to_str().unwrap()];
        let (exit, report) = verify_offline(&bundle, &asked);
        assert_eq!(exit, expected, "{report}");
    }

    let Some(folder) = unzip(&bundle) else { return };
    let sums = output(
        Command::new("sha256sum")
            .args(["-c", "SHA256SUMS"])
            .current_dir(folder.path()),
    );
    sums.ok();
    let checked = python(folder.path(), &["check.py"]).unwrap().ok();
    assert!(
        checked
            .stdout
            .starts_with("21 entries and 21 payloads are in the tree of 21 "),
        "{checked:?}"
    );
    let signed = python(folder.path(), &["signature.py", &vkey])
        .unwrap()
        .ok();
    assert_eq!(signed.stdout, format!("signed by {vkey}\n"));
    let signed = python(folder.path(), &["signature.py"]).unwrap().ok();
    assert!(
        signed.stdout.contains("only this bundle says"),
        "{signed:?}"
    );
    assert_eq!(
        python(folder.path(), &["signature.py", other])
            .unwrap()
            .exit,
        1
    );
}

#[tokio::test]
async fn a_redacted_bundle_holds_no_payload_and_is_still_proved() {
    let world = world().await;
    let (bundle, answer) = export(&world, "redacted.zip", &["--redact"]);
    assert_eq!(answer["payloads"], json!(0));
    let bytes = std::fs::read(&bundle).unwrap();
    let held = |what: &str| {
        bytes
            .windows(what.len())
            .any(|window| window == what.as_bytes())
    };
    assert!(!held("名前") && !held("natural_id") && !held("salted\":"));
    let (exit, report) = verify_offline(&bundle, &[]);
    assert_eq!(
        (exit, &report["about"]["redacted"]),
        (0, &json!(true)),
        "{report}"
    );
    assert!(
        report["unchecked"]
            .to_string()
            .contains("payloads of 21 entries: redacted"),
        "{report}"
    );
    if let Some(folder) = unzip(&bundle) {
        let checked = python(folder.path(), &["check.py"]).unwrap().ok();
        assert!(
            checked.stdout.starts_with("21 entries and 0 payloads "),
            "{checked:?}"
        );
    }
}

#[tokio::test]
async fn a_bundle_holds_what_the_filters_of_log_show() {
    let world = world().await;
    for (name, filters) in [
        ("range.zip", &["--from", "3", "--to", "7"][..]),
        ("type.zip", &["--type", "mark.set"]),
        ("subject.zip", &["--subject", "note:a", "--as-of", "15"]),
        ("last.zip", &["--from", "21"]),
    ] {
        let (bundle, answer) = export(&world, name, filters);
        let shown = world.ledger([&["log", "--json", "--to", "21"], filters].concat());
        let shown = if shown.exit == 0 {
            shown.lines()
        } else {
            world
                .ledger([&["log", "--json"], filters].concat())
                .ok()
                .lines()
        };
        let shown: Vec<&Value> = shown
            .iter()
            .filter(|line| line["seq"].as_u64() <= Some(21))
            .collect();
        assert_eq!(answer["entries"], json!(shown.len()), "{name}");
        let (exit, report) = verify_offline(&bundle, &[]);
        assert_eq!(
            (exit, &report["verdict"]),
            (0, &json!("intact")),
            "{name}: {report}"
        );
        let range = name == "range.zip" || name == "last.zip";
        assert_eq!(
            report["about"]["complete"].is_array(),
            range,
            "{name}: {report}"
        );
        if let Some(folder) = unzip(&bundle) {
            python(folder.path(), &["check.py"]).unwrap().ok();
            let held = std::fs::read_to_string(folder.path().join("entries.ndjson")).unwrap();
            let held: Vec<&str> = held.lines().collect();
            let shown: Vec<&str> = shown
                .iter()
                .map(|line| line["bytes"].as_str().unwrap())
                .collect();
            assert_eq!(held, shown, "{name}");
        }
    }
}

#[tokio::test]
async fn every_export_is_an_entry_with_the_digest_of_its_file() {
    let world = world().await;
    let (bundle, answer) = export(&world, "some.zip", &["--type", "note.added", "--redact"]);
    let seq = answer["seq"].to_string();
    let shown = world.ledger(["show", &seq, "--json"]).ok().json();
    assert_eq!(shown["type"], json!("export.made"), "{shown}");
    let payload = &shown["payload"];
    assert_eq!(payload["sha256"], json!(sha256(&bundle)));
    assert_eq!(
        payload["selection"],
        json!({"type": "note.added", "redact": "yes"})
    );
    assert_eq!(
        (&payload["what"], &payload["payloads"]),
        (&json!("bundle"), &json!(0))
    );
    assert_eq!(payload["entries"], json!(15));

    // Evidence is not overwritten, and what was not written is not recorded.
    let again = world.ledger(["export", "--bundle", text(&bundle)]);
    assert_eq!(again.exit, 2, "{again:?}");
    let nothing = world.home().join("nothing.zip");
    let none = world.ledger(["export", "--bundle", text(&nothing), "--type", "never.seen"]);
    assert_eq!(none.exit, 1, "{none:?}");
    assert!(!nothing.exists());
    let unwritable = world.ledger(["export", "--bundle", "/nonexistent/all.zip"]);
    assert_eq!(unwritable.exit, 4, "{unwritable:?}");
    let made = world
        .ledger(["log", "--json", "--type", "export.made"])
        .ok()
        .lines();
    assert_eq!(made.len(), 1);
    let left = std::fs::read_dir(world.home())
        .unwrap()
        .map(|file| file.unwrap().file_name());
    assert!(
        left.into_iter()
            .all(|name| !name.to_string_lossy().ends_with(".new"))
    );
    world.assert_intact();
}

#[tokio::test]
async fn without_a_checkpoint_there_is_nothing_to_prove_an_export_by() {
    let world = World::start().await;
    let bundle = world.home().join("all.zip");
    let none = world.ledger(["export", "--bundle", text(&bundle)]);
    assert_eq!(none.exit, 1, "{none:?}");
    assert!(
        none.stderr
            .contains("hint: make one with `ledger checkpoint`"),
        "{none:?}"
    );
    world.ledger(["checkpoint"]).ok();
    world.append(&[line("note.added", "note:a", &json!({}))]);
    let some = world.ledger(["export", "--bundle", text(&bundle)]).ok();
    assert!(
        some.stderr.contains("entries 2 to 2 are not in it"),
        "{some:?}"
    );
}

#[tokio::test]
async fn a_changed_bundle_is_never_intact() {
    let world = world().await;
    let (bundle, _) = export(&world, "some.zip", &["--from", "5", "--to", "9"]);
    let sound = std::fs::read(&bundle).unwrap();
    let changed = world.home().join("changed.zip");
    // Each byte is tried by a test of the library; here a few, through the program.
    for at in (0..sound.len()).step_by(sound.len() / 12) {
        let mut bytes = sound.clone();
        bytes[at] ^= 0x20;
        std::fs::write(&changed, bytes).unwrap();
        let (exit, report) = verify_offline(&changed, &[]);
        assert_eq!(
            (exit, &report["verdict"]),
            (1, &json!("tampered")),
            "byte {at}: {report}"
        );
    }
    let Some(folder) = unzip(&bundle) else { return };
    for name in [
        "entries.ndjson",
        "payloads.ndjson",
        "proof",
        "checkpoint",
        "README.md",
        "SHA256SUMS",
    ] {
        let path = folder.path().join(name);
        let sound = std::fs::read(&path).unwrap();
        let mut bytes = sound.clone();
        bytes[sound.len() / 2] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let checked = python(folder.path(), &["check.py"]).unwrap();
        assert_ne!(checked.exit, 0, "{name}: {checked:?}");
        if name == "checkpoint" {
            let signed = python(folder.path(), &["signature.py"]).unwrap();
            assert_ne!(signed.exit, 0, "{name}: {signed:?}");
        }
        // The same with digests written anew: then the tree, or a commitment, does not hold.
        if !["README.md", "SHA256SUMS"].contains(&name) {
            let sums = folder.path().join("SHA256SUMS");
            let digests = std::fs::read_to_string(&sums).unwrap();
            let (old, new) = (
                hex::encode(Sha256::digest(&sound)),
                hex::encode(Sha256::digest(&bytes)),
            );
            std::fs::write(&sums, digests.replace(&old, &new)).unwrap();
            let checked = python(folder.path(), &["check.py"]).unwrap();
            let signed = python(folder.path(), &["signature.py"]).unwrap();
            assert!(checked.exit != 0 || signed.exit != 0, "{name}: {checked:?}");
            std::fs::write(&sums, digests).unwrap();
        }
        std::fs::write(&path, sound).unwrap();
    }
    python(folder.path(), &["check.py"]).unwrap().ok();
}

/// The root that somebody computes who reads bundles of entries and nothing else.
fn root_of_entries(folder: &Path, size: u64) -> (String, Frontier) {
    let mut tree = Frontier::default();
    for tile in Tile::added(0, size).filter(|tile| tile.kind() == Kind::Entries) {
        let bytes = std::fs::read(folder.join(tile.to_string())).unwrap();
        for entry in tile.entries(&bytes).unwrap() {
            tree.push(leaf_hash(entry));
        }
    }
    (tree.root().to_string(), tree)
}

fn checkpoint_in(folder: &Path) -> SignedCheckpoint {
    SignedCheckpoint::parse(&std::fs::read(folder.join("checkpoint")).unwrap()).unwrap()
}

#[tokio::test]
async fn tiles_are_the_tree_of_every_checkpoint_and_grow_with_it() {
    let world = World::start().await;
    let folder = world.home().join("tiles");
    let export = || world.ledger(["export", "--json", "--tiles", text(&folder)]);
    let mut sizes = Vec::new();
    // The second export takes in two checkpoints at once; the third passes a full tile.
    for counts in [&[20][..], &[10, 30], &[300], &[256]] {
        for count in counts {
            let notes: Vec<Value> = (0..*count)
                .map(|n| line("note.added", "note:a", &json!({"n": n})))
                .collect();
            world.append(&notes);
            let made = world.ledger(["checkpoint", "--json"]).ok().json();
            sizes.push(made["size"].as_u64().unwrap());
        }
        let answer = export().ok().json();
        let checkpoint = checkpoint_in(&folder);
        let tree = checkpoint.checkpoint();
        assert_eq!(sizes.last(), Some(&tree.size()));
        assert_eq!(answer["size"], json!(tree.size()));
        checkpoint.verify([&vkey(&world).parse().unwrap()]).unwrap();
        for size in &sizes {
            for tile in Tile::added(0, *size) {
                let bytes = std::fs::read(folder.join(tile.to_string()));
                let bytes = bytes.unwrap_or_else(|error| panic!("{tile} of {size}: {error}"));
                if tile.kind() != Kind::Entries {
                    assert_eq!(
                        tile.hashes(&bytes).unwrap().len(),
                        usize::from(tile.width())
                    );
                }
            }
        }
        assert_eq!(
            root_of_entries(&folder, tree.size()).0,
            tree.root().to_string()
        );
        // What is up to date is neither written nor recorded again.
        let again = export().ok().json();
        assert_eq!((&again["seq"], &again["files"]), (&Value::Null, &json!(0)));
    }
    // Hashes of the upper level are the roots of full tiles of leaves.
    let size = checkpoint_in(&folder).checkpoint().size();
    assert!(size > 512, "{size}");
    let upper = Tile::added(0, size)
        .find(|tile| tile.kind() == Kind::Hashes { level: 1 })
        .unwrap();
    let upper = upper
        .hashes(&std::fs::read(folder.join(upper.to_string())).unwrap())
        .unwrap();
    assert_eq!(upper[0].to_string(), root_of_entries(&folder, 256).0);
    let made = world
        .ledger(["log", "--json", "--type", "export.made"])
        .ok()
        .lines();
    assert_eq!(made.len(), 4);
    world.assert_intact();
}

#[tokio::test]
async fn tiles_of_another_history_are_left_alone() {
    let world = world().await;
    let folder = world.home().join("tiles");
    let export = |world: &World| world.ledger(["export", "--tiles", text(&folder)]);
    export(&world).ok();
    let entries = folder.join("tile/entries/000.p/21");
    let sound = std::fs::read(&entries).unwrap();

    // The folder of one ledger is none for another.
    let other = World::start().await;
    other.ledger(["checkpoint"]).ok();
    let refused = export(&other);
    assert_eq!(refused.exit, 2, "{refused:?}");
    assert!(refused.stderr.contains("another ledger"), "{refused:?}");

    // A file that was changed there is seen where it is written next.
    let checkpoint = std::fs::read(folder.join("checkpoint")).unwrap();
    std::fs::remove_file(folder.join("checkpoint")).unwrap();
    let mut bytes = sound.clone();
    bytes[100] ^= 1;
    std::fs::write(&entries, &bytes).unwrap();
    let refused = export(&world);
    assert_eq!(refused.exit, 1, "{refused:?}");
    assert_eq!(std::fs::read(&entries).unwrap(), bytes);
    assert!(!folder.join("checkpoint").exists());
    std::fs::write(&entries, &sound).unwrap();
    export(&world).ok();
    assert_eq!(
        std::fs::read(folder.join("checkpoint")).unwrap(),
        checkpoint
    );
}

/// The whole way: a run, its checkpoint, its evidence, and an auditor who has neither PostgreSQL nor this program.
#[tokio::test]
async fn the_bundle_of_a_demo_is_checked_by_the_programs_in_it() {
    let home = temporary("demo");
    let demo = |arguments: &[&str]| {
        let place = if arguments[0] == "demo" {
            home.path().to_owned()
        } else {
            home.path().join("demo")
        };
        output(binary(&place).args(arguments)).ok()
    };
    demo(&["demo", "--users", "2", "--json"]);
    demo(&["checkpoint"]);
    let vkey = demo(&["key", "show", "--vkey"]).stdout.trim().to_owned();
    let bundle = home.path().join("demo.zip");
    let made = demo(&["export", "--json", "--bundle", text(&bundle)]).json();
    let (exit, report) = verify_offline(&bundle, &["--vkey", &vkey]);
    assert_eq!(
        (exit, &report["verdict"]),
        (0, &json!("intact")),
        "{report}"
    );
    assert_eq!(report["about"]["payloads"], made["entries"]);
    let Some(folder) = unzip(&bundle) else { return };
    let checked = python(folder.path(), &["check.py"]).unwrap().ok();
    let (entries, size) = (&made["entries"], &made["size"]);
    let expected = format!("{entries} entries and {entries} payloads are in the tree of {size} ");
    assert!(checked.stdout.starts_with(&expected), "{checked:?}");
    let signed = python(folder.path(), &["signature.py", &vkey])
        .unwrap()
        .ok();
    assert_eq!(signed.stdout, format!("signed by {vkey}\n"));
}
