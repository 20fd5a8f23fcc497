//! Every way in which a program can misbehave: each is an error about one request, and no deletion is said to have not happened that did.

use serde_json::{Value, json};

use crate::executor::Folder;
use crate::migration::{RUNNER, total};
use crate::world::output;

/// How a program can fail to answer.
const SILENT: [&str; 8] = [
    "end", "garbage", "hang", "order", "long", "half", "shape", "close",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_inventory_that_goes_wrong_leaves_nothing_to_approve() {
    let folder = Folder::start(&[("old-1", "one"), ("new", "two")]).await;
    let item = |item: Value| json!({"item": item}).to_string();
    let good =
        json!({"id": "x", "users": ["u1"], "version": "v", "signals": {"old": true, "big": false}});
    let with = |name: &str, value: Value| {
        let mut changed = good.clone();
        changed[name] = value;
        item(changed)
    };
    let error = json!({"error": {"class": "auth", "status": 403, "reason": "no right for ann@example.com"}});
    let mut cases: Vec<(&str, String, i32, &str)> = vec![
        (
            "inventory",
            "end".to_owned(),
            4,
            "the program ended (exit status: 3) before it answered inventory",
        ),
        (
            "inventory",
            "garbage".to_owned(),
            4,
            "answered inventory with",
        ),
        (
            "inventory",
            "hang".to_owned(),
            4,
            "did not answer inventory within 8000 ms and was killed",
        ),
        (
            "inventory",
            "order".to_owned(),
            4,
            "answered request 1 where inventory, request 2, was asked",
        ),
        (
            "inventory",
            "long".to_owned(),
            4,
            "with a line of more than 8388608 bytes",
        ),
        (
            "inventory",
            "half".to_owned(),
            4,
            "the program ended (exit status: 0) before it answered inventory",
        ),
        (
            "inventory",
            "shape".to_owned(),
            4,
            r#"expected {"id":N,"user":{..}}"#,
        ),
        (
            "inventory",
            "close".to_owned(),
            4,
            "before it answered inventory",
        ),
        (
            "inventory",
            "count".to_owned(),
            1,
            "the program counted 99 items and the program sent 2",
        ),
        ("inventory", error.to_string(), 4, "no right for (address)"),
        (
            "inventory",
            item(good.clone()),
            4,
            "an item without a user that came before it",
        ),
        (
            "inventory",
            with("place", json!("elsewhere")),
            4,
            "an item that is not of the place that came last",
        ),
        (
            "inventory",
            json!({"user": {"id": "u"}}).to_string(),
            4,
            "both or neither of `place` and `unreachable`",
        ),
        (
            "inventory",
            json!({"end": true, "count": 0, "sum": 0}).to_string(),
            4,
            "an object of another shape",
        ),
        (
            "hello",
            json!({"hello": {"protocol": 2}}).to_string(),
            4,
            "the program declares itself in another shape",
        ),
        (
            "hello",
            error.to_string(),
            4,
            "the program refused hello: no right for (address)",
        ),
    ];
    for how in SILENT {
        cases.push(("hello", how.to_owned(), 4, "hello"));
    }
    for (verb, how, exit, expected) in cases {
        folder.fault(&json!([{"verb": verb, "how": how}]));
        let mut command = folder.dry(&folder.exec(""), &[]);
        // Python starts within that; only what hangs is waited for.
        let limit = if how == "hang" { "8000" } else { "60000" };
        let run = output(command.env("LEDGER_REQUEST_LIMIT_MS", limit));
        assert_eq!(run.exit, exit, "{verb} {how}: {run:?}");
        assert!(run.stderr.contains(expected), "{verb} {how}: {run:?}");
        assert!(!run.stderr.contains("hunter2"), "{verb} {how}: {run:?}");
    }
    for (exec, exit, expected) in [
        ("/nowhere/at-all".to_owned(), 4, "no such program"),
        ("cat".to_owned(), 4, "answered hello with"),
        ("true".to_owned(), 4, "before it answered hello"),
        ("'".to_owned(), 2, "a quote is not closed"),
        (" ".to_owned(), 2, "it is empty"),
        (
            folder.exec("money"),
            4,
            "the program declares itself in another shape",
        ),
    ] {
        let run = output(&mut folder.dry(&exec, &[]));
        assert_eq!(run.exit, exit, "{exec}: {run:?}");
        assert!(run.stderr.contains(expected), "{exec}: {run:?}");
    }
    assert_eq!(folder.log(&["plan.sealed"]), Vec::<Value>::new());
    assert_eq!(folder.files().len(), 2);
    folder.assert_no_secret();
    folder.world.assert_intact();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_that_was_not_answered_is_asked_about_and_never_said_to_have_failed() {
    let silent = SILENT
        .iter()
        .flat_map(|how| [(*how).to_owned(), format!("{how}_after")]);
    let said = |error: Value| json!({"error": error}).to_string();
    let mut cases: Vec<(String, String)> = silent.map(|how| (format!("old-{how}"), how)).collect();
    cases.extend([
        ("old-say-unknown".to_owned(), said(json!({"class": "server", "reason": "lost it"}))),
        (
            "old-say-later".to_owned(),
            said(json!({"class": "quota", "effect": "none", "may_pass": true, "retry_after_ms": 5, "reason": "slowly"})),
        ),
        ("old-say-conflict".to_owned(), said(json!({"class": "conflict", "effect": "none", "status": 412, "reason": "new"}))),
        ("old-say-gone".to_owned(), said(json!({"class": "gone", "effect": "none", "reason": "gone"}))),
        ("old-say-no".to_owned(), said(json!({"class": "refused", "effect": "none", "reason": "not this one"}))),
    ]);
    let files: Vec<(&str, &str)> = cases
        .iter()
        .map(|(name, _)| (name.as_str(), name.as_str()))
        .collect();
    let folder = Folder::start(&files).await;
    let plan = folder.approved_plan();
    let faults: Vec<Value> = cases
        .iter()
        .map(|(name, how)| json!({"verb": "delete", "item": name, "how": how}))
        .collect();
    folder.fault(&json!(faults));
    let mut command = folder.live(&plan);
    let run = output(command.env("LEDGER_LEASE_MS", "5000"));
    assert_eq!(run.exit, 1, "{run:?}");
    let attempts = folder.attempts();
    let left = folder.files();
    for (name, how) in &cases {
        let (kept, outcomes) = &attempts[name];
        assert_eq!(kept, name);
        let words: Vec<&str> = outcomes.iter().map(|(word, _)| word.as_str()).collect();
        let (expected, recovered): (&[&[&str]], bool) = match name.as_str() {
            "old-say-conflict" => (&[&["changed"]], false),
            "old-say-no" => (&[&["failed"]], false),
            "old-say-later" => (&[&["failed", "deleted"]], false),
            // It is there, whatever the program said.
            "old-say-gone" | "old-say-unknown" => (&[&["failed", "deleted"]], true),
            // It answers another request after it has done what it was asked.
            "old-order" => (&[&["gone_cause_unknown"]], true),
            _ if how.ends_with("_after") => (&[&["gone_cause_unknown"]], true),
            _ => (&[&["failed", "deleted"]], true),
        };
        assert!(expected.contains(&words.as_slice()), "{name}: {outcomes:?}");
        assert_eq!(outcomes[0].1, recovered, "{name}: {outcomes:?}");
        let there = matches!(name.as_str(), "old-say-conflict" | "old-say-no");
        assert_eq!(left.contains_key(name), there, "{name}");
    }
    folder.assert_no_secret();
    folder.world.assert_intact();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn questions_are_asked_again_where_that_can_help_and_the_item_is_left_where_not() {
    let names = ["old-a1", "old-b", "old-c", "old-d", "old-e", "old-f"];
    let files: Vec<(&str, &str)> = names.iter().map(|name| (*name, *name)).collect();
    let folder = Folder::start(&files).await;
    let plan = folder.approved_plan();
    let denied = json!({"error": {"class": "auth", "status": 403, "stops_user": true, "reason": "no right"}});
    let later =
        json!({"error": {"class": "server", "status": 503, "may_pass": true, "reason": "later"}});
    folder.fault(&json!([
        {"verb": "read", "item": "old-a1", "how": "end"},
        {"verb": "read", "item": "old-b", "how": later.to_string()},
        {"verb": "backup", "item": "old-c", "how": "half"},
        {"verb": "read", "item": "old-d", "how": "garbage"},
        {"verb": "backup", "item": "old-e", "how": denied.to_string()},
        {"verb": "observe", "how": "chatter"},
    ]));
    let mut command = folder.live(&plan);
    let run = output(command.arg("-vv"));
    assert_eq!(run.exit, 1, "{run:?}");
    // What the program says beside its answers is for who debugs it.
    assert!(
        run.stderr.contains("the program says"),
        "{}",
        run.stderr.len()
    );
    let left: Vec<String> = folder.files().into_keys().collect();
    assert_eq!(left, ["old-d", "old-e", "old-f"]);
    let failed = folder.log(&["user.failed"]);
    let decisions: Vec<(&str, &str)> = failed
        .iter()
        .map(|line| {
            (
                line["payload"]["during"].as_str().unwrap(),
                line["payload"]["decision"].as_str().unwrap(),
            )
        })
        .filter(|(during, _)| *during != "dry_run")
        .collect();
    assert_eq!(decisions, [("cleanup", "skipped"), ("cleanup", "stopped")]);
    let report = folder.live_run(&plan).ok().json();
    assert_eq!(total(&report, "deleted"), 6, "{report}");
    folder.assert_no_secret();

    // A place whose program does not start, or whose look before the deletions fails, is not begun.
    std::fs::write(folder.path("files").join("old-g"), "g").unwrap();
    let plan = folder.approved_plan();
    for faults in [
        json!([{"verb": "observe", "how": "count"}]),
        json!([{"verb": "observe", "how": "circle"}]),
        json!([{"verb": "observe", "how": "bytes"}]),
        // The first hello is that of the run, the second that of the place.
        json!([{"verb": "hello", "how": "chatter"}, {"verb": "hello", "how": json!({"hello": {}}).to_string()}]),
    ] {
        folder.fault(&faults);
        let run = folder.live_run(&plan);
        assert_eq!(run.exit, 1, "{run:?}");
        assert!(folder.files().contains_key("old-g"));
    }
    let told = ["--plan", plan.as_str(), "--go-live", "2020-01-01T00:00:00Z"];
    output(&mut folder.cleanup(RUNNER, &folder.exec(""), &told)).ok();
    assert!(folder.files().is_empty());
    folder.world.assert_intact();
}
