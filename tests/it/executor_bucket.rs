//! The example of the documents, `docs/examples/empty_bucket.py`, against an S3 server: no line of Rust knows what a bucket is.
//!
//! The server is moto's. Where Python has no moto or boto3 these tests say so and try nothing; `.ci/run` installs both.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cleanup_worker::clients::retry::{RetryPolicy, SystemTiming};
use cleanup_worker::executors::command::{CommandExecutor, CommandTold, Program};
use cleanup_worker::executors::{Found, Places as _, PlannedUser, PutBack};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::migration::{APPROVER, MAKER, RUNNER, Running, total};
use crate::tidy::top;
use crate::world::{World, output, temporary};

/// Serves S3 on a port of its own and, on each line of its input, answers what it is asked.
const SERVER: &str = r#"
import json, os, sys
import boto3, logging
from moto.server import ThreadedMotoServer
logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
url = "http://127.0.0.1:%d" % server.get_host_and_port()[1]
s3 = boto3.client("s3", endpoint_url=url, aws_access_key_id="id", aws_secret_access_key="key", region_name="us-east-1")
print(url, flush=True)
def state(bucket):
    found = {}
    for one in s3.list_objects_v2(Bucket=bucket).get("Contents", []):
        try:
            got = s3.get_object(Bucket=bucket, Key=one["Key"])
        except s3.exceptions.NoSuchKey:
            continue  # deleted since it was listed, by the run that is looked at
        found[one["Key"]] = [got["Body"].read().decode(), got["ContentType"], got["Metadata"]]
    return found
for line in sys.stdin:
    asked = json.loads(line)
    if asked["what"] == "make":
        s3.create_bucket(Bucket=asked["bucket"])
        if asked["versioned"]:
            s3.put_bucket_versioning(Bucket=asked["bucket"], VersioningConfiguration={"Status": "Enabled"})
        answer = True
    elif asked["what"] == "put":
        put = s3.put_object(Bucket=asked["bucket"], Key=asked["key"], Body=asked["text"].encode(),
                            ContentType="text/plain", Metadata={"case": "a"})
        answer = put.get("VersionId")
    elif asked["what"] == "delete":
        s3.delete_object(Bucket=asked["bucket"], Key=asked["key"])
        answer = True
    else:
        answer = state(asked["bucket"])
    print(json.dumps(answer), flush=True)
"#;

struct S3 {
    child: Child,
    answers: BufReader<std::process::ChildStdout>,
    url: String,
}

impl S3 {
    /// The server, or none where Python lacks what it needs.
    fn start() -> Option<Self> {
        let packages = Command::new("python3")
            .args(["-c", "import boto3, moto.server"])
            .stderr(Stdio::null())
            .status();
        if !packages.is_ok_and(|status| status.success()) {
            assert!(
                std::env::var_os("LEDGER_TEST_S3").is_none(),
                "LEDGER_TEST_S3 is set, and python3 has no moto or boto3"
            );
            // Not by `println!`, which a test that passes does not show.
            let said = writeln!(
                std::io::stderr(),
                "not run: python3 has no moto or boto3 (pip install 'moto[s3,server]' boto3)"
            );
            drop(said);
            return None;
        }
        let mut child = Command::new("python3")
            .args(["-c", SERVER])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut answers = BufReader::new(child.stdout.take().unwrap());
        let mut url = String::new();
        while !url.starts_with("http") {
            url.clear();
            assert!(answers.read_line(&mut url).unwrap() > 0, "the server ended");
        }
        let url = url.trim().to_owned();
        Some(Self {
            child,
            answers,
            url,
        })
    }

