//! Destroys what is about one owner, in one transaction with the entry that says so, and puts what remains under another
//! key-encryption key.
//!
//! A crash before the commit leaves everything as it was, one after it leaves it done: nothing lies between. Destroying the
//! old key-encryption key wherever it is kept is the caller's, after the commit; until then a backup still opens.

use std::collections::{BTreeSet, HashMap};

use sqlx::{PgConnection, Row as _};

use super::append::{AppendError, RowResult, append_in};
use super::identity::wrapped_key;
use super::keys::{DataKey, Kek, KeyError, KeyRing, WrappedKey, blind, identity_aad};
use super::{Clock, Store, plain_row, query};
use crate::chain::entry::{Entry, Hash};
use crate::domain::erasure::{KeysRewrapped, Ranges, SubjectErased};
use crate::domain::event::Event;
use crate::domain::id::{Actor, EntryId, IdempotencyKey, LedgerId, Subject, Timestamp};

/// How often an erasure begins anew because something about the owner was written meanwhile.
const ATTEMPTS: u32 = 8;

/// Each statement has to see what was committed while it waited for a lock, whatever the server's default.
const BEGIN: &str = "begin isolation level read committed";

/// An erasure did not happen. Nothing was destroyed, unless it is [`EraseError::CommitUnknown`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EraseError {
    /// There is no data key, so nothing is sealed for this owner.
    #[error("nothing is held on {0}: it has no data key")]
    Nothing(Subject),
    /// Some of the payloads are not what was stored: erasing them would hide that.
    #[error(
        "the payloads of entries {altered} are not what was stored; erasing them would hide it"
    )]
    Altered {
        /// Which entries.
        altered: Ranges,
    },
    /// A data key or natural id cannot be opened, and so not be kept.
    #[error("open the keys of ledger {ledger}, all of which are wrapped anew")]
    Key {
        /// Which ledger.
        ledger: LedgerId,
        /// Why.
        #[source]
        source: KeyError,
    },
    /// The new key-encryption key is the one in use.
    #[error("the new key-encryption key is the old one")]
    SameKek,
    /// A data key was made under the old key-encryption key meanwhile.
    #[error("key-encryption key {kek} still wraps keys of ledger {ledger}")]
    StillWraps {
        /// The old key-encryption key.
        kek: String,
        /// A ledger with such keys.
        ledger: LedgerId,
    },
    /// The key-encryption key at hand is one that an erasure replaced.
    #[error("key-encryption key {0} was replaced by an erasure")]
    Replaced(String),
    /// Something that may stand against the erasure was recorded after it was looked for.
    #[error("entry {seq} was recorded meanwhile and may stand against the erasure")]
    Changed {
        /// The first such entry.
        seq: u64,
    },
    /// This request was executed before.
    #[error("request {0} was executed before")]
    Done(EntryId),
    /// Something stands against it that was not there when the program looked, a hold say.
    #[error("the database refused the erasure")]
    Refused(#[source] sqlx::Error),
    /// The entry could not be made.
    #[error("record the erasure")]
    Append(#[source] AppendError),
    /// The connection broke at the commit. Run it again: it then finds out.
    #[error("the erasure was committed, or not: no answer came")]
    CommitUnknown(#[source] sqlx::Error),
    /// The database's answer.
    #[error("{what}")]
    Database {
        /// What was tried.
        what: &'static str,
        /// Its answer.
        #[source]
        source: sqlx::Error,
    },
}

fn failed(what: &'static str) -> impl FnOnce(sqlx::Error) -> EraseError {
    move |source| EraseError::Database { what, source }
}

/// What an owner's erasure would destroy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erasable {
    /// The owner's data key.
    pub key_id: String,
    /// Payloads that it seals.
    pub payloads: u64,
    /// Their entries.
    pub ranges: Ranges,
    /// Digest of what is stored.
    pub stored: Hash,
    /// Those that are not what their entry says was stored.
    pub altered: Ranges,
    /// The owner's subjects with an identity, itself included.
    pub subjects: Vec<Subject>,
}

/// An erasure that is committed.
#[derive(Debug, Clone)]
pub struct Erased {
    /// The entry.
    pub entry: Entry,
    /// Its hash.
    pub hash: Hash,
    /// What it says.
    pub said: SubjectErased,
}

impl Store {
    /// What an owner's erasure would destroy now; `None` where nothing is held.
    pub async fn erasable(&self, owner: &Subject) -> Result<Option<Erasable>, EraseError> {
        let mut connection = self.pool().acquire().await.map_err(failed("connect"))?;
        erasable(&mut connection, self.id(), owner).await
    }

    /// The key-encryption key that wraps this ledger's keys now, by its id.
    pub async fn kek_in_force(&self) -> Result<String, EraseError> {
        kek_in_force(self.pool(), self.id()).await
    }

    /// Erases an owner with all it owns. `said` holds who, why and what else is to be recorded; what is destroyed and by which
    /// keys what remains is wrapped is filled in here. Every other ledger of the database whose keys the old key-encryption
    /// key wraps goes along, each with an entry.
    ///
    /// # Errors
    /// See [`EraseError`]. `ledger.erase` itself refuses what was not requested, not approved by two, or is held.
    pub async fn erase(
        &self,
        owner: &Subject,
        actor: &Actor,
        said: &SubjectErased,
        next: &Kek,
    ) -> Result<Erased, EraseError> {
        self.erase_as_of(owner, actor, said, next, None).await
    }

    /// [`Store::erase`], only if nothing about the owner's subjects, no legal hold and no retention was recorded behind the
    /// entries that the caller looked at.
    ///
    /// # Errors
    /// [`EraseError::Changed`], and as [`Store::erase`].
    pub async fn erase_as_of(
        &self,
        owner: &Subject,
        actor: &Actor,
        said: &SubjectErased,
        next: &Kek,
        looked_at: Option<u64>,
    ) -> Result<Erased, EraseError> {
        self.is_writable().map_err(EraseError::Append)?;
        let mut attempt = 1;
        loop {
            match self.erase_once(owner, actor, said, next, looked_at).await {
                Err(EraseError::Database { source, .. })
                    if attempt < ATTEMPTS && is_serialization(&source) =>
                {
                    attempt += 1;
                }
                other => {
                    self.keys().forget();
                    if other.is_ok() {
                        self.keys().adopt(next);
                    }
                    return other;
                }
            }
        }
    }

    async fn erase_once(
        &self,
        owner: &Subject,
        actor: &Actor,
        said: &SubjectErased,
        next: &Kek,
        looked_at: Option<u64>,
    ) -> Result<Erased, EraseError> {
        let mut transaction = self
            .pool()
            .begin_with(BEGIN)
            .await
            .map_err(failed("begin the erasure"))?;
        let erased = self
            .erase_within(&mut transaction, (owner, actor), said, next, looked_at)
            .await;
        if erased.is_ok() {
            transaction
                .commit()
                .await
                .map_err(EraseError::CommitUnknown)?;
        } else {
            // At once: the lock on the head would last until somebody takes the connection up again.
            drop(transaction.rollback().await);
        }
        erased
    }

    async fn erase_within(
        &self,
        connection: &mut PgConnection,
        (owner, actor): (&Subject, &Actor),
        said: &SubjectErased,
        next: &Kek,
        looked_at: Option<u64>,
    ) -> Result<Erased, EraseError> {
        let id = self.id();
        let keys_failed = |source| EraseError::Key { ledger: id, source };
        let doomed = erasable(connection, id, owner)
            .await?
            .ok_or_else(|| EraseError::Nothing(owner.clone()))?;
        if !doomed.altered.is_empty() && said.overridden.is_none() {
            return Err(EraseError::Altered {
                altered: doomed.altered,
            });
        }
        let kek_before = kek_in_force(&mut *connection, id).await?;
        if kek_before == next.id() {
            return Err(EraseError::SameKek);
        }
        let ring = KeyRing::new(id, self.keys().keks());
        let index_owner = Subject::of_ledger(id);
        let rows = wrapped_keys(connection, id).await?;
        let kept = rows
            .iter()
            .filter(|row| row.owner != *owner && row.owner != index_owner);
        let (rewrapped, opened) = rewrap(&ring, kept, next).map_err(keys_failed)?;
        let (index_row, index_key) = ring
            .generate_under(next, &index_owner)
            .map_err(keys_failed)?;
        let (subjects, blinds) = reindexed(connection, id, owner, &opened, &index_key).await?;

        let mut concerned: Vec<String> = doomed.subjects.iter().map(Subject::to_string).collect();
        concerned.push(owner.to_string());
        let said = SubjectErased {
            key_id: doomed.key_id,
            payloads: doomed.payloads,
            identities: doomed.subjects.len() as u64,
            ranges: doomed.ranges,
            stored: doomed.stored,
            altered: doomed.altered,
            index_key: index_row.key_id.clone(),
            kek: next.id().to_owned(),
            kek_before: kek_before.clone(),
            ..said.clone()
        };
        let about = About {
            ledger: id,
            subject: owner.clone(),
            actor,
            key: format!("erase/{}", said.request).parse().ok(),
            cause: Some(said.request),
        };
        let event = Event::SubjectErased(said.clone());
        let announced = announce(connection, self.clock(), about, &event).await?;
        let entry = announced.ok_or(EraseError::Done(said.request))?;
        // The head is locked from here on: nothing comes in between any more.
        if let Some(looked_at) = looked_at {
            let between = (looked_at, entry.seq);
            if let Some(seq) = changed(connection, id, between, &concerned).await? {
                return Err(EraseError::Changed { seq });
            }
        }
        query("select ledger.erase($1, $2, $3, $4, $5)")
            .bind(id.uuid())
            .bind(&index_row.nonce)
            .bind(&index_row.wrapped)
            .bind(subjects)
            .bind(blinds)
            .execute(&mut *connection)
            .await
            .map_err(|source| {
                if has_code(&source, &["55000"]) {
                    EraseError::Refused(source)
                } else {
                    failed("destroy what the owner's key seals")(source)
                }
            })?;
        call_rewrap(connection, id, &rewrapped).await?;
        let wrapped = wrapped_by(connection, &kek_before).await?;
        for other in wrapped.into_iter().filter(|other| *other != id) {
            self.rewrap_other(connection, other, actor, &kek_before, next)
                .await?;
        }
        Ok(Erased {
            hash: entry.hash(),
            entry,
            said,
        })
    }

    /// Puts every ledger of this database, this one too, that a key-encryption key still wraps under the one in force here. For
    /// what was made while an erasure ran: the old key may go only when nothing is wrapped by it.
    ///
    /// # Errors
    /// The database's; keys that do not open; [`EraseError::StillWraps`] where at the end a key is wrapped by it yet.
    pub async fn rewrap_rest(
        &self,
        actor: &Actor,
        kek_before: &str,
        kek: &Kek,
    ) -> Result<u64, EraseError> {
        let mut rewrapped = 0;
        let mut connection = self.pool().acquire().await.map_err(failed("connect"))?;
        for other in wrapped_by(&mut connection, kek_before).await? {
            let mut transaction = self
                .pool()
                .begin_with(BEGIN)
                .await
                .map_err(failed("begin to wrap keys anew"))?;
            self.rewrap_other(&mut transaction, other, actor, kek_before, kek)
                .await?;
            transaction
                .commit()
                .await
                .map_err(EraseError::CommitUnknown)?;
            rewrapped += 1;
        }
        if let Some(ledger) = wrapped_by(&mut connection, kek_before).await?.first() {
            return Err(EraseError::StillWraps {
                kek: kek_before.to_owned(),
                ledger: *ledger,
            });
        }
        Ok(rewrapped)
    }

    async fn rewrap_other(
        &self,
        transaction: &mut PgConnection,
        other: LedgerId,
        actor: &Actor,
        kek_before: &str,
        next: &Kek,
    ) -> Result<(), EraseError> {
        let ring = KeyRing::new(other, self.keys().keks());
        let rows = wrapped_keys(transaction, other).await?;
        let (rewrapped, _) =
            rewrap(&ring, rows.iter(), next).map_err(|source| EraseError::Key {
                ledger: other,
                source,
            })?;
        let event = Event::KeysRewrapped(KeysRewrapped {
            kek: next.id().to_owned(),
            kek_before: kek_before.to_owned(),
            keys: rewrapped.len() as u64,
            because_of: Subject::of_ledger(self.id()),
        });
        let about = About {
            ledger: other,
            subject: Subject::of_ledger(other),
            actor,
            key: None,
            cause: None,
        };
        announce(transaction, self.clock(), about, &event).await?;
        call_rewrap(transaction, other, &rewrapped).await
    }
}

/// Puts the key-encryption key that wraps a ledger's keys now in front of the others: what is new is wrapped by it.
///
/// # Errors
/// The database's.
pub async fn in_force_first(
    pool: &sqlx::PgPool,
    ledger: LedgerId,
    mut keks: Vec<Kek>,
) -> Result<Vec<Kek>, EraseError> {
    if keks.len() < 2 {
        return Ok(keks);
    }
    match kek_in_force(pool, ledger).await {
        Ok(in_force) => keks.sort_by_key(|kek| kek.id() != in_force),
        // A ledger whose index key is gone is for `verify` to tell of.
        Err(EraseError::Database {
            source: sqlx::Error::RowNotFound,
            ..
        }) => {}
        Err(error) => return Err(error),
    }
    Ok(keks)
}

/// Puts the key-encryption keys that are in force in a database in front of the others, for a ledger that is to be made in it.
///
/// # Errors
/// [`EraseError::Replaced`] where an erasure in this database replaced the first and none in force is at hand.
pub async fn for_new_ledger(
    pool: &sqlx::PgPool,
    mut keks: Vec<Kek>,
) -> Result<Vec<Kek>, EraseError> {
    const WHAT: &str = "look for the key-encryption keys in force and replaced";
    let all = async |sql: &'static str| -> Result<BTreeSet<String>, EraseError> {
        let rows = query(sql).fetch_all(pool).await.map_err(failed(WHAT))?;
        let ids = rows.iter().map(|row| row.try_get("kek_id"));
        ids.collect::<Result<_, _>>().map_err(failed(WHAT))
    };
    let in_force =
        all("select kek_id from ledger.keys where owner = 'ledger:' || ledger_id").await?;
    keks.sort_by_key(|kek| !in_force.contains(kek.id()));
    if let Some(first) = keks.first().filter(|kek| !in_force.contains(kek.id())) {
        let replaced = all("select convert_from(substr(p.bytes, 33), 'UTF8')::jsonb ->> 'kek_before' as kek_id \
             from ledger.entries e join ledger.payloads p on p.ledger_id = e.ledger_id and p.seq = e.seq \
             where e.type in ('subject.erased', 'keys.rewrapped') and p.algorithm = 'plain'")
        .await?;
        if replaced.contains(first.id()) {
            return Err(EraseError::Replaced(first.id().to_owned()));
        }
    }
    Ok(keks)
}

