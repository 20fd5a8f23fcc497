//! Broken connections and killed servers: what was acknowledged is there, nothing is there twice, nothing is missing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::TryStreamExt as _;
use ledger::store::read::Filter;
use ledger::store::{AppendError, Draft, Sealing, Store};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

use crate::append::draft;
use crate::server::OwnServer;
use crate::world::{World, binary, open_store, output, temporary};

fn keyed(key: &str) -> Draft {
    Draft {
        key: Some(key.parse().unwrap()),
        ..draft("{}")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_loses_no_acknowledged_entry_and_doubles_none() {
    const WRITERS: usize = 4;
    const ENTRIES: usize = 150;
    // At the third short life in a row the supervisor would give the server up.
    const KILLS: usize = 2;
    const TRIES: usize = 3;
    let server = OwnServer::start().await;
    server.create_migrated("own").await;
    let home = temporary("home");
    let url = server.writer_url("own");
    let ledger = |arguments: &[&str]| {
        output(
            binary(home.path())
                .env("DATABASE_URL", &url)
                .args(arguments),
        )
    };
    ledger(&["init"]).ok();

    let acknowledged = Arc::new(AtomicUsize::new(0));
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let store = open_store(server.writer("own"), home.path()).await;
        let acknowledged = Arc::clone(&acknowledged);
        writers.push(tokio::spawn(async move {
            let mut seqs = BTreeMap::new();
            for n in 0..ENTRIES {
                let key = format!("w/{writer}/{n}");
                let mut tries = 0;
                let appended = loop {
                    tries += 1;
                    match store.append(keyed(&key)).await {
                        Ok(appended) => break appended,
                        Err(AppendError::CommitUnknown { .. }) if tries < TRIES => {}
                        Err(error) => panic!("{error:?}"),
                    }
                };
                seqs.insert(key, (appended.entry.seq, appended.hash));
                acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            store.close().await;
            seqs
        }));
    }
    let began = std::time::Instant::now();
    for kill in 1..=KILLS {
        let enough = kill * WRITERS * ENTRIES / (KILLS + 1);
        while acknowledged.load(Ordering::Relaxed) < enough {
            assert!(
                began.elapsed() < Duration::from_mins(2),
                "the writers go on"
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        server.kill();
    }
    let mut seqs = BTreeMap::new();
    for writer in writers {
        seqs.extend(writer.await.unwrap());
    }
    assert_eq!(seqs.len(), WRITERS * ENTRIES);

    let store = open_store(server.writer("own"), home.path()).await;
    let entries: Vec<_> = store.read(Filter::default()).try_collect().await.unwrap();
    assert_eq!(
        entries.len(),
        1 + WRITERS * ENTRIES,
        "none is missing and none stands twice"
    );
    for (at, recorded) in entries.iter().enumerate() {
        assert_eq!(recorded.entry.seq, at as u64 + 1);
        let key = recorded.entry.key.as_str();
        if at > 0 {
            assert_eq!(seqs[key], (recorded.entry.seq, recorded.hash), "{key}");
        }
    }
    ledger(&["verify"]).ok();
    store.close().await;
    server.stop().await;
}

/// Where the connection breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Break {
    /// The message that holds this text never arrives.
    Before(&'static str),
    /// It arrives and takes effect, and the answer is lost.
    After(&'static str),
}

/// A socket in front of the server's that breaks a connection once.
struct Proxy {
    folder: tempfile::TempDir,
    armed: Arc<std::sync::Mutex<Option<Break>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    fn start(server_socket: &Path) -> Self {
        let folder = temporary("proxy");
        let listener = UnixListener::bind(folder.path().join(".s.PGSQL.5432")).unwrap();
        let target: PathBuf = server_socket.join(".s.PGSQL.5432");
        let armed = Arc::new(std::sync::Mutex::new(None));
        let faults = Arc::clone(&armed);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let server = UnixStream::connect(&target).await.unwrap();
                connections.spawn(carry(client, server, Arc::clone(&faults)));
            }
        });
        Self {
            folder,
            armed,
            task,
        }
    }

    fn arm(&self, fault: Break) {
        *self.armed.lock().unwrap() = Some(fault);
    }

    fn is_armed(&self) -> bool {
        self.armed.lock().unwrap().is_some()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Carries bytes both ways until one side ends or the fault strikes.
async fn carry(
    mut client: UnixStream,
    mut server: UnixStream,
    armed: Arc<std::sync::Mutex<Option<Break>>>,
) {
    let (mut from_client, mut from_server) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        tokio::select! {
            read = client.read(&mut from_client) => {
                let Ok(read @ 1..) = read else { return };
                let message = &from_client[..read];
                let holds = |text: &str| message.windows(text.len()).any(|part| part == text.as_bytes());
                let fault = {
                    let mut armed = armed.lock().unwrap();
                    match *armed {
                        Some(Break::Before(text) | Break::After(text)) if holds(text) => armed.take(),
                        _ => None,
                    }
                };
                if let Some(Break::Before(_)) = fault {
                    return;
                }
                if server.write_all(message).await.is_err() {
                    return;
                }
                if let Some(Break::After(_)) = fault {
                    // The first byte of the answer shows that the server is done.
                    drop(server.read(&mut from_server).await);
                    return;
                }
            }
            read = server.read(&mut from_server) => {
                let Ok(read @ 1..) = read else { return };
                if client.write_all(&from_server[..read]).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Stands in the arguments of the call, which go out after its text and commit when they are answered.
const ARGUMENTS: &str = "test.happened";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_breaks_around_the_commit_leaves_one_entry() {
    let world = World::start().await;
    let proxy = Proxy::start(world.server().socket_dir());
    let through = world
        .server()
        .writer(world.database())
        .socket(proxy.folder.path());
    let store = world.store_through(through).await;
    let mut size = 1;
    for fault in [
        Break::Before("ledger.append("),
        Break::After("ledger.append("),
        Break::Before(ARGUMENTS),
        Break::After(ARGUMENTS),
    ] {
        // Sealed or plain, with a key of the caller's or without.
        for (seal, key) in [(false, false), (false, true), (true, false), (true, true)] {
            let mut draft = if key {
                keyed(&format!("fault/{size}"))
            } else {
                draft("{}")
            };
            if seal {
                draft.sealing = Sealing::Owner(draft.subject.clone());
                // Its key is made before, over the sound connection.
                store.owner_key(&draft.subject).await.unwrap();
            }
            proxy.arm(fault);
            let appended = append_in_time(&store, draft.clone()).await;
            assert!(!proxy.is_armed(), "{fault:?} did not strike");
            size += 1;
            assert_eq!(appended.entry.seq, size, "{fault:?}");
            // The commit was made, and its answer lost: the second try finds the first.
            assert_eq!(
                appended.replayed,
                fault == Break::After(ARGUMENTS),
                "{fault:?}"
            );
            if key {
                let again = store.append(draft).await.unwrap();
                assert_eq!((again.entry, again.replayed), (appended.entry, true));
            }
        }
    }
    assert_eq!(crate::chain::check(&world).await, size);
    world.assert_intact();
}

async fn append_in_time(store: &Store, draft: Draft) -> ledger::store::Appended {
    let limit = Duration::from_mins(1);
    tokio::time::timeout(limit, store.append(draft))
        .await
        .expect("an answer")
        .unwrap()
}
