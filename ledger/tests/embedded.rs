//! The embedded PostgreSQL, with real processes: started, shared, killed, found again.
#![cfg(feature = "store")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail the test"
)]

use std::ffi::OsString;
use std::fs::Permissions;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use ledger::store::embedded::{
    self, Closed, Embedded, EmbeddedEnv, EmbeddedError, EmbeddedOptions, Home, SupervisorCommand,
};
use rustix::process::{Pid, Signal, geteuid, kill_process};
use sqlx::{ConnectOptions as _, Connection as _};

const NOBODY: u32 = 65534;

/// This test program run again with only the named test, which takes the argument after these.
fn again(entry: &str) -> Vec<OsString> {
    [entry, "--exact", "--nocapture"]
        .map(OsString::from)
        .to_vec()
}

/// The argument for a test that is run as a process of its own; none in a usual run.
fn request() -> Option<OsString> {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    match &arguments[1..] {
        [_, exact, _, request] if exact == "--exact" => Some(request.clone()),
        _ => None,
    }
}

#[test]
fn supervisor_process() {
    if let Some(request) = request() {
        assert_eq!(embedded::supervise(&request), ExitCode::SUCCESS);
    }
}

/// Uses the server of the home named by the last argument until its standard input ends.
#[test]
fn user_process() {
    if let Some(home) = request() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let embedded = runtime
            .block_on(embedded::start(&options(Path::new(&home))))
            .unwrap();
        println!("\nready {}", server_pid(embedded.dir()));
        std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    }
}

fn options(home: &Path) -> EmbeddedOptions {
    let env = EmbeddedEnv::from_process();
    let home = Home::resolve(Some(home.to_owned()), &env).unwrap();
    let supervisor = SupervisorCommand {
        program: std::env::current_exe().unwrap(),
        arguments: again("supervisor_process"),
    };
    EmbeddedOptions {
        supervisor,
        durable: false,
        ..EmbeddedOptions::new(home, env)
    }
}

async fn start(home: &Path) -> Embedded {
    embedded::start(&options(home)).await.unwrap()
}

fn temporary() -> tempfile::TempDir {
    // Short, whatever TMPDIR is, since the length of the path is itself tested; and as `mktemp -d`
    // makes it. Named like the short socket directories, which must not take it for one.
    tempfile::Builder::new()
        .prefix("ledger-socket-")
        .permissions(Permissions::from_mode(0o700))
        .tempdir_in("/tmp")
        .unwrap()
}

/// Another process that uses the server.
struct User {
    process: Child,
    server: i32,
}

impl User {
    fn start(home: &Path) -> Self {
        Self::run(&mut user_command(home))
    }

    fn run(command: &mut Command) -> Self {
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.as_mut().unwrap()).lines();
        let server = lines
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("ready ")?.parse().ok())
            .expect("the process says that it uses the server");
        Self { process, server }
    }

    fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

fn user_command(home: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(again("user_process")).arg(home);
    command
}