/// Every ledger of a database.
///
/// # Errors
/// The database's.
pub async fn ledgers_of(pool: &sqlx::PgPool) -> Result<BTreeSet<LedgerId>, EraseError> {
    const WHAT: &str = "list the ledgers";
    let rows = query("select ledger_id from ledger.heads")
        .fetch_all(pool)
        .await
        .map_err(failed(WHAT))?;
    rows.iter()
        .map(|row| row.try_get("ledger_id").map(LedgerId::new))
        .collect::<Result<_, _>>()
        .map_err(failed(WHAT))
}

/// The first entry between two others that may change whether these subjects may be erased.
async fn changed(
    connection: &mut PgConnection,
    ledger: LedgerId,
    (after, before): (u64, u64),
    subjects: &[String],
) -> Result<Option<u64>, EraseError> {
    const WHAT: &str = "look at what was recorded meanwhile";
    let row = query(
        "select min(seq) as seq from ledger.entries where ledger_id = $1 and seq > $2 and seq < $3 \
         and (subject = any($4) or type in ('legal_hold.placed', 'retention.set'))",
    )
    .bind(ledger.uuid())
    .bind(after.cast_signed())
    .bind(before.cast_signed())
    .bind(subjects)
    .fetch_one(connection)
    .await
    .map_err(failed(WHAT))?;
    let seq: Option<i64> = row.try_get("seq").map_err(failed(WHAT))?;
    Ok(seq.map(i64::unsigned_abs))
}

