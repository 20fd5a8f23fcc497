//! The catalogue: a ledger of ledgers in the same database. It lists each ledger and each published checkpoint, so that a ledger
//! that vanished with its head and all its entries is missed.

use futures_util::TryStreamExt as _;
use sha2::{Digest as _, Sha256};
use sqlx::Row as _;

use super::append::AppendError;
use super::checkpoint::ProveError;
use super::read::{Filter, ReadError};
use super::{Draft, Store, query};
use crate::chain::checkpoint::Checkpoint;
use crate::chain::entry::Hash;
use crate::chain::keys::CheckpointKeys;
use crate::domain::event::{CheckpointListed, CheckpointPublished, Event, LedgerListed};
use crate::domain::id::{Actor, IdempotencyKey, LedgerId, Subject};

/// Name of the catalogue, which no other ledger may have.
pub const CATALOGUE: &str = "catalogue";

fn failed(what: &'static str) -> impl FnOnce(sqlx::Error) -> ReadError {
    move |source| ReadError::Database { what, source }
}

/// What the catalogue says and the database does not hold.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Missed {
    /// In words, one each.
    pub findings: Vec<String>,
    /// The ledger that was asked about is not listed.
    pub unlisted: bool,
}

impl Store {
    /// In the catalogue: lists a ledger, once.
    ///
    /// # Errors
    /// The other ledger's entry 1 cannot be read, or the append's.
    pub async fn list_ledger(&self, listed: &Self, actor: &Actor) -> Result<(), ProveError> {
        let first = listed.get(1).await?;
        let damaged = || ProveError::Read(ReadError::Damaged { seq: 1 });
        let first = first.ok_or_else(damaged)?;
        let json = first.payload.json().ok_or_else(damaged)?;
        let Ok(Event::LedgerCreated(created)) = Event::decode("ledger.created", 1, json) else {
            return Err(damaged());
        };
        let id = listed.id();
        let event = Event::LedgerListed(LedgerListed {
            ledger: id,
            name: created.name,
            origin: created.origin,
            checkpoint_key: created.checkpoint_key,
            first_hash: first.hash,
        });
        let subject = Subject::of_ledger(id);
        self.note(&event, subject, actor, &format!("listed/{id}"))
            .await
    }

    /// In the catalogue: lists a published checkpoint of a ledger, once.
    ///
    /// # Errors
    /// The append's.
    pub async fn list_checkpoint(
        &self,
        ledger: LedgerId,
        checkpoint: &Checkpoint,
        actor: &Actor,
    ) -> Result<(), ProveError> {
        let (size, root) = (checkpoint.size(), checkpoint.root());
        let event = Event::CheckpointListed(CheckpointListed { ledger, size, root });
        let key = format!("listed/{ledger}/{size}/{}", &root.to_string()[..16]);
        self.note(&event, Subject::of_ledger(ledger), actor, &key)
            .await
    }

    /// Records that a checkpoint was put somewhere, once for each place.
    ///
    /// # Errors
    /// The append's.
    pub async fn record_publication(
        &self,
        checkpoint: &Checkpoint,
        target: &str,
        actor: &Actor,
    ) -> Result<(), ProveError> {
        let (size, root) = (checkpoint.size(), checkpoint.root());
        let event = Event::CheckpointPublished(CheckpointPublished {
            size,
            root,
            target: target.to_owned(),
        });
        let place = Hash(Sha256::digest(target).into()).to_string();
        let key = format!("published/{size}/{}", &place[..32]);
        // About the checkpoint and not the ledger, whose own entries are few and looked for often.
        let uuid = self.clock().uuid();
        let subject = match self.published_before(&key).await? {
            Some(subject) => subject,
            None => Subject::new("checkpoint", uuid).map_err(|_| ProveError::Raced)?,
        };
        self.note(&event, subject, actor, &key).await
    }

    async fn published_before(&self, key: &str) -> Result<Option<Subject>, ReadError> {
        let what = "look for the publication";
        let row = query("select subject from ledger.entries where ledger_id = $1 and key = $2")
            .bind(self.id().uuid())
            .bind(key)
            .fetch_optional(self.pool())
            .await
            .map_err(failed(what))?;
        let subject = row.map(|row| row.try_get::<String, _>("subject"));
        let subject = subject.transpose().map_err(failed(what))?;
        Ok(subject.and_then(|subject| subject.parse().ok()))
    }

