//! What a person or a script gets from the command line: texts, exit statuses, hints.

use std::process::Stdio;

use serde_json::json;

use crate::world::{World, binary, line, output, output_of, temporary};

#[tokio::test]
async fn help_is_written_down() {
    let home = temporary("home");
    for name in ["", "init", "append", "log", "show", "verify", "completions"] {
        let mut command = binary(home.path());
        command.args(name.split_whitespace()).arg("--help");
        let help = output(&mut command).ok();
        assert_eq!(help.stderr, "");
        let file = if name.is_empty() {
            "help".to_owned()
        } else {
            format!("help_{name}")
        };
        insta::assert_snapshot!(file, help.stdout);
    }
}

#[tokio::test]
async fn a_ledger_is_made_used_and_read() {
    let world = World::bare().await;
    ledger_snapshot!(world.ledger(["init", "demo", "--person", "ann"]), @r"
    exit: 0
    ----- stdout -----
    made ledger demo ([UUID])
    head: 2:[HASH]
    checkpoint key: demo/[UUID]+[KEY]
    ----- stderr -----
    ");
    let entry = line(
        "service.scaled_down",
        "service:api",
        &json!({"replicas": 0}),
    );
    ledger_snapshot!(world.ledger_in(["append"], &format!("{entry}\n")), @r"
    exit: 0
    ----- stdout -----
    3  [HASH]
    ----- stderr -----
    ");
    ledger_snapshot!(world.ledger(["log"]), @r"
    exit: 0
    ----- stdout -----
          1  [TIME]  ledger.created           ledger:[UUID]          person:tester
          2  [TIME]  person.added             person:[UUID]          person:tester
          3  [TIME]  service.scaled_down      service:[UUID]         person:tester
    ----- stderr -----
    ");
    ledger_snapshot!(world.ledger(["show", "3"]), @r#"
    exit: 0
    ----- stdout -----
    seq          3
    hash         [HASH]
    prev         [HASH]
    type         service.scaled_down (schema 1)
    subject      service:[UUID]
    actor        person:tester
    occurred     [TIME]
    recorded     [TIME]
    key          [UUID]
    run          -
    cause        -
    natural id   api
    payload      {
      "replicas": 0
    }
    ----- stderr -----
    "#);
    ledger_snapshot!(world.ledger(["show", "4"]), @r"
    exit: 1
    ----- stdout -----
    ----- stderr -----
    error: there is no entry 4: the ledger has 3
    ");
    ledger_snapshot!(world.ledger(["verify"]), @r"
    exit: 0
    ----- stdout -----
    intact: 3 entries
    head: 3:[HASH]
    anchored: no
    not checked: nothing kept outside was given (--checkpoint, --head): a cut tail or a rewritten whole cannot be seen from inside; keep 3:[HASH]
    warning: no checkpoint was signed yet: `ledger checkpoint` makes one
    ----- stderr -----
    ");
    let head = world.assert_intact()["head"].as_str().unwrap().to_owned();
    ledger_snapshot!(world.ledger(["verify", "--head", &format!("3:{head}")]), @r"
    exit: 0
    ----- stdout -----
    intact: 3 entries
    head: 3:[HASH]
    anchored: up to entry 3
    warning: no checkpoint was signed yet: `ledger checkpoint` makes one
    ----- stderr -----
    ");
    ledger_snapshot!(world.ledger(["verify", "--head", &format!("2:{head}")]), @r"
    exit: 1
    ----- stdout -----
    tampered: seq 2: a saved head or receipt names another hash for it
    tampered: 3 entries
    head: 3:[HASH]
    anchored: no
    warning: no checkpoint was signed yet: `ledger checkpoint` makes one
    ----- stderr -----
    ");
    ledger_snapshot!(world.ledger(["verify", "--head", "3"]), @r"
    exit: 2
    ----- stdout -----
    ----- stderr -----
    error: --head must look like SEQ:HASH, as `ledger verify` prints it
    ");
}

#[tokio::test]
async fn refusals_of_append_say_why() {
    let world = World::start().await;
    let mut keyed = line("test.happened", "service:api", &json!({"n": 1}));
    keyed["key"] = json!("it/1");
    world.append(&[keyed.clone()]);
    keyed["payload"] = json!({"n": 2});
    let lines = [
        keyed.to_string(),
        "{".to_owned(),
        r#"{"type":"test.happened","subject":"service:api","payload":{},"colour":"red"}"#
            .to_owned(),
        r#"{"type":"test.happened","subject":"service:api"}"#.to_owned(),
        line("item.deleted", "service:api", &json!({})).to_string(),
        line("happened", "service:api", &json!({})).to_string(),
        line("test.happened", "api", &json!({})).to_string(),
        line("test.happened", "service:api", &json!(7)).to_string(),
        line("test.happened", "service:api", &json!({"n": 0.5})).to_string(),
    ];
    ledger_snapshot!(world.ledger_in(["append", "--json"], &lines.join("\n")), @r#"
    exit: 2
    ----- stdout -----
    {"error":"idempotency key it/1 was used at seq 2 with other content"}
    {"error":"read a line as an entry: it is not JSON (column 0)"}
    {"error":"read a line as an entry: it must be an object of type, subject, payload and perhaps schema (a number), key, run, cause, occurred_at (column 69)"}
    {"error":"read a line as an entry: it must be an object of type, subject, payload and perhaps schema (a number), key, run, cause, occurred_at (column 48)"}
    {"error":"item.deleted is written by the commands of this program only"}
    {"error":"an event type must look like thing.happened"}
    {"error":"a subject looks like kind:uuid or kind:name"}
    {"error":"the payload of an entry of type test.happened is refused: it must be an object"}
    {"error":"the payload of an entry of type test.happened is refused: a number with a fraction or exponent has many texts: send it as a string at line 1 column 8"}
    ----- stderr -----
    "#);
    ledger_snapshot!(world.ledger_in(["append"], &lines[4]), @r"
    exit: 2
    ----- stdout -----
    ----- stderr -----
    error: item.deleted is written by the commands of this program only
    ");
    world.assert_intact();
}

#[tokio::test]
async fn what_is_missing_is_said_and_how_to_get_it() {
    let world = World::bare().await;
    ledger_snapshot!(world.ledger(["log"]), @r"
    exit: 2
    ----- stdout -----
    ----- stderr -----
    error: the database holds no ledger
    hint: make one with `ledger init NAME`
    ");
    let empty = World::empty().await;
    ledger_snapshot!(empty.ledger(["verify"]), @r"
    exit: 2
    ----- stdout -----
    ----- stderr -----
    error: the database holds no ledger
    hint: make one with `ledger init NAME`
    ");

    world.ledger(["init", "one"]).ok();
    ledger_snapshot!(world.ledger(["init", "one"]), @r"
    exit: 2
    ----- stdout -----
    ----- stderr -----
    error: a ledger named one exists in this database
    ");
    world.ledger(["init", "two"]).ok();
    ledger_snapshot!(world.ledger(["verify"]), @r"
    exit: 2
    ----- stdout -----
    ----- stderr -----
    error: this database holds 2 ledgers:
      [UUID]  one
      [UUID]  two
    hint: name one with --ledger NAME or LEDGER=NAME
    ");
    ledger_snapshot!(world.ledger(["log", "--ledger", "three"]), @r"
    exit: 2
    ----- stdout -----
    ----- stderr -----
    error: no ledger is called three; there are:
      [UUID]  one
      [UUID]  two
    ");
    assert_eq!(
        world
            .ledger(["log", "--ledger", "two"])
            .ok()
            .stdout
            .lines()
            .count(),
        1
    );
    let mut by_variable = world.command(["log"]);
    assert_eq!(
        output(by_variable.env("LEDGER", "one"))
            .ok()
            .stdout
            .lines()
            .count(),
        1
    );
    ledger_snapshot!(world.ledger(["init", "Not A Name"]), @r"
    exit: 2
    ----- stdout -----
    ----- stderr -----
    error: a ledger's name has 1 to 64 of a-z, 0-9 and . _ -
    ");

    std::fs::remove_file(world.home().join("kek")).unwrap();
    let entry = line("test.happened", "service:api", &json!({})).to_string();
    ledger_snapshot!(world.ledger_in(["append", "--ledger", "one"], &entry), @r"
    exit: 4
    ----- stdout -----
    ----- stderr -----
    error: use the keys of ledger [UUID]: no key-encryption key was found
    ");
    ledger_snapshot!(world.ledger(["verify", "--ledger", "one"]), @r"
    exit: 0
    ----- stdout -----
    intact: 1 entry
    head: 1:[HASH]
    anchored: no
    not checked: nothing kept outside was given (--checkpoint, --head): a cut tail or a rewritten whole cannot be seen from inside; keep 1:[HASH]
    not checked: identities: no key here opens them
    warning: no checkpoint was signed yet: `ledger checkpoint` makes one
    ----- stderr -----
    ");
}

#[tokio::test]
async fn wrong_usage_is_status_2() {
    let home = temporary("home");
    for arguments in [
        &["frobnicate"][..],
        &[],
        &["show"],
        &["show", "x"],
        &["log", "--to"],
        &["verify", "--head"],
        &["completions", "edlin"],
    ] {
        let output = output(binary(home.path()).args(arguments));
        assert_eq!(output.exit, 2, "{arguments:?} {output:?}");
        assert_eq!(output.stdout, "", "{arguments:?}");
    }
    let version = output(binary(home.path()).arg("--version")).ok();
    assert_eq!(
        version.stdout,
        format!("ledger {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[tokio::test]
async fn a_database_that_is_not_there_is_status_4() {
    const PASSWORD: &str = "hunter2-never-shown";
    let home = temporary("home");
    let ledger = |url: &str, arguments: &[&str]| {
        let mut command = binary(home.path());
        command.env("DATABASE_URL", url).args(arguments);
        let output = output_of(&mut command, "");
        let said = format!("{}{}", output.stdout, output.stderr);
        assert!(!said.contains(PASSWORD), "{said}");
        output
    };
    // A port that was free a moment ago: nobody listens there.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let dead = format!("postgresql://app:{PASSWORD}@127.0.0.1:{port}/x");
    ledger_snapshot!(ledger(&dead, &["log"]), @r"
    exit: 4
    ----- stdout -----
    ----- stderr -----
    error: connect to the database
      caused by: error communicating with database: Connection refused (os error 111)
    hint: nothing was recorded; check DATABASE_URL and that PostgreSQL runs, then try again
    ");
    for arguments in [
        &["verify", "--json"][..],
        &["append"],
        &["init"],
        &["log", "-vv"],
    ] {
        let output = ledger(&dead, arguments);
        assert_eq!(
            (output.exit, output.stdout.as_str()),
            (4, ""),
            "{arguments:?} {output:?}"
        );
        assert!(output.stderr.contains("hint: "), "{output:?}");
    }
    ledger_snapshot!(ledger(&format!("mysql://app:{PASSWORD}@localhost/x"), &["log"]), @r"
    exit: 2
    ----- stdout -----
    ----- stderr -----
    error: read the database's address: it must look like [URL]
    ");
    ledger_snapshot!(ledger(&format!("app:{PASSWORD}"), &["log"]), @r"
    exit: 2
    ----- stdout -----
    ----- stderr -----
    error: read the database's address: it must look like [URL]
    ");
    let world = World::bare().await;
    let wrong = world.url().replace(":it@", &format!(":{PASSWORD}@"));
    assert_ne!(wrong, world.url());
    ledger_snapshot!(ledger(&wrong, &["log"]), @r#"
    exit: 4
    ----- stdout -----
    ----- stderr -----
    error: connect to the database
      caused by: error returned from database: password authentication failed for user "it_writer"
    hint: nothing was recorded; check DATABASE_URL and that PostgreSQL runs, then try again
    "#);
}

#[tokio::test]
async fn an_administrator_prepares_a_database_and_gets_the_writers_address() {
    let world = World::empty().await;
    let mut init = world.command(["init", "demo", "--json"]);
    init.env(
        "DATABASE_URL",
        world.server().superuser_url(world.database()),
    );
    let made = output(&mut init).ok().json();
    let url = made["database_url"].as_str().unwrap();
    let log = output(world.command(["log"]).env("DATABASE_URL", url)).ok();
    assert_eq!(log.stdout.lines().count(), 1);
    assert_eq!(log.stderr, "", "the writer's login has nothing to give up");
    let drop_login = format!(
        "drop owned by ledger_app_{0}; drop role ledger_app_{0}",
        world.database()
    );
    crate::server::execute(&mut world.superuser().await, drop_login).await;
}

#[tokio::test]
async fn without_a_database_a_server_of_its_own_is_used() {
    let home = temporary("home");
    let ledger =
        |arguments: &[&str]| output(binary(home.path()).args(arguments).stdin(Stdio::null()));
    ledger_snapshot!(ledger(&["log"]), @r"
    exit: 2
    ----- stdout -----
    ----- stderr -----
    note: PostgreSQL [VERSION] runs under [HOME]/postgres
    error: the database holds no ledger
    hint: make one with `ledger init NAME`
    ");
    let made = ledger(&["init"]).ok();
    assert_eq!(
        made.stderr.matches("note: ").count(),
        1,
        "it says so once: {made:?}"
    );
    let verified = ledger(&["verify", "--json"]).ok();
    assert_eq!(verified.json()["verdict"], "intact");
    let pid = home.path().join("postgres/data/postmaster.pid");
    assert!(!pid.exists(), "the last command stopped it");
}

#[tokio::test]
async fn completions_are_printed_for_each_shell() {
    let home = temporary("home");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = output(binary(home.path()).args(["completions", shell])).ok();
        assert!(
            script.stdout.contains("verify") && script.stderr.is_empty(),
            "{shell}"
        );
    }
}