fn is_serialization(error: &sqlx::Error) -> bool {
    has_code(error, &["40001", "40P01"])
}

fn has_code(error: &sqlx::Error, codes: &[&str]) -> bool {
    let code = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| codes.contains(&code.as_ref()))
}

async fn erasable(
    connection: &mut PgConnection,
    ledger: LedgerId,
    owner: &Subject,
) -> Result<Option<Erasable>, EraseError> {
    const WHAT: &str = "look at what the owner's key seals";
    let key = query("select key_id from ledger.keys where ledger_id = $1 and owner = $2")
        .bind(ledger.uuid())
        .bind(owner.to_string())
        .fetch_optional(&mut *connection)
        .await
        .map_err(failed(WHAT))?;
    let Some(key) = key else { return Ok(None) };
    let key_id: String = key.try_get("key_id").map_err(failed(WHAT))?;
    let row = query(
        "select payloads, ranges::text as ranges, stored, altered::text as altered from ledger.erasable($1, $2)",
    )
    .bind(ledger.uuid())
    .bind(&key_id)
    .fetch_one(&mut *connection)
    .await
    .map_err(failed(WHAT))?;
    let subjects = query(
        "select subject from ledger.identity where ledger_id = $1 and owner = $2 order by subject",
    )
    .bind(ledger.uuid())
    .bind(owner.to_string())
    .fetch_all(connection)
    .await
    .map_err(failed(WHAT))?;
    let ranges = |column: &str| -> Result<Ranges, sqlx::Error> {
        let text: &str = row.try_get(column)?;
        serde_json::from_str(text).map_err(|error| sqlx::Error::Decode(Box::new(error)))
    };
    let read = || -> Result<Erasable, sqlx::Error> {
        Ok(Erasable {
            key_id,
            payloads: row.try_get::<i64, _>("payloads")?.unsigned_abs(),
            ranges: ranges("ranges")?,
            stored: Hash::from_slice(row.try_get("stored")?).unwrap_or(Hash::ZERO),
            altered: ranges("altered")?,
            subjects: subjects
                .iter()
                .map(|row| super::identity::decoded(row, "subject"))
                .collect::<Result<_, _>>()?,
        })
    };
    read().map(Some).map_err(failed(WHAT))
}