    async fn note(
        &self,
        event: &Event,
        subject: Subject,
        actor: &Actor,
        key: &str,
    ) -> Result<(), ProveError> {
        let mut draft = Draft::of(event, subject.clone(), actor.clone(), subject)
            .map_err(ProveError::Append)?;
        let key: IdempotencyKey = key.parse().map_err(|_| ProveError::Raced)?;
        draft.key = Some(key);
        draft.recorded_at = self.simulated_now().await?;
        match self.append(draft).await {
            // The same was recorded before, by another person say.
            Ok(_) | Err(AppendError::KeyReused { .. }) => Ok(()),
            Err(error) => Err(ProveError::Append(error)),
        }
    }

    /// In the catalogue: holds all that it lists against the database; its checkpoints only of one ledger, where one is asked
    /// about.
    ///
    /// # Errors
    /// The database's; an entry of the catalogue that is damaged.
    pub async fn missed(&self, about: Option<&Self>) -> Result<Missed, ProveError> {
        let mut missed = Missed {
            findings: Vec::new(),
            unlisted: about.is_some(),
        };
        let types = |name: &str| name.parse().into_iter().collect::<Vec<_>>();
        let ledgers = Filter {
            types: types("ledger.listed"),
            ..Filter::default()
        };
        let mut entries = std::pin::pin!(self.read(ledgers));
        while let Some(recorded) = entries.try_next().await? {
            if let Some(Event::LedgerListed(listed)) = event_of(&recorded) {
                if about.is_some_and(|about| about.id() == listed.ledger) {
                    missed.unlisted = false;
                }
                let found = self.ledger_fault(&listed).await?;
                missed.findings.extend(found);
            }
        }
        let checkpoints = Filter {
            types: types("checkpoint.listed"),
            subject: about.map(|about| Subject::of_ledger(about.id())),
            ..Filter::default()
        };
        let restores = match about {
            Some(about) => Some(about.checkpoint_keys().await?),
            None => None,
        };
        let mut entries = std::pin::pin!(self.read(checkpoints));
        while let Some(recorded) = entries.try_next().await? {
            if let Some(Event::CheckpointListed(listed)) = event_of(&recorded) {
                let found = self.checkpoint_fault(&listed).await?;
                let stated =
                    |keys: &CheckpointKeys| keys.lost_exactly(listed.size, &listed.root).is_some();
                if !restores.as_ref().is_some_and(stated) {
                    missed.findings.extend(found);
                }
            }
        }
        Ok(missed)
    }

    async fn ledger_fault(&self, listed: &LedgerListed) -> Result<Option<String>, ReadError> {
        let what = "look for a listed ledger";
        let row = query(
            "select exists (select from ledger.heads h where h.ledger_id = $1) as head, \
                    (select e.hash from ledger.entries e where e.ledger_id = $1 and e.seq = 1) as first",
        )
        .bind(listed.ledger.uuid())
        .fetch_one(self.pool())
        .await
        .map_err(failed(what))?;
        let head: bool = row.try_get("head").map_err(failed(what))?;
        let first: Option<&[u8]> = row.try_get("first").map_err(failed(what))?;
        let (name, id) = (&listed.name, listed.ledger);
        Ok(match first {
            None if !head => Some(format!("ledger {name} ({id}) is gone")),
            _ if !head => Some(format!("ledger {name} ({id}) has lost its head row")),
            Some(first) if Hash::from_slice(first) == Some(listed.first_hash) => None,
            _ => Some(format!("ledger {name} ({id}) begins with another entry")),
        })
    }

    async fn checkpoint_fault(
        &self,
        listed: &CheckpointListed,
    ) -> Result<Option<String>, ReadError> {
        let what = "look for a listed checkpoint";
        // Beside a genuine one may lie some that a writer made up.
        let row = query(
            "select bool_or(root = $3) as same from ledger.checkpoints where ledger_id = $1 and size = $2",
        )
        .bind(listed.ledger.uuid())
        .bind(i64::try_from(listed.size).unwrap_or(i64::MAX))
        .bind(listed.root.0.as_slice())
        .fetch_one(self.pool())
        .await
        .map_err(failed(what))?;
        let same: Option<bool> = row.try_get("same").map_err(failed(what))?;
        let (ledger, size) = (listed.ledger, listed.size);
        Ok(match same {
            None => Some(format!(
                "the published checkpoint of {size} entries of ledger {ledger} is gone"
            )),
            Some(true) => None,
            Some(false) => Some(format!(
                "the checkpoint of {size} entries of ledger {ledger} is not the published one"
            )),
        })
    }
}

fn event_of(recorded: &super::read::Recorded) -> Option<Event> {
    let entry = &recorded.entry;
    let json = recorded.payload.json()?;
    Event::decode(entry.event_type.as_str(), entry.schema, json).ok()
}