/// A user whose start nobody waits for.
fn spawn_unwatched(home: &Path) -> Child {
    user_command(home)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn server_pid(dir: &Path) -> i32 {
    let text = std::fs::read_to_string(dir.join("data/postmaster.pid")).unwrap();
    text.lines().next().unwrap().parse().unwrap()
}

/// State letter and parent of a process (proc(5)); the name before them may hold anything.
fn stat(pid: i32) -> Option<(char, i32)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(") ")?.1.split(' ');
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

fn parent(pid: i32) -> i32 {
    stat(pid).unwrap().1
}

fn has_ended(pid: i32) -> bool {
    stat(pid).is_none_or(|(state, _)| state == 'Z')
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(
            began.elapsed() < Duration::from_mins(1),
            "not within a minute: {what}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn kill_hard(pid: i32) {
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

async fn execute(embedded: &Embedded, sql: &'static str) {
    let mut connection = embedded.admin_options().connect().await.unwrap();
    sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

async fn number(options: &sqlx::postgres::PgConnectOptions, sql: &'static str) -> i32 {
    let mut connection = options.connect().await.unwrap();
    let number = sqlx::query_scalar(sql)
        .fetch_one(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    number
}

async fn close(embedded: Embedded) {
    assert_eq!(embedded.close().await.unwrap(), Closed::Stopped);
}

#[tokio::test]
async fn data_survive_a_restart_and_the_folder_is_private() {
    let home = temporary();
    let first = start(home.path()).await;
    assert!(first.notes()[0].contains(first.dir().to_str().unwrap()));
    execute(&first, "create table t as select 7 as n").await;
    let server = server_pid(first.dir());
    let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!(mode(first.dir()), 0o700);
    for secret in ["password", "users.lock"] {
        assert_eq!(mode(&first.dir().join(secret)), 0o600, "{secret}");
    }
    assert!(!format!("{first:?}").contains(first.password()));
    close(first).await;
    assert!(has_ended(server));
    let second = start(home.path()).await;
    assert_eq!(number(&second.admin_options(), "select n from t").await, 7);
    close(second).await;
}

#[tokio::test]
async fn a_durable_server_syncs_and_an_undurable_one_does_not_pass_for_it() {
    let home = temporary();
    let durable = EmbeddedOptions {
        durable: true,
        ..options(home.path())
    };
    let embedded = embedded::start(&durable).await.unwrap();
    let settings = "select count(*)::int from pg_settings where setting = 'on' \
        and name in ('fsync', 'synchronous_commit', 'full_page_writes', 'data_checksums')";
    assert_eq!(number(&embedded.admin_options(), settings).await, 4);
    close(embedded).await;
    let undurable = start(home.path()).await;
    let refused = embedded::start(&durable).await.unwrap_err();
    assert!(
        matches!(refused, EmbeddedError::NotDurable { .. }),
        "{refused}"
    );
    close(undurable).await;
}

#[tokio::test]
async fn settings_reach_the_server_and_no_network_does() {
    let home = temporary();
    let mut options = options(home.path());
    options.max_connections = 33;
    options.extra_settings = vec![("work_mem".into(), "5MB".into())];
    let embedded = embedded::start(&options).await.unwrap();
    let admin = embedded.admin_options();
    let sql = "select current_setting('max_connections')::int";
    assert_eq!(number(&admin, sql).await, 33);
    let sql = "select (current_setting('work_mem') = '5MB')::int";
    assert_eq!(number(&admin, sql).await, 1);
    let sql = "select length(current_setting('listen_addresses'))";
    assert_eq!(number(&admin, sql).await, 0);
    close(embedded).await;
}

#[tokio::test]
async fn the_url_is_understood_by_sqlx_and_by_psql() {
    let home = temporary();
    let embedded = start(home.path()).await;
    execute(&embedded, "create role \"a b\" login password 'p@ss:/%'").await;
    let url = embedded.database_url("a b", "p@ss:/%", "postgres");
    let parsed: sqlx::postgres::PgConnectOptions = url.parse().unwrap();
    assert_eq!(
        number(&parsed, "select 1 where current_user = 'a b'").await,
        1
    );
    let psql = Command::new(embedded.bin_dir().join("psql"))
        .args([&url, "-Atc", "select current_user"])
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&psql.stdout).trim(),
        "a b",
        "{psql:?}"
    );
    close(embedded).await;
}

#[tokio::test]
async fn concurrent_starters_share_one_server_and_the_last_stops_it() {
    let home = temporary();
    let (first, second) = tokio::join!(start(home.path()), start(home.path()));
    let third = User::start(home.path());
    let server = server_pid(first.dir());
    assert_eq!(third.server, server);
    assert_eq!(first.socket_dir(), second.socket_dir());
    assert_eq!(first.close().await.unwrap(), Closed::InUse);
    assert_eq!(second.close().await.unwrap(), Closed::InUse);
    assert!(!has_ended(server), "the third still uses it");
    let supervisor = parent(server);
    third.kill();
    eventually("the end of the server", || {
        has_ended(server) && has_ended(supervisor)
    });
}

#[test]
fn many_processes_at_once_under_a_new_home_share_one_server() {
    let home = temporary();
    let users: Vec<User> = std::thread::scope(|scope| {
        let starts: Vec<_> = (0..6)
            .map(|_| scope.spawn(|| User::start(home.path())))
            .collect();
        starts
            .into_iter()
            .map(|start| start.join().unwrap())
            .collect()
    });
    let server = users[0].server;
    assert!(users.iter().all(|user| user.server == server));
    let supervisor = parent(server);
    users.into_iter().for_each(User::kill);
    eventually("the end of the server", || {
        has_ended(server) && has_ended(supervisor)
    });
}

#[tokio::test]
async fn a_newcomer_during_the_stop_gets_a_fresh_server() {
    let home = temporary();
    for _ in 0..5 {
        drop(start(home.path()).await); // the supervisor begins to stop it now
        let next = start(home.path()).await;
        assert_eq!(number(&next.admin_options(), "select 1").await, 1);
    }
    close(start(home.path()).await).await;
}

#[tokio::test]
async fn a_killed_supervisor_is_replaced_by_the_next_user() {
    let home = temporary();
    let first = start(home.path()).await;
    let server = server_pid(first.dir());
    let old = parent(server);
    kill_hard(old);
    eventually("the end of the supervisor", || has_ended(old));
    assert_eq!(number(&first.admin_options(), "select 1").await, 1);
    let second = start(home.path()).await;
    assert_eq!(server_pid(second.dir()), server, "the server was adopted");
    drop(first);
    close(second).await;
    assert!(has_ended(server));
}

#[tokio::test]
async fn a_killed_supervisor_is_replaced_at_the_last_users_end() {
    let home = temporary();
    let only = start(home.path()).await;
    let server = server_pid(only.dir());
    let supervisor = parent(server);
    kill_hard(supervisor);
    // Its process may be a zombie already while its second thread still holds the lock.
    let lock = std::fs::File::open(only.dir().join("supervisor.lock")).unwrap();
    eventually("the end of the supervisor", || {
        lock.try_lock_shared().is_ok()
    });
    lock.unlock().unwrap();
    drop(only);
    eventually("the end of the server", || has_ended(server));
    // The new supervisor outlives the server by an instant.
    eventually("the end of its supervisor", || {
        supervisors(home.path()).is_empty()
    });
}

#[tokio::test]
async fn supervisor_and_server_killed_leave_a_state_to_start_from() {
    let home = temporary();
    let user = User::start(home.path());
    let embedded = start(home.path()).await;
    execute(&embedded, "create table t as select 8 as n").await;
    let (server, supervisor) = (user.server, parent(user.server));
    kill_hard(supervisor);
    kill_hard(server);
    user.kill();
    let next = start(home.path()).await;
    assert_ne!(server_pid(next.dir()), server);
    assert_eq!(number(&next.admin_options(), "select n from t").await, 8);
    drop(embedded);
    close(next).await;
}

#[tokio::test]
async fn a_killed_server_is_started_again_for_its_users() {
    let home = temporary();
    let embedded = start(home.path()).await;
    let server = server_pid(embedded.dir());
    let supervisor = parent(server);
    kill_hard(server);
    eventually("the end of the server", || has_ended(server));
    let next = start(home.path()).await;
    let new = server_pid(next.dir());
    assert_ne!(new, server);
    assert_eq!(parent(new), supervisor);
    assert_eq!(number(&embedded.admin_options(), "select 1").await, 1);
    drop(embedded);
    close(next).await;
}

#[tokio::test]
async fn the_terminals_signals_pass_by_and_sigterm_stops() {
    let home = temporary();
    let embedded = start(home.path()).await;
    let server = server_pid(embedded.dir());
    let supervisor = Pid::from_raw(parent(server)).unwrap();
    let group = rustix::process::getpgid(Some(supervisor)).unwrap();
    assert_ne!(group, rustix::process::getpgrp());
    kill_process(supervisor, Signal::HUP).unwrap();
    assert_eq!(number(&embedded.admin_options(), "select 1").await, 1);
    kill_process(supervisor, Signal::TERM).unwrap();
    eventually("the end of the server", || has_ended(server));
    let next = start(home.path()).await;
    assert_eq!(number(&next.admin_options(), "select 1").await, 1);
    drop(embedded);
    close(next).await;
}

#[tokio::test]
async fn the_output_of_the_starter_ends_with_it() {
    let home = temporary();
    let starter = User::start(home.path());
    let embedded = start(home.path()).await;
    // Closes its input, so that it ends, and reads its output to the end.
    let output = tokio::task::spawn_blocking(move || starter.process.wait_with_output());
    let output = tokio::time::timeout(Duration::from_mins(1), output).await;
    assert!(output.unwrap().unwrap().unwrap().status.success());
    assert_eq!(number(&embedded.admin_options(), "select 1").await, 1);
    close(embedded).await;
}

#[tokio::test]
async fn every_stale_pid_file_is_survived() {
    let home = temporary();
    let first = start(home.path()).await;
    let dir = first.dir().to_owned();
    close(first).await;
    let file = dir.join("data/postmaster.pid");
    let owner = std::fs::metadata(&dir).unwrap();
    // A pid that now belongs to something else of the same account: PostgreSQL believes it.
    let mut stranger = Command::new("sleep")
        .arg("600")
        .uid(owner.uid())
        .gid(owner.gid())
        .spawn()
        .unwrap();
    let foreign = format!(
        "{}\n{}\n1\n5432\n/tmp\n\n1 2\nready\n",
        stranger.id(),
        dir.display()
    );
    for text in ["", "garbage\n", "0\n", "2147480000\n/d\n", "1\n", &foreign] {
        std::fs::write(&file, text).unwrap();
        std::os::unix::fs::chown(&file, Some(owner.uid()), Some(owner.gid())).unwrap();
        let embedded = start(home.path()).await;
        assert_eq!(
            number(&embedded.admin_options(), "select 1").await,
            1,
            "{text:?}"
        );
        close(embedded).await;
    }
    assert_eq!(
        stranger.try_wait().unwrap(),
        None,
        "the other process was left alone"
    );
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

/// Supervisors of this home's cluster: processes whose request names its folder.
fn supervisors(home: &Path) -> Vec<i32> {
    let wanted = format!("{{\"dir\":\"{}", home.canonicalize().unwrap().display());
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid: &i32| {
            std::fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| String::from_utf8_lossy(&line).contains(&wanted))
        })
        .filter(|pid| !has_ended(*pid))
        .collect()
}

#[tokio::test]
async fn an_interrupted_initdb_leaves_nothing_half_made() {
    let home = temporary();
    let dir = home.path().join("postgres");
    let unfinished = || -> Vec<PathBuf> {
        std::fs::read_dir(&dir)
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.to_string_lossy().contains("data.new-"))
            .collect()
    };
    let mut starter = spawn_unwatched(home.path());
    eventually("an initdb at work", || !unfinished().is_empty());
    starter.kill().unwrap();
    supervisors(home.path()).into_iter().for_each(kill_hard);
    starter.wait().unwrap();
    assert!(!dir.join("data").exists());
    let embedded = start(home.path()).await;
    assert_eq!(number(&embedded.admin_options(), "select 1").await, 1);
    close(embedded).await;
    eventually("the end of the interrupted initdb", || {
        // It may have outlived its supervisor and the removal of its folder.
        for left in unfinished() {
            drop(std::fs::remove_dir_all(left));
        }
        unfinished().is_empty()
    });
}

#[test]
fn a_starter_killed_at_any_moment_leaves_nothing_running() {
    let home = temporary();
    User::start(home.path()).kill(); // makes the data
    eventually("the end of the supervisor", || {
        supervisors(home.path()).is_empty()
    });
    for delay in [0, 5, 10, 20, 40, 80, 120] {
        let mut starter = spawn_unwatched(home.path());
        // Not to wait for anything: the moment of the kill is what varies.
        std::thread::sleep(Duration::from_millis(delay));
        starter.kill().unwrap();
        starter.wait().unwrap();
        eventually("the end of the supervisor", || {
            supervisors(home.path()).is_empty()
        });
        assert!(
            !home.path().join("postgres/data/postmaster.pid").exists(),
            "after {delay} ms"
        );
    }
}

#[tokio::test]
async fn long_and_odd_paths_work() {
    let folder = temporary();
    // Root's server runs under an account that has to pass through.
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o711)).unwrap();
    for name in ["x".repeat(120), "a b,c'd\"e".into()] {
        let home = folder.path().join(name);
        let embedded = start(&home).await;
        let socket_dir = embedded.socket_dir().to_owned();
        let url = embedded.database_url("ledger", embedded.password(), "postgres");
        assert_eq!(number(&url.parse().unwrap(), "select 1").await, 1);
        close(embedded).await;
        assert!(
            socket_dir.starts_with(&home) || !socket_dir.exists(),
            "{socket_dir:?}"
        );
    }
}