async fn kek_in_force(
    connection: impl sqlx::PgExecutor<'_>,
    ledger: LedgerId,
) -> Result<String, EraseError> {
    query("select kek_id from ledger.keys where ledger_id = $1 and owner = $2")
        .bind(ledger.uuid())
        .bind(Subject::of_ledger(ledger).to_string())
        .fetch_one(connection)
        .await
        .and_then(|row| row.try_get("kek_id"))
        .map_err(failed("read which key-encryption key is in force"))
}

/// The ledgers of the database that have keys under this key-encryption key.
async fn wrapped_by(connection: &mut PgConnection, kek: &str) -> Result<Vec<LedgerId>, EraseError> {
    const WHAT: &str = "look for ledgers under the same key-encryption key";
    let rows =
        query("select distinct ledger_id from ledger.keys where kek_id = $1 order by ledger_id")
            .bind(kek)
            .fetch_all(connection)
            .await
            .map_err(failed(WHAT))?;
    rows.iter()
        .map(|row| row.try_get("ledger_id").map(LedgerId::new))
        .collect::<Result<_, _>>()
        .map_err(failed(WHAT))
}

async fn wrapped_keys(
    connection: &mut PgConnection,
    ledger: LedgerId,
) -> Result<Vec<WrappedKey>, EraseError> {
    const WHAT: &str = "read the data keys";
    let rows = query(
        "select key_id, owner, kek_id, nonce, wrapped from ledger.keys where ledger_id = $1 order by key_id",
    )
    .bind(ledger.uuid())
    .fetch_all(connection)
    .await
    .map_err(failed(WHAT))?;
    rows.iter()
        .map(wrapped_key)
        .collect::<Result<_, _>>()
        .map_err(failed(WHAT))
}

