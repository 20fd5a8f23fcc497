//! Our side: entries appended through the store, each writer waiting for its own, and the ledger verified.

use std::time::{Duration, Instant};

use ledger::domain::id::{Actor, RunId, Subject};
use ledger::store::keys::random;
use ledger::store::verify::Outside;
use ledger::store::{Draft, Sealing, Store};
use tokio::task::JoinSet;

use crate::database::environment_key;
use crate::exit::{Exit, Failure, environment};

/// Owners of the subjects, and so data keys: a migration of so many users.
const OWNERS: usize = 64;

/// Makes the entries that are measured: sealed `item.found` of a run, each about a subject of its own.
pub(super) struct Ours {
    store: Store,
    owners: Vec<Subject>,
    run: RunId,
    payload_bytes: usize,
}

impl Ours {
    pub(super) fn new(store: Store, payload_bytes: usize) -> Result<Self, Failure> {
        let owners = (0..OWNERS)
            .map(|_| subject("account"))
            .collect::<Result<_, _>>()?;
        let run = store.clock().run_id();
        Ok(Self {
            store,
            owners,
            run,
            payload_bytes,
        })
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// Waits for the store's tasks and closes its connections.
    pub(super) async fn close(self) {
        self.store.close().await;
    }

    fn drafts(&self, count: usize) -> Result<Vec<Draft>, Failure> {
        let event_type = "item.found".parse().map_err(Failure::usage)?;
        let frame = r#"{"text":""}"#.len();
        let text = "x".repeat(self.payload_bytes.saturating_sub(frame));
        let draft = |owner: &Subject| {
            Ok(Draft {
                event_type: ledger::domain::id::EventType::clone(&event_type),
                schema: 1,
                subject: subject("calendar-event")?,
                actor: Actor::system(),
                payload: format!(r#"{{"text":"{text}"}}"#),
                sealing: Sealing::Owner(owner.clone()),
                key: None,
                run: Some(self.run),
                cause: None,
                occurred_at: None,
                fence: None,
                recorded_at: None,
            })
        };
        self.owners.iter().cycle().take(count).map(draft).collect()
    }

    /// Single appends by so many writers; the time from the first to the last.
    pub(super) async fn append(&self, writers: usize, count: usize) -> Result<Duration, Failure> {
        let mut shares: Vec<Vec<Draft>> = (0..writers).map(|_| Vec::new()).collect();
        for (at, draft) in self.drafts(count)?.into_iter().enumerate() {
            shares[at % writers].push(draft);
        }
        let started = Instant::now();
        let mut tasks = JoinSet::new();
        for drafts in shares {
            let store = self.store.clone();
            tasks.spawn(async move {
                for draft in drafts {
                    store.append(draft).await?;
                }
                Ok::<_, ledger::store::AppendError>(())
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended
                .map_err(environment("run a writer"))?
                .map_err(environment("append an entry"))?;
        }
        Ok(started.elapsed())
    }

    /// All entries in one call.
    pub(super) async fn append_all(&self, count: usize) -> Result<Duration, Failure> {
        let drafts = self.drafts(count)?;
        let started = Instant::now();
        for result in self.store.append_all(drafts).await {
            result.map_err(environment("append an entry"))?;
        }
        Ok(started.elapsed())
    }

    /// Checks the whole ledger; its size, and the time it took.
    pub(super) async fn verify(&self) -> Result<(u64, Duration), Failure> {
        let started = Instant::now();
        let report = self
            .store
            .verify(Outside::default(), |_, _| {})
            .await
            .map_err(crate::commands::read_failure)?;
        let took = started.elapsed();
        if report.findings.broken_count() > 0 || report.findings.sealed_unchecked > 0 {
            let broken = anyhow::anyhow!("verify did not find the measured ledger intact");
            return Err(Failure::new(Exit::No, broken));
        }
        Ok((report.head.size, took))
    }
}

fn subject(kind: &str) -> Result<Subject, Failure> {
    let random = random().map_err(environment_key)?;
    let uuid = uuid::Builder::from_random_bytes(random).into_uuid();
    Subject::new(kind, uuid).map_err(Failure::usage)
}
