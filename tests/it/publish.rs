//! Checkpoints outside: in a folder, a git work tree, another PostgreSQL and a bucket; and what each place refuses.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::server::execute;
use crate::tamper::dump_into;
use crate::world::{World, line, output, temporary};

fn append(world: &World) {
    world.append(&[line("test.happened", "service:api", &json!({}))]);
}

fn types(world: &World, ledger: &str) -> Vec<String> {
    let log = world
        .ledger(["log", "--json", "--ledger", ledger])
        .ok()
        .lines();
    log.iter()
        .map(|line| line["type"].as_str().unwrap().to_owned())
        .collect()
}

fn one_folder(place: &Path) -> std::path::PathBuf {
    let folders = std::fs::read_dir(place).unwrap();
    let mut folders: Vec<_> = folders
        .map(|entry| entry.unwrap().path())
        .filter(|path| !path.ends_with(".git"))
        .collect();
    assert_eq!(folders.len(), 1);
    folders.remove(0)
}

#[tokio::test]
async fn a_folder_holds_the_last_checkpoint_and_each_one() {
    let world = World::start().await;
    let place = temporary("published");
    let target = format!("folder:{}", place.path().display());
    append(&world);
    let publish = ["checkpoint", "--json", "--publish", &target];
    let first = world.ledger(publish).ok().json();
    assert_eq!(first["published"], json!([target]));
    assert_eq!(
        types(&world, "test").last().unwrap(),
        "checkpoint.published"
    );
    assert_eq!(
        types(&world, "catalogue").last().unwrap(),
        "checkpoint.listed"
    );
    let report = world.assert_intact();
    assert_eq!(
        report["warnings"],
        json!([]),
        "a publication needs no checkpoint of its own"
    );
    let sizes = (&report["checkpoint"], &report["published"]);
    assert_eq!(sizes, (&json!(2), &json!(2)));
    // The same again is the same: nothing was appended, and nothing is recorded twice.
    let again = world.ledger(publish).ok().json();
    assert_eq!(
        (&again["new"], &again["note"]),
        (&json!(false), &first["note"])
    );
    assert_eq!(types(&world, "test").len(), 3);

    append(&world);
    let signed = world.ledger(["checkpoint"]).ok().stdout;
    let warned = world.assert_intact()["warnings"].to_string();
    assert!(
        warned.contains("the last published checkpoint is of size 2"),
        "{warned}"
    );
    world.ledger(publish).ok();
    let folder = one_folder(place.path());
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    assert_eq!(read("checkpoint"), signed);
    assert_eq!(json!(read("checkpoints/2")), first["note"]);
    assert_eq!(read("checkpoints/4"), signed);

    // A ledger that was put back is refused by the place, also where its signer's record is gone.
    let back = World::empty().await;
    dump_into(&world, &back, &[]);
    append(&world);
    world.ledger(publish).ok();
    let record = std::fs::read_dir(world.home().join("checkpoint-keys")).unwrap();
    for file in record.map(|file| file.unwrap().path()) {
        if file.extension().is_some_and(|ending| ending == "last") {
            std::fs::remove_file(file).unwrap();
        }
    }
    let refused = output(world.command(publish).env("DATABASE_URL", back.url()));
    assert_eq!(refused.exit, 1, "{refused:?}");
    assert!(
        refused.stderr.contains("holds a checkpoint of"),
        "{refused:?}"
    );
    std::fs::write(folder.join("checkpoint"), "something else\n").unwrap();
    append(&world);
    let refused = world.ledger(publish);
    assert_eq!(refused.exit, 1, "{refused:?}");
}

#[tokio::test]
async fn a_published_checkpoint_that_is_gone_is_missed() {
    let world = World::start().await;
    let place = temporary("published");
    let target = format!("folder:{}", place.path().display());
    append(&world);
    world.ledger(["checkpoint", "--publish", &target]).ok();
    let gone = "begin; alter table ledger.checkpoints disable trigger user; delete from ledger.checkpoints; \
        alter table ledger.checkpoints enable always trigger refuse_change; \
        alter table ledger.checkpoints enable always trigger refuse_truncate; commit";
    execute(&mut world.superuser().await, gone).await;
    let (exit, report) = world.verify(&[]);
    assert_eq!(exit, 1, "{report}");
    assert_eq!(report["broken"][0]["seq"], 2);
    let how = report["broken"][0]["how"].as_str().unwrap();
    assert!(how.contains("is gone, and entry 3 tells of it"), "{how}");
    let missed = report["catalogue"][0].as_str().unwrap();
    assert!(
        missed.contains("the published checkpoint of 2 entries"),
        "{missed}"
    );
}