type Opened = HashMap<String, DataKey>;

fn rewrap<'a>(
    ring: &KeyRing,
    rows: impl Iterator<Item = &'a WrappedKey>,
    next: &Kek,
) -> Result<(Vec<WrappedKey>, Opened), KeyError> {
    let mut rewrapped = Vec::new();
    let mut opened = HashMap::new();
    for row in rows {
        let key = ring.unwrap(row)?;
        rewrapped.push(ring.wrap(next, &row.owner, &key)?);
        opened.insert(row.key_id.clone(), key);
    }
    Ok((rewrapped, opened))
}

/// Every identity that remains, with its blind index under the new index key.
async fn reindexed(
    connection: &mut PgConnection,
    ledger: LedgerId,
    erased: &Subject,
    opened: &Opened,
    index_key: &DataKey,
) -> Result<(Vec<String>, Vec<Vec<u8>>), EraseError> {
    const WHAT: &str = "read the identities";
    let rows = query(
        "select subject, kind, key_id, nonce, sealed from ledger.identity where ledger_id = $1 and owner <> $2",
    )
    .bind(ledger.uuid())
    .bind(erased.to_string())
    .fetch_all(connection)
    .await
    .map_err(failed(WHAT))?;
    let mut subjects = Vec::with_capacity(rows.len());
    let mut blinds = Vec::with_capacity(rows.len());
    for row in &rows {
        let subject: Subject = super::identity::decoded(row, "subject").map_err(failed(WHAT))?;
        let kind: &str = row.try_get("kind").map_err(failed(WHAT))?;
        let key_id: &str = row.try_get("key_id").map_err(failed(WHAT))?;
        let nonce: &[u8] = row.try_get("nonce").map_err(failed(WHAT))?;
        let sealed: &[u8] = row.try_get("sealed").map_err(failed(WHAT))?;
        let unopened = || KeyError::Open {
            key_id: key_id.to_owned(),
        };
        let natural = opened
            .get(key_id)
            .ok_or_else(unopened)
            .and_then(|key| key.open(&identity_aad(ledger, &subject), nonce, sealed))
            .and_then(|bytes| String::from_utf8(bytes).map_err(|_| unopened()))
            .map_err(|source| EraseError::Key { ledger, source })?;
        subjects.push(subject.to_string());
        blinds.push(blind(index_key, kind, &natural).0.to_vec());
    }
    Ok((subjects, blinds))
}