    fn ask(&mut self, question: &Value) -> Value {
        writeln!(self.child.stdin.as_mut().unwrap(), "{question}").unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    fn put(&mut self, bucket: &str, key: &str, text: &str) -> Value {
        self.ask(&json!({"what": "put", "bucket": bucket, "key": key, "text": text}))
    }

    fn state(&mut self, bucket: &str) -> BTreeMap<String, Value> {
        serde_json::from_value(self.ask(&json!({"what": "state", "bucket": bucket}))).unwrap()
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

struct Bucket {
    world: World,
    s3: S3,
    folder: TempDir,
    name: &'static str,
}

impl Bucket {
    async fn start(name: &'static str, versioned: bool) -> Option<Self> {
        let mut s3 = S3::start()?;
        s3.ask(&json!({"what": "make", "bucket": name, "versioned": versioned}));
        for key in ["a", "b/ü", "c", "d", "marked"] {
            s3.put(name, key, key);
        }
        s3.put(name, "c", "again");
        s3.ask(&json!({"what": "delete", "bucket": name, "key": "marked"}));
        let persons = [MAKER, APPROVER, RUNNER].map(|name| ["--person", name]);
        let world = World::with_ledger(&[&["test"], persons.concat().as_slice()].concat()).await;
        let folder = temporary("bucket");
        let policy =
            std::fs::read_to_string(top().join("docs/examples/empty_bucket.toml")).unwrap();
        // What the test has just written counts as old.
        let policy = policy.replace("recent_hours = 24", "recent_hours = 0");
        std::fs::write(folder.path().join("policy.toml"), policy).unwrap();
        Some(Self {
            world,
            s3,
            folder,
            name,
        })
    }

    fn cleanup(&self, person: &str, arguments: &[&str]) -> Command {
        let script = top().join("docs/examples/empty_bucket.py");
        let exec = format!("python3 '{}' {}", script.display(), self.name);
        let mut command = self.world.command(["cleanup", "command", "--json"]);
        command
            .args(["--as", person, "--exec", &exec, "--log-dir"])
            .arg(self.folder.path().join("logs"))
            .args(arguments)
            .env("AWS_ENDPOINT_URL", &self.s3.url)
            .env("AWS_ACCESS_KEY_ID", "id")
            .env("AWS_SECRET_ACCESS_KEY", "key")
            .env("AWS_DEFAULT_REGION", "us-east-1")
            .stdin(Stdio::null());
        command
    }

    #[track_caller]
    fn dry_run(&self) -> Value {
        let mut command = self.cleanup(MAKER, &["--dry-run", "--policy"]);
        output(command.arg(self.folder.path().join("policy.toml")))
            .ok()
            .json()
    }

    fn live(&self, plan: &str) -> Command {
        self.cleanup(RUNNER, &["--plan", plan, "--override", "a test"])
    }

    fn log(&self, event: &str) -> Vec<Value> {
        self.world
            .ledger(["log", "--json", "--type", event])
            .ok()
            .lines()
    }
}

fn classes(report: &Value) -> Vec<(&str, &str, &str)> {
    let items = report["items"].as_array().unwrap().iter();
    items
        .map(|item| {
            let text = |name: &str| item[name].as_str().unwrap();
            (text("item"), text("class"), text("disposition"))
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_is_emptied_of_exactly_what_was_approved() {
    let Some(mut bucket) = Bucket::start("old-files", true).await else {
        return;
    };
    let before = bucket.s3.state("old-files");
    let report = bucket.dry_run();
    assert_eq!(
        classes(&report),
        [
            ("a", "LEFT", "delete"),
            ("b/ü", "LEFT", "delete"),
            ("c", "HISTORY", "hold"),
            ("d", "LEFT", "delete"),
            ("marked", "MARKER", "hold"),
        ]
    );
    assert_eq!(bucket.s3.state("old-files"), before);
    let plan = report["plan"].as_str().unwrap().to_owned();
    assert_eq!(
        output(&mut bucket.live(&plan)).exit,
        1,
        "nobody approved it"
    );
    bucket
        .world
        .ledger(["approve", &plan, "--as", APPROVER])
        .ok();
    // Somebody writes to one of them between approval and run.
    bucket.s3.put("old-files", "d", "written since");
    let run = output(&mut bucket.live(&plan));
    assert_eq!(run.exit, 1, "{run:?}");
    let report = run.json();
    let sums = ["deleted", "held", "unexplained"].map(|name| total(&report, name));
    assert_eq!(sums, [2, 1, 0], "{report}");
    let after = bucket.s3.state("old-files");
    let left: Vec<&str> = after.keys().map(String::as_str).collect();
    assert_eq!(left, ["c", "d"]);
    assert_eq!(after["d"][0], "written since");
    // The backups hold the objects whole.
    for intent in bucket.log("item.delete_intended") {
        use base64::Engine as _;
        let payload = &intent["payload"];
        let kept = payload["backup"]["base64"].as_str().unwrap();
        let kept = base64::engine::general_purpose::STANDARD
            .decode(kept)
            .unwrap();
        let kept: Value = serde_json::from_slice(&kept).unwrap();
        let object = &before[payload["item"].as_str().unwrap()];
        assert_eq!(
            (&kept["ContentType"], &kept["Metadata"]),
            (&object[1], &object[2])
        );
    }
    bucket.world.assert_intact();
    accounted_for(&bucket);
}

/// The answers over the log know objects as they know events.
#[track_caller]
fn accounted_for(bucket: &Bucket) {
    let loss = bucket
        .world
        .ledger(["loss", "--json", "--scope", "files"])
        .ok();
    let loss = loss.json();
    assert_eq!(loss["verdict"], "none", "{loss:#}");
    let sum = &loss["scopes"]["files"]["sum"];
    assert_eq!((&sum["deleted"], &sum["held"]), (&json!(2), &json!(3)));
    let review = bucket.world.ledger(["review", "deletions"]);
    insta::with_settings!({filters => texts()}, {
        insta::assert_snapshot!("bucket_review", review.stdout);
    });
    let explained = bucket.world.ledger(["review", "explain", "c"]);
    insta::with_settings!({filters => texts()}, {
        insta::assert_snapshot!("bucket_explain", explained.ok().stdout);
    });
}

/// What differs from run to run.
fn texts() -> Vec<(&'static str, &'static str)> {
    vec![
        (
            r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
            "UUID",
        ),
        (r"\b[0-9a-f]{64}\b", "DIGEST"),
        (r"\b[0-9a-f]{16}\b", "DIGEST"),
        (r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME"),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_run_over_a_bucket_goes_on_and_knows_what_it_did() {
    let Some(mut bucket) = Bucket::start("killed", true).await else {
        return;
    };
    let report = bucket.dry_run();
    let plan = report["plan"].as_str().unwrap().to_owned();
    bucket
        .world
        .ledger(["approve", &plan, "--as", APPROVER])
        .ok();
    let running = Running::start(&mut bucket.live(&plan));
    // Somewhere between the first deletion and the last outcome.
    while bucket.s3.state("killed").contains_key("a") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    running.kill();
    let report = output(&mut bucket.live(&plan)).ok().json();
    assert_eq!(total(&report, "deleted"), 3, "{report}");
    let left: Vec<String> = bucket.s3.state("killed").into_keys().collect();
    assert_eq!(left, ["c"]);
    let intents = bucket.log("item.delete_intended").len();
    let outcomes = bucket.log("item.deleted").len() + bucket.log("item.delete_failed").len();
    assert_eq!(intents, outcomes);
    assert_eq!(bucket.log("item.deleted").len(), 3);
    bucket.world.assert_intact();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_without_versions_has_no_precondition_and_is_held() {
    let Some(bucket) = Bucket::start("plain", false).await else {
        return;
    };
    let report = bucket.dry_run();
    let dispositions = &report["totals"]["dispositions"];
    assert_eq!(dispositions, &json!({"hold": 4}), "{report}");
    let reason = report["items"][0]["reason"].as_str().unwrap();
    assert!(
        reason.contains("only at the version that was reviewed"),
        "{reason}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_that_was_deleted_is_put_back_whole() {
    let Some(mut bucket) = Bucket::start("undone", true).await else {
        return;
    };
    let before = bucket.s3.state("undone");
    let script = top().join("docs/examples/empty_bucket.py");
    let exec = format!(
        "env AWS_ENDPOINT_URL={} AWS_ACCESS_KEY_ID=id AWS_SECRET_ACCESS_KEY=key AWS_DEFAULT_REGION=us-east-1 python3 '{}' undone",
        bucket.s3.url,
        script.display()
    );
    let limit = Duration::from_mins(1);
    let told = CommandTold {
        program: Program::parse("--exec", &exec, limit).unwrap(),
        count: None,
        retry: RetryPolicy::default(),
        timing: SystemTiming::start(),
        go_live: None,
    };
    let executor = CommandExecutor::for_live_run(told).await.unwrap();
    let users = [PlannedUser {
        id: Some("undone".to_owned()),
        credential: None,
    }];
    let place = executor.open("undone", &users).await.unwrap();
    let Found::There {
        version: Some(version),
        ..
    } = place.read("b/ü").await.unwrap()
    else {
        panic!("it is there")
    };
    let backup = place.backup("b/ü", &version).await.unwrap().unwrap();
    place.delete("b/ü", &version, limit).await.unwrap();
    assert!(!bucket.s3.state("undone").contains_key("b/ü"));
    let put = PutBack {
        way: "restore",
        item: "b/ü",
        becomes: "b/ü",
        version: None,
        backup: &backup,
    };
    place.restore(&put, limit).await.unwrap();
    assert_eq!(bucket.s3.state("undone"), before);
    // Nothing is overwritten.
    bucket.s3.put("undone", "b/ü", "newer");
    let refused = place.restore(&put, limit).await;
    assert_eq!(refused.unwrap_err().status, Some(412));
    assert_eq!(bucket.s3.state("undone")["b/ü"][0], "newer");
}
