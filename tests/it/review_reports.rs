//! What goes out to people: the report of deletions in each form, letters, and the sample for a spot check.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;

use ledger_sim::WorldSpec;
use ledger_sim::supabase::Cell;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::migration::{APPROVER, Migration, Plan, now};
use crate::world::Output;

fn by(migration: &Migration, arguments: &[&str]) -> Output {
    migration
        .world
        .ledger([&["--as", APPROVER], arguments].concat())
}

/// A plan that was executed.
async fn executed() -> (Migration, Plan) {
    let migration = Migration::start(WorldSpec::seeded(3)).await;
    let plan = migration.approved_plan();
    migration.live_run(&plan.hash).ok();
    (migration, plan)
}

/// The records of a CSV text by RFC 4180, each by the names in the first: an own reader, so that ours is not its own judge.
fn records(text: &str) -> Vec<BTreeMap<String, String>> {
    let mut records: Vec<Vec<String>> = vec![Vec::new()];
    let (mut field, mut quoted) = (String::new(), false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => records.last_mut().unwrap().push(std::mem::take(&mut field)),
            '\r' if !quoted => {
                assert_eq!(chars.next(), Some('\n'), "records end in CRLF");
                records.last_mut().unwrap().push(std::mem::take(&mut field));
                records.push(Vec::new());
            }
            c => field.push(c),
        }
    }
    assert_eq!(records.pop(), Some(Vec::new()), "the last record ends too");
    let head = records.remove(0);
    records
        .into_iter()
        .map(|fields| {
            assert_eq!(fields.len(), head.len(), "{fields:?}");
            head.iter().cloned().zip(fields).collect()
        })
        .collect()
}

const COLUMNS: [&str; 11] = [
    "deleted",
    "restored",
    "protected",
    "kept",
    "held",
    "failed",
    "out_of_reach",
    "gone_before",
    "changed_since",
    "lost",
    "unknown",
];