/// Where an announcing entry goes.
struct About<'a> {
    ledger: LedgerId,
    subject: Subject,
    actor: &'a Actor,
    key: Option<IdempotencyKey>,
    cause: Option<EntryId>,
}

/// Appends the entry that allows what follows it in the same transaction. `None`: its key was used before.
async fn announce(
    transaction: &mut PgConnection,
    clock: &Clock,
    about: About<'_>,
    event: &Event,
) -> Result<Option<Entry>, EraseError> {
    let refused = |why: String| {
        EraseError::Append(AppendError::Payload {
            event_type: event.name().to_owned(),
            why,
        })
    };
    let event_type = event
        .name()
        .parse()
        .map_err(|error: crate::domain::id::NameError| refused(error.to_string()))?;
    let payload = event
        .to_json()
        .map_err(|error| refused(error.to_string()))?;
    if payload.len() > crate::chain::entry::PAYLOAD_BYTES_MAX {
        return Err(refused(
            "it names too many entries for one payload".to_owned(),
        ));
    }
    let mut row = plain_row(
        clock,
        event_type,
        &payload,
        about.subject,
        about.actor.clone(),
    )
    .map_err(|source| EraseError::Key {
        ledger: about.ledger,
        source,
    })?;
    if let Some(key) = about.key {
        row.key = key;
    }
    row.cause = about.cause;
    row.recorded_at = simulated_time(transaction, about.ledger).await?;
    if let Some(time) = row.recorded_at {
        row.occurred_at = time;
    }
    let mut results = append_in(transaction, about.ledger, &[&row])
        .await
        .map_err(failed("append the entry of the erasure"))?;
    match results.pop() {
        Some(Ok(RowResult::Appended(entry))) => Ok(Some(entry)),
        Some(Ok(RowResult::Replayed(_) | RowResult::KeyReused { .. })) => Ok(None),
        Some(Err(error)) => Err(EraseError::Append(error)),
        _ => Err(EraseError::Append(AppendError::Closed)),
    }
}

/// The head's time, in a ledger whose clock is its caller's.
async fn simulated_time(
    connection: &mut PgConnection,
    ledger: LedgerId,
) -> Result<Option<Timestamp>, EraseError> {
    const WHAT: &str = "read the head";
    let row = query("select clock, recorded_at from ledger.heads where ledger_id = $1")
        .bind(ledger.uuid())
        .fetch_one(connection)
        .await
        .map_err(failed(WHAT))?;
    if row.try_get::<&str, _>("clock").map_err(failed(WHAT))? != "simulated" {
        return Ok(None);
    }
    let time: Option<chrono::DateTime<chrono::Utc>> =
        row.try_get("recorded_at").map_err(failed(WHAT))?;
    Ok(time.and_then(|time| Timestamp::new(time).ok()))
}

async fn call_rewrap(
    transaction: &mut PgConnection,
    ledger: LedgerId,
    rewrapped: &[WrappedKey],
) -> Result<(), EraseError> {
    fn all<'a, T>(rows: &'a [WrappedKey], of: impl Fn(&'a WrappedKey) -> T) -> Vec<T> {
        rows.iter().map(of).collect()
    }
    query("select ledger.rewrap($1, $2, $3, $4)")
        .bind(ledger.uuid())
        .bind(all(rewrapped, |row| row.key_id.as_str()))
        .bind(all(rewrapped, |row| row.nonce.as_slice()))
        .bind(all(rewrapped, |row| row.wrapped.as_slice()))
        .execute(transaction)
        .await
        .map(drop)
        .map_err(failed("wrap the data keys anew"))
}