#[tokio::test]
async fn a_server_that_cannot_start_says_why() {
    let home = temporary();
    let mut options = options(home.path());
    options.extra_settings = vec![("no_such_setting".into(), "1".into())];
    let error = embedded::start(&options).await.unwrap_err();
    assert!(error.to_string().contains("no_such_setting"), "{error}");
    assert_eq!(
        error.to_string().matches("start PostgreSQL").count(),
        1,
        "{error}"
    );
    assert!(error.hint().unwrap().contains("server.log"));
    options.extra_settings.clear();
    options.supervisor.program = "/absent/program".into();
    let error = embedded::start(&options).await.unwrap_err();
    assert!(
        matches!(error, EmbeddedError::SupervisorSpawn { .. }),
        "{error}"
    );
    options.supervisor.program = "/bin/false".into();
    let error = embedded::start(&options).await.unwrap_err();
    assert!(
        matches!(error, EmbeddedError::SupervisorEnded { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn root_serves_a_home_that_the_servers_account_cannot_reach() {
    if !geteuid().is_root() {
        return; // an ordinary user is the server's account
    }
    let closed = temporary(); // mode 0700, as root's own home is
    let home = closed.path().join("home");
    let embedded = start(&home).await;
    let dir = embedded.dir().to_owned();
    assert!(dir.starts_with("/var/lib/ledger/homes"), "{dir:?}");
    assert!(
        embedded
            .notes()
            .iter()
            .any(|note| note.contains(home.to_str().unwrap()))
    );
    execute(&embedded, "create table t as select 9 as n").await;
    close(embedded).await;
    // Reachable by now: the data stay where they are, and are found.
    std::fs::set_permissions(closed.path(), Permissions::from_mode(0o711)).unwrap();
    let embedded = start(&home).await;
    assert_eq!(
        number(&embedded.admin_options(), "select n from t").await,
        9
    );
    close(embedded).await;
    std::fs::remove_dir_all(dir.parent().unwrap()).unwrap();
    for folder in ["/var/lib/ledger/homes", "/var/lib/ledger"] {
        let _ = std::fs::remove_dir(folder); // stays where others use it
    }
}

#[tokio::test]
async fn root_follows_no_link_in_the_servers_folder() {
    if !geteuid().is_root() {
        return;
    }
    let home = temporary();
    let embedded = start(home.path()).await;
    let dir = embedded.dir().to_owned();
    close(embedded).await;
    let outside = home.path().join("outside");
    std::fs::remove_file(dir.join("users.lock")).unwrap();
    std::os::unix::fs::symlink(&outside, dir.join("users.lock")).unwrap();
    let error = embedded::start(&options(home.path())).await.unwrap_err();
    assert!(
        matches!(error, EmbeddedError::Io { action: "open", .. }),
        "{error}"
    );
    assert!(!outside.exists());
    std::fs::remove_file(dir.join("users.lock")).unwrap();
    std::fs::write(&outside, "root's").unwrap();
    std::fs::hard_link(&outside, dir.join("users.lock")).unwrap();
    let error = embedded::start(&options(home.path())).await.unwrap_err();
    assert!(matches!(error, EmbeddedError::NotPrivate(_)), "{error}");
    assert_eq!(std::fs::metadata(&outside).unwrap().uid(), 0);
}

#[tokio::test]
async fn an_ordinary_user_has_a_server_and_no_other_users_home() {
    if !geteuid().is_root() {
        return; // then all the other tests have shown it
    }
    let folder = temporary();
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o711)).unwrap();
    let home = folder.path().join("home");
    std::fs::create_dir(&home).unwrap();
    std::os::unix::fs::chown(&home, Some(NOBODY), Some(NOBODY)).unwrap();
    let program = folder.path().join("program");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let command = |home: &Path| {
        let mut command = Command::new(&program);
        command
            .args(again("user_process"))
            .arg(home)
            .uid(NOBODY)
            .gid(NOBODY)
            .current_dir("/");
        command
    };
    let user = User::run(&mut command(&home));
    let dir = home.join("postgres");
    assert_eq!(std::fs::metadata(&dir).unwrap().uid(), NOBODY);
    // Root joins, and the files that it makes are the user's.
    let embedded = start(&home).await;
    assert_eq!(server_pid(&dir), user.server);
    drop(embedded);
    let (server, supervisor) = (user.server, parent(user.server));
    user.kill();
    eventually("the end of the server", || {
        has_ended(server) && has_ended(supervisor)
    });
    close(start(&home).await).await;
    for entry in std::fs::read_dir(&dir).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(
            entry.metadata().unwrap().uid(),
            NOBODY,
            "{:?}",
            entry.path()
        );
    }
    let roots = temporary();
    std::fs::set_permissions(roots.path(), Permissions::from_mode(0o777)).unwrap();
    let refused = command(roots.path()).stdin(Stdio::null()).output().unwrap();
    assert!(!refused.status.success());
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("HomeForeign"),
        "{refused:?}"
    );
}