#[tokio::test]
async fn a_git_work_tree_gets_a_commit_each() {
    let world = World::start().await;
    let place = temporary("work-tree");
    let git = |arguments: &[&str]| {
        let ran = Command::new("git")
            .arg("-C")
            .arg(place.path())
            .args(arguments)
            .output()
            .unwrap();
        String::from_utf8(ran.stdout).unwrap()
    };
    let target = format!("git:{}", place.path().display());
    let publish = ["checkpoint", "--publish", &target];
    let refused = world.ledger(publish);
    assert_eq!(refused.exit, 4, "no work tree: {refused:?}");
    git(&["init", "--quiet"]);
    world.ledger(publish).ok();
    append(&world);
    world.ledger(publish).ok();
    world.ledger(publish).ok();
    let log = git(&["log", "--format=%s"]);
    assert_eq!(log.lines().count(), 2, "{log}");
    assert!(
        log.lines()
            .all(|subject| subject.contains(": checkpoint of ")),
        "{log}"
    );
    assert_eq!(git(&["status", "--porcelain"]), "");
}

#[tokio::test]
async fn another_postgresql_gets_a_row_each() {
    let world = World::start().await;
    let other = World::empty().await;
    let target = other.server().superuser_url(other.database());
    let publish = ["checkpoint", "--json", "--publish", &target];
    let first = world.ledger(publish).ok().json();
    append(&world);
    world.ledger(publish).ok();
    let sql = "select note from ledger_published_checkpoints order by size";
    let notes: Vec<String> = sqlx::query_scalar(sql)
        .fetch_all(&mut other.superuser().await)
        .await
        .unwrap();
    assert_eq!((notes.len(), json!(notes[0])), (2, first["note"].clone()));
    let log = world
        .ledger(["log", "--json", "--type", "checkpoint.published"])
        .ok()
        .lines();
    for line in log {
        let recorded = line["payload"]["target"].as_str().unwrap();
        assert!(
            recorded.starts_with("postgresql://") && !recorded.contains('@'),
            "{recorded}"
        );
        assert!(recorded.ends_with(other.database()), "{recorded}");
    }
    let edited =
        "update ledger_published_checkpoints set note = replace(note, E'\\n3\\n', E'\\n2\\n')";
    execute(&mut other.superuser().await, edited).await;
    append(&world);
    assert_eq!(world.ledger(publish).exit, 1);
}

/// What a bucket holds, by the path of its address.
pub(crate) type Objects = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

/// A bucket that keeps what it is given, honours `If-None-Match: *`, and takes signed addresses only.
pub(crate) fn bucket(objects: Objects) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut head = Vec::new();
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).unwrap() < 3 {
                    break;
                }
                head.push(line.trim_end().to_owned());
            }
            let Some(request) = head.first().cloned() else {
                continue;
            };
            let header = |name: &str| {
                let mut lines = head.iter().filter_map(|line| line.split_once(": "));
                lines
                    .find(|(found, _)| found.eq_ignore_ascii_case(name))
                    .map(|(_, value)| value.to_owned())
            };
            let length = header("content-length").map_or(0, |text| text.parse().unwrap());
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            let mut words = request.split(' ');
            let (method, address) = (words.next().unwrap(), words.next().unwrap());
            let (path, signature) = address.split_once('?').unwrap_or((address, ""));
            let mut objects = objects.lock().unwrap();
            let found = objects.get(path).cloned();
            let (status, answer) = if !signature.contains("X-Amz-Signature=") {
                (403, Vec::new())
            } else if method == "GET" {
                found.map_or((404, Vec::new()), |found| (200, found))
            } else if header("if-none-match").is_some() && found.is_some() {
                (412, Vec::new())
            } else {
                objects.insert(path.to_owned(), body);
                (200, Vec::new())
            };
            write!(
                stream,
                "HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                answer.len()
            )
            .unwrap();
            stream.write_all(&answer).unwrap();
        }
    });
    port
}

#[tokio::test]
async fn a_bucket_gets_an_object_each() {
    let world = World::start().await;
    let objects = Objects::default();
    let endpoint = format!("http://127.0.0.1:{}", bucket(Arc::clone(&objects)));
    let publish = |variables: bool| {
        let mut command = world.command(["checkpoint", "--json", "--publish", "s3://proofs/ours"]);
        if variables {
            command
                .env("AWS_ENDPOINT_URL", &endpoint)
                .env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
                .env("AWS_SECRET_ACCESS_KEY", "a-secret");
        }
        output(&mut command)
    };
    let refused = publish(false);
    assert_eq!(refused.exit, 2, "{refused:?}");
    let first = publish(true).ok().json();
    append(&world);
    publish(true).ok();
    publish(true).ok();
    let names: Vec<String> = objects.lock().unwrap().keys().cloned().collect();
    assert_eq!(names.len(), 3, "{names:?}");
    assert!(
        names.iter().all(|name| name.starts_with("/proofs/ours/")),
        "{names:?}"
    );
    let each = names
        .iter()
        .find(|name| name.ends_with("/checkpoints/1"))
        .unwrap();
    let stored = objects.lock().unwrap()[each].clone();
    assert_eq!(json!(String::from_utf8(stored).unwrap()), first["note"]);
    let published = world
        .ledger(["log", "--json", "--type", "checkpoint.published"])
        .ok()
        .lines();
    let targets: Vec<&Value> = published
        .iter()
        .map(|line| &line["payload"]["target"])
        .collect();
    assert_eq!(targets, ["s3://proofs/ours"; 2]);
}