/// How many entries that tell of such users a copy is said to hold; all of them have to be among them.
fn holds_users(migration: &Migration, made: &Value, of: impl Fn(&str) -> bool) -> usize {
    let held = made["first"].as_u64().unwrap()..=made["last"].as_u64().unwrap();
    let users = migration.log(&["user.found"]).into_iter();
    let entries = users.map(|line| {
        let entry: Value = serde_json::from_str(line["bytes"].as_str().unwrap()).unwrap();
        (
            entry["subject"].as_str().unwrap().to_owned(),
            line["seq"].as_u64().unwrap(),
        )
    });
    let told = entries.filter(|(subject, _)| of(subject));
    let seqs: Vec<u64> = told.map(|(_, seq)| seq).collect();
    assert!(seqs.iter().all(|seq| held.contains(seq)), "{made} {seqs:?}");
    seqs.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_adds_up_in_each_form_and_is_itself_recorded() {
    let (migration, plan) = executed().await;
    by(&migration, &["checkpoint"]).ok();
    let file = migration.folder.path().join("report.csv");
    let path = file.to_str().unwrap();
    let written = by(&migration, &["report", "deletions", "--out", path]).ok();
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(
        std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let made = migration.log(&["export.made"]).pop().unwrap()["payload"].clone();
    assert_eq!(
        (&made["what"], &made["selection"]["format"]),
        (&json!("report"), &json!("csv"))
    );
    let sha256 = hex::encode(Sha256::digest(text.as_bytes()));
    assert_eq!(made["sha256"], sha256.as_str());
    assert!(written.stdout.contains(&sha256), "{written:?}");
    assert!(
        made["payloads"].as_u64().unwrap() > 0,
        "an erasure has to recall it"
    );
    assert!(holds_users(&migration, &made, |_| true) > 5, "{made}");
    let again = by(&migration, &["report", "deletions", "--out", path]);
    assert!(
        again.exit == 2 && again.stderr.contains("is not overwritten"),
        "{again:?}"
    );

    let rows = records(&text);
    let of = |row: &'static str| rows.iter().filter(move |found| found["row"] == row);
    let number = |row: &BTreeMap<String, String>, name: &str| row[name].parse::<u64>().unwrap();
    let total = of("total").next().unwrap();
    assert_eq!(of("item").count() as u64, number(total, "found"));
    for column in COLUMNS {
        let users: u64 = of("user").map(|row| number(row, column)).sum();
        let items: u64 = of("item").map(|row| number(row, column)).sum();
        assert_eq!(
            (users, items),
            (number(total, column), number(total, column)),
            "{column}"
        );
    }
    for row in of("user").chain([total]) {
        let sum: u64 = COLUMNS.iter().map(|column| number(row, column)).sum();
        assert_eq!(sum, number(row, "found"), "{row:?}");
    }
    assert_eq!(number(total, "deleted"), plan.deletes.len() as u64);
    let loss = migration.loss()["scopes"]["calendar"]["sum"].clone();
    for (state, column) in [
        ("held", "held"),
        ("protected", "protected"),
        ("gone_before", "gone_before"),
    ] {
        assert_eq!(loss[state], number(total, column), "{state}");
    }
    // Each deletion names its approver, its copy and an entry that is there and covered.
    let log = migration.log(&[]);
    for row in of("item").filter(|row| row["state"] == "deleted") {
        assert_eq!(row["approved_by"], "person:approver");
        let entry = |name: &str| &log[usize::try_from(number(row, name)).unwrap() - 1];
        assert_eq!(
            entry("backup_seq")["payload"]["backup"]["sha256"],
            row["backup_sha256"].as_str()
        );
        assert_eq!(entry("proof_seq")["hash"], row["proof_hash"].as_str());
        assert_eq!(entry("proof_seq")["type"], "item.deleted");
        assert!(number(row, "proof_checkpoint") >= number(row, "proof_seq"));
        let seen = &row["evidence"];
        assert!(
            ["v1_recorded", "case_link"]
                .iter()
                .any(|name| seen.contains(name)),
            "{row:?}"
        );
    }
    let one = of("item").find(|row| row["state"] == "deleted").unwrap();
    by(&migration, &["prove", &one["proof_seq"]]).ok();

    // The same numbers as JSON, and of a plan or a run alone.
    let json = by(&migration, &["report", "deletions", "--format", "json"])
        .ok()
        .json();
    for column in COLUMNS {
        assert_eq!(json["totals"][column], number(total, column), "{column}");
    }
    let seq = usize::try_from(json["as_of"]["seq"].as_u64().unwrap()).unwrap();
    assert_eq!(json["as_of"]["hash"], migration.log(&[])[seq - 1]["hash"]);
    let of_plan = [
        "report",
        "deletions",
        "--format",
        "json",
        "--plan",
        &plan.hash,
    ];
    assert_eq!(
        by(&migration, &of_plan).ok().json()["totals"],
        json["totals"]
    );
    let run = migration.log(&["run.finished"]).pop().unwrap();
    let run = run["entry"]["run"].as_str().unwrap();
    let of_run = by(
        &migration,
        &["report", "deletions", "--format", "json", "--run", run],
    );
    let of_run = of_run.ok().json();
    assert_eq!(of_run["totals"]["found"], plan.deletes.len());
    assert_eq!(of_run["totals"]["deleted"], plan.deletes.len());

    // A page holds every text as text, loads nothing and runs nothing.
    for (format, breaks) in [("html", false), ("print", true)] {
        let page = by(&migration, &["report", "deletions", "--format", format])
            .ok()
            .stdout;
        assert!(page.starts_with("<!DOCTYPE html>"), "{page}");
        assert!(page.contains("default-src 'none'"));
        assert_eq!(page.contains("break-before:page"), breaks);
        for forbidden in ["<script", "src=", "href=", "@import", "url("] {
            assert!(!page.contains(forbidden), "{format}: {forbidden}");
        }
        assert!(page.contains(&one["proof_hash"]) && page.contains(&plan.hash));
        assert!(page.contains(&one["email"]));
    }
    migration.world.assert_intact();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_letter_tells_one_user_what_went_and_how_to_get_it_back() {
    let (migration, plan) = executed().await;
    let review = by(&migration, &["review", "deletions", "--json"])
        .ok()
        .json();
    let items = review["items"].as_array().unwrap();
    let email = |item: &Value| item["users"][0]["email"].as_str().unwrap().to_owned();
    let deleted: Vec<&Value> = items
        .iter()
        .filter(|item| item["state"] == "deleted")
        .collect();
    assert_eq!(deleted.len(), plan.deletes.len());
    let user = email(deleted[0]);
    // Two users may have one address; a letter goes to one of them.
    let subject = deleted[0]["users"][0]["subject"].as_str().unwrap();
    let of_user = |item: &&&Value| {
        let users = item["users"].as_array().unwrap();
        users.iter().any(|found| found["subject"] == subject)
    };
    let gone: Vec<&&Value> = deleted.iter().filter(of_user).collect();

    let letter = [
        "report",
        "letter",
        "--user",
        subject,
        "--contact",
        "Ann <b>of</b> support",
    ];
    let text = by(&migration, &letter).ok().stdout;
    assert!(text.starts_with(&format!("To {user}\n")), "{text}");
    assert!(
        text.contains(&format!("What we removed ({})", gone.len())),
        "{text}"
    );
    for item in &gone {
        let date = item["date"].as_str().unwrap();
        let text_of = |name: &str| item[name].as_str().unwrap();
        let was = &migration.sim.initial_state()[text_of("calendar")][text_of("event_id")];
        let title = was["summary"].as_str().unwrap();
        assert!(
            text.contains(&format!("  - {date}  {title}\n")),
            "{date} {title}: {text}"
        );
    }
    assert!(text.contains("No last day was set") && text.contains("Ask Ann <b>of</b> support"));
    for jargon in [
        "V1_",
        "entry_",
        "sha256",
        "subject",
        "policy",
        "disposition",
        "custody",
    ] {
        assert!(!text.contains(jargon), "{jargon}: {text}");
    }
    // Nobody else's address stands in it.
    let others = items
        .iter()
        .map(email)
        .filter(|other| !other.eq_ignore_ascii_case(&user));
    for other in others {
        assert!(!text.contains(&other), "{other}");
    }
    let keep = [
        "retention",
        "set",
        "calendar-event",
        "--until",
        "2999-01-01",
        "--reason",
        "undo window",
    ];
    by(&migration, &keep).ok();
    let page = by(&migration, &[&letter[..], &["--format", "html"]].concat())
        .ok()
        .stdout;
    assert!(
        page.contains("Until 2999-01-01 everything that we removed can be put back"),
        "{page}"
    );
    assert!(page.contains("Ann &lt;b&gt;of&lt;/b&gt; support"), "{page}");

    // One for each, in files of nobody's address, each recorded as a copy about its user.
    let folder = migration.folder.path().join("letters");
    let all = [
        "report",
        "letter",
        "--all",
        "--json",
        "--contact",
        "Ann of support",
        "--out",
        folder.to_str().unwrap(),
    ];
    let written = by(&migration, &all).ok().json();
    let written = written.as_array().unwrap();
    assert!(written.len() > 5, "{written:?}");
    let (mut uncovered, mut unreached) = (0, 0);
    for letter in written {
        let path = letter["path"].as_str().unwrap();
        assert!(!path.contains('@'), "{path}");
        let text = std::fs::read_to_string(path).unwrap();
        assert_eq!(
            letter["sha256"],
            hex::encode(Sha256::digest(text.as_bytes()))
        );
        uncovered += u64::from(text.contains("Please check ("));
        assert_eq!(
            text.matches("Ask Ann of support, and name").count(),
            1,
            "{text}"
        );
        unreached += u64::from(text.contains("What we could not do"));
        for technical in ["oauth", "attempt", "HTTP", "ENCRYPTION_KEY", "token"] {
            assert!(!text.contains(technical), "{technical}: {text}");
        }
    }
    let expected = items.iter().filter(|item| item["covered"] == false);
    assert!(uncovered > 0 && uncovered <= expected.count() as u64);
    assert!(unreached > 0);
    // Whose calendar cannot be reached is told what v1 had recorded there.
    let out_of_reach = items.iter().find(|item| item["state"] == "out_of_reach");
    let out_of_reach = out_of_reach.unwrap();
    let user = out_of_reach["users"][0]["subject"].as_str().unwrap();
    let text = by(&migration, &["report", "letter", "--user", user])
        .ok()
        .stdout;
    let id = out_of_reach["event_id"].as_str().unwrap();
    assert!(text.contains(&format!(" with the id {id}\n")), "{text}");
    assert!(
        text.starts_with(&format!("To {}\n", email(out_of_reach))),
        "{text}"
    );
    let made = migration.log(&["export.made"]);
    let letters: Vec<_> = made
        .iter()
        .filter(|line| line["payload"]["what"] == "letter")
        .collect();
    assert_eq!(letters.len(), written.len() + 3);
    assert!(
        letters
            .iter()
            .all(|line| !line["bytes"].as_str().unwrap().contains('@'))
    );
    // A user's address stands in the letter, whether or not anything was found of them.
    for line in letters {
        let user = line["payload"]["selection"]["user"].as_str().unwrap();
        assert!(user.starts_with("user:"), "{line}");
        assert_eq!(
            holds_users(&migration, &line["payload"], |of| of == user),
            1
        );
    }
    for (arguments, exit) in [
        (&["report", "letter", "--user", "nobody@example.com"][..], 1),
        (&["report", "letter"], 2),
        (&["report", "letter", "--all"], 2),
    ] {
        assert_eq!(by(&migration, arguments).exit, exit, "{arguments:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sample_is_picked_as_anybody_can_pick_it() {
    let (migration, plan) = executed().await;
    let sample = |arguments: &[&str]| {
        let all = [
            &[
                "review",
                "sample",
                "--seed",
                "audit 7",
                "--json",
                "--log-only",
            ],
            arguments,
        ]
        .concat();
        by(&migration, &all).ok().json()
    };
    let answer = sample(&["--users", "3"]);
    let picked = answer["picked"].as_array().unwrap();
    assert_eq!(picked.len(), 3);
    // As its documentation says, by other means.
    let mut ranked: Vec<(String, String)> = answer["candidates"]
        .as_array()
        .unwrap()
        .iter()
        .map(|subject| {
            let subject = subject.as_str().unwrap().to_owned();
            let input = format!("ledger-sample-v1\0audit 7\0{subject}");
            (hex::encode(Sha256::digest(input)), subject)
        })
        .collect();
    ranked.sort();
    for (picked, (rank, subject)) in picked.iter().zip(&ranked) {
        assert_eq!(picked["rank"], rank.as_str());
        assert_eq!(picked["user"]["subject"], subject.as_str());
        assert!(picked["states"]["deleted"].as_u64().unwrap() > 0);
    }
    assert_eq!(sample(&["--users", "3"])["picked"], answer["picked"]);
    assert_eq!(sample(&["--plan", &plan.hash])["picked"], answer["picked"]);
    let other = ["review", "sample", "--seed", "b", "--json", "--log-only"];
    let other = by(&migration, &other).ok().json();
    assert_ne!(other["picked"], answer["picked"]);
    assert_eq!(
        sample(&["--users", "9999"])["picked"]
            .as_array()
            .unwrap()
            .len(),
        ranked.len()
    );
    let log_only = ["review", "sample", "--seed", "audit 7", "--log-only"];
    let text = by(&migration, &log_only).ok().stdout;
    assert!(text.contains(ranked[0].1.as_str()), "{text}");

    // They are read again unless that is left out, and it is said what is missing for it.
    let without = by(&migration, &log_only[..4]);
    assert_eq!(without.exit, 2, "{without:?}");
    for said in ["SUPABASE_URL", "--log-only", "--credentials"] {
        assert!(without.stderr.contains(said), "{said}: {without:?}");
    }
    // Each is as the log says, by reads alone, until one is put back behind the log's back.
    let look = |json: bool| {
        let arguments = ["review", "sample", "--seed", "audit 7"];
        let mut command = migration.world.command(arguments);
        command
            .envs(migration.sim.env())
            .args(json.then_some("--json"));
        crate::world::output(&mut command)
    };
    let writes = migration.sim.calendar_writes().len();
    let seen = look(true).ok().json();
    let mut looks = Vec::new();
    for picked in seen["picked"].as_array().unwrap() {
        looks.extend(picked["looks"].as_array().unwrap());
    }
    for word in ["gone", "there"] {
        assert!(looks.iter().any(|look| look["seen"] == word), "{seen}");
    }
    for look in looks {
        let expected = &look["expected"];
        assert!(expected.is_null() || *expected == look["seen"], "{look}");
    }
    assert_eq!(migration.sim.calendar_writes().len(), writes);
    let items = seen["picked"][0]["items"].as_array().unwrap();
    // What is not ours may go, and that is told.
    let theirs = items.iter().find(|item| item["state"] == "protected");
    let text = |name: &str| theirs.unwrap()[name].as_str().unwrap();
    assert!(
        migration
            .sim
            .delete_event(text("calendar"), text("event_id"))
    );
    let theirs = look(false).ok().stdout;
    assert!(
        theirs.contains("now gone, and not by this ledger"),
        "{theirs}"
    );
    let one = items.iter().find(|item| item["state"] == "deleted");
    let text = |name: &str| one.unwrap()[name].as_str().unwrap();
    let back = json!({"status": "confirmed"});
    assert!(
        migration
            .sim
            .edit_event(text("calendar"), text("event_id"), &back)
    );
    let other = look(false);
    assert_eq!(other.exit, 1, "{other:?}");
    assert!(
        other.stdout.contains("now there, NOT AS THE LOG SAYS"),
        "{other:?}"
    );
}

/// What a spreadsheet would run, and what a browser would.
const HOSTILE_EMAIL: &str = "=cmd|'/C calc'!A0<script>alert(1)</script>@example.com";
const HOSTILE_ID: &str = "+1<img src=x onerror=alert(1)>";

/// A world in which v1 holds such texts of every user, and of one item.
fn hostile() -> ledger_sim::World {
    let spec = WorldSpec {
        plain_users: true,
        ..WorldSpec::seeded(92).users(4).events_per_user(8)
    };
    let mut made = spec.as_of(now()).generate();
    let users = made.database.table_mut("perm_users").unwrap();
    let email = users.position("email").unwrap();
    for (n, row) in users.rows_mut().enumerate() {
        row[email] = Cell::Text(HOSTILE_EMAIL.replace("A0", &format!("A{n}")));
    }
    let cases = made.database.table_mut("cases").unwrap();
    let ids = cases.position("calendar_event_ids").unwrap();
    for row in cases.rows_mut() {
        if let Cell::Json(Value::Object(recorded)) = &mut row[ids]
            && !recorded.is_empty()
        {
            recorded.insert("job_order_end".to_owned(), json!(HOSTILE_ID));
            break;
        }
    }
    made
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_holds_whatever_follows_and_keeps_hostile_texts_as_texts() {
    let migration = Migration::of(hostile()).await;
    let (plan, run) = migration.cleaned_up();
    let (calendar, event) = plan
        .deletes
        .iter()
        .find(|key| {
            let was = &migration.sim.initial_state()[&key.0][&key.1];
            was["description"]
                .as_str()
                .is_some_and(|text| text.contains("Case: "))
        })
        .unwrap();
    let table = || {
        let text = by(&migration, &["report", "deletions"]).ok().stdout;
        records(&text)
    };
    let deleted = || {
        let mut rows = table();
        rows.retain(|row| row["state"] == "deleted");
        rows
    };
    let answers = || {
        let explained = by(&migration, &["review", "explain", event, "--json"]).ok();
        let explained = explained.json();
        let user = explained["users"][0]["subject"].as_str().unwrap();
        let letter = by(&migration, &["report", "letter", "--user", user]);
        let letter = letter.ok().stdout;
        let (letter, _) = letter.rsplit_once("As things stood").unwrap();
        let signals = explained["signals"].clone();
        (explained["answer"].clone(), signals, letter.to_owned())
    };
    let before = (deleted(), answers());
    assert_eq!(before.0.len(), plan.deletes.len());
    // v1 still records what is gone, so another dry run finds it gone: that says nothing new of it.
    migration.dry_run();
    assert_eq!((deleted(), answers()), before);

    // One comes back, and v1 writes another.
    let back = ["--event", event, "--reason", "case 17"];
    migration.restore(&back).ok();
    let mut late = migration.sim.initial_state()[calendar][event].clone();
    let fields = late.as_object_mut().unwrap();
    fields.retain(|name, _| {
        !["id", "etag", "created", "updated", "iCalUID"].contains(&name.as_str())
    });
    assert!(migration.sim.add_event(calendar, "writtenlate1", &late));
    let seen = crate::world::output(&mut migration.observe_command(&run, APPROVER));
    assert_eq!(seen.exit, 1, "{}", seen.stderr);
    let rows = table();
    let of = |name: &str, is: &str| {
        let rows = rows.iter().filter(|row| row["row"] == "item");
        rows.filter(|row| row[name] == is).collect::<Vec<_>>()
    };
    let total = rows.iter().find(|row| row["row"] == "total").unwrap();
    assert_eq!(
        (total["restored"].as_str(), total["lost"].as_str()),
        ("1", "1")
    );
    let restored = of("state", "restored").remove(0);
    assert_eq!(
        (restored["outcome"].as_str(), restored["undo"].as_str()),
        ("deleted", "restored")
    );
    assert_eq!(restored["restored_item"], *event);
    assert_eq!(restored["restored_way"], "uncancel");
    assert_eq!(of("state", "late_write")[0]["item"], "writtenlate1");
    assert_eq!(of("item", &format!("'{HOSTILE_ID}")).len(), 1);
    for row in rows.iter().filter(|row| row["row"] == "user") {
        assert!(row["email"].starts_with("'=cmd|"), "{row:?}");
    }
    for row in &rows {
        let starts = ['=', '+', '-', '@'];
        assert!(
            row.values().all(|field| !field.starts_with(starts)),
            "{row:?}"
        );
    }
    for format in ["html", "pdf-ready-html"] {
        let page = by(&migration, &["report", "deletions", "--format", format]);
        let page = page.ok().stdout;
        for never in ["<script", "<img"] {
            assert!(!page.contains(never), "{never}");
        }
        assert!(page.contains("&lt;script&gt;alert(1)") && page.contains("+1&lt;img src=x"));
    }
    let letters = migration.folder.path().join("letters");
    let all = ["report", "letter", "--all", "--format", "html", "--out"];
    by(
        &migration,
        &[&all[..], &[letters.to_str().unwrap()]].concat(),
    )
    .ok();
    for letter in std::fs::read_dir(letters).unwrap() {
        let text = std::fs::read_to_string(letter.unwrap().path()).unwrap();
        assert!(!text.contains("<script") && text.contains("&lt;script&gt;"));
    }
    // The new id names the item too, and what was done to put it back is told.
    let text = by(&migration, &["review", "explain", event]).ok().stdout;
    for said in [
        "It was deleted and put back.",
        "What was done to put it back",
        "by uncancel",
        "is as in the copy",
    ] {
        assert!(text.contains(said), "{said}: {text}");
    }
    migration.world.assert_intact();
}
