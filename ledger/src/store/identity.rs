//! Subjects: random UUIDs that stand in entries for natural ids, tied to them by erasable rows.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use sqlx::Row as _;

use super::keys::{DataKey, KeyError, WrappedKey, blind, identity_aad, random};
use super::{AppendError, Store, query};
use crate::chain::entry::Hash;
use crate::domain::id::{LedgerId, NameError, Subject};

/// Identities looked up in one statement.
const BATCH: usize = 1_000;

/// A natural id that needs a subject, or has one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Natural {
    /// Kind of the subject, `calendar-event`.
    pub kind: String,
    /// The id as the outside system writes it.
    pub id: String,
    /// Whose key seals it; the subject itself where there is none.
    pub owner: Option<Subject>,
}

/// An identity or key could not be made or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The kind is no name.
    #[error("make a subject")]
    Name(#[source] NameError),
    /// A key is missing or altered.
    #[error("use the keys of ledger {ledger}")]
    Key {
        /// Which ledger.
        ledger: LedgerId,
        /// Why.
        #[source]
        source: KeyError,
    },
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

impl IdentityError {
    pub(super) fn into_append(self, ledger: LedgerId, subject: &Subject) -> AppendError {
        match self {
            Self::Key { source, .. } => AppendError::Key {
                subject: subject.clone(),
                source,
            },
            Self::Database { source, .. } => AppendError::Database {
                ledger,
                count: 1,
                source: Arc::new(source),
            },
            Self::Name(error) => AppendError::Database {
                ledger,
                count: 1,
                source: Arc::new(sqlx::Error::Protocol(error.to_string())),
            },
        }
    }
}

fn database(what: &'static str) -> impl FnOnce(sqlx::Error) -> IdentityError {
    move |source| IdentityError::Database { what, source }
}

struct NewIdentity {
    subject: Subject,
    kind: String,
    owner: Subject,
    blind: Hash,
    natural_id: String,
}

impl Store {
    fn key_error(&self) -> impl Fn(KeyError) -> IdentityError {
        let ledger = self.id();
        move |source| IdentityError::Key { ledger, source }
    }

    /// The data key of an owner, made if there is none.
    pub async fn owner_key(&self, owner: &Subject) -> Result<DataKey, IdentityError> {
        if let Some(key) = self.keys().cached(owner) {
            return Ok(key);
        }
        let mut keys = self.owner_keys(&BTreeSet::from([owner.clone()])).await?;
        keys.remove(owner).ok_or(IdentityError::Key {
            ledger: self.id(),
            source: KeyError::NoKek,
        })
    }

    async fn owner_keys(
        &self,
        owners: &BTreeSet<Subject>,
    ) -> Result<BTreeMap<Subject, DataKey>, IdentityError> {
        let mut found = BTreeMap::new();
        let mut missing = Vec::new();
        for owner in owners {
            match self.keys().cached(owner) {
                Some(key) => drop(found.insert(owner.clone(), key)),
                None => missing.push(owner.clone()),
            }
        }
        for batch in missing.chunks(BATCH) {
            let mut stored = self.stored_keys(batch).await?;
            let absent: Vec<_> = batch
                .iter()
                .filter(|owner| !stored.contains_key(*owner))
                .cloned()
                .collect();
            if !absent.is_empty() {
                let new: Result<Vec<_>, _> = absent
                    .iter()
                    .map(|owner| self.keys().generate(owner))
                    .collect();
                self.call_identify(&new.map_err(self.key_error())?, &[], None)
                    .await?;
                // Another process may have been first: what counts is the row.
                stored.extend(self.stored_keys(&absent).await?);
            }
            for (owner, row) in stored {
                let key = self.keys().unwrap(&row).map_err(self.key_error())?;
                self.keys().cache(owner.clone(), key.clone());
                found.insert(owner, key);
            }
        }
        Ok(found)
    }

    async fn stored_keys(
        &self,
        owners: &[Subject],
    ) -> Result<BTreeMap<Subject, WrappedKey>, IdentityError> {
        let owners: Vec<String> = owners.iter().map(ToString::to_string).collect();
        let rows = query(
            "select key_id, owner, kek_id, nonce, wrapped from ledger.keys \
             where ledger_id = $1 and owner = any($2)",
        )
        .bind(self.id().uuid())
        .bind(owners)
        .fetch_all(self.pool())
        .await
        .map_err(database("read data keys"))?;
        let mut keys = BTreeMap::new();
        for row in rows {
            let key = wrapped_key(&row).map_err(database("read data keys"))?;
            keys.insert(key.owner.clone(), key);
        }
        Ok(keys)
    }

    async fn call_identify(
        &self,
        keys: &[WrappedKey],
        new: &[NewIdentity],
        index_key: Option<&str>,
    ) -> Result<(), IdentityError> {
        let owners: BTreeSet<Subject> = new.iter().map(|identity| identity.owner.clone()).collect();
        let owner_keys = if new.is_empty() {
            BTreeMap::new()
        } else {
            Box::pin(self.owner_keys(&owners)).await?
        };
        let mut key_ids = Vec::new();
        let mut sealed = Vec::new();
        for identity in new {
            let key = owner_keys.get(&identity.owner).ok_or(KeyError::NoKek);
            let key = key.map_err(self.key_error())?;
            let aad = identity_aad(self.id(), &identity.subject);
            sealed.push(
                key.seal(&aad, identity.natural_id.as_bytes())
                    .map_err(self.key_error())?,
            );
            key_ids.push(key.id().to_owned());
        }
        let text = |of: fn(&NewIdentity) -> String| new.iter().map(of).collect::<Vec<_>>();
        query(
            "select ledger.identify($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
        )
        .bind(self.id().uuid())
        .bind(
            keys.iter()
                .map(|key| key.key_id.as_str())
                .collect::<Vec<_>>(),
        )
        .bind(
            keys.iter()
                .map(|key| key.owner.to_string())
                .collect::<Vec<_>>(),
        )
        .bind(
            keys.iter()
                .map(|key| key.kek_id.as_str())
                .collect::<Vec<_>>(),
        )
        .bind(
            keys.iter()
                .map(|key| key.nonce.as_slice())
                .collect::<Vec<_>>(),
        )
        .bind(
            keys.iter()
                .map(|key| key.wrapped.as_slice())
                .collect::<Vec<_>>(),
        )
        .bind(text(|identity| identity.subject.to_string()))
        .bind(text(|identity| identity.kind.clone()))
        .bind(text(|identity| identity.owner.to_string()))
        .bind(
            new.iter()
                .map(|identity| identity.blind.0.to_vec())
                .collect::<Vec<_>>(),
        )
        .bind(key_ids)
        .bind(
            sealed
                .iter()
                .map(|sealed| sealed.nonce.as_slice())
                .collect::<Vec<_>>(),
        )
        .bind(
            sealed
                .iter()
                .map(|sealed| sealed.bytes.as_slice())
                .collect::<Vec<_>>(),
        )
        .bind(index_key)
        .execute(self.pool())
        .await
        .map_err(database("make keys and identities"))?;
        Ok(())
    }

    /// The subjects of these natural ids, in their order; made where there are none.
    pub async fn identify(&self, naturals: &[Natural]) -> Result<Vec<Subject>, IdentityError> {
        let index_key = self.owner_key(&Subject::of_ledger(self.id())).await?;
        let mut subjects = Vec::with_capacity(naturals.len());
        for batch in naturals.chunks(BATCH) {
            let blinds: Vec<Hash> = batch
                .iter()
                .map(|natural| blind(&index_key, &natural.kind, &natural.id))
                .collect();
            let mut known = self.known_subjects(batch, &blinds).await?;
            let mut new: BTreeMap<Hash, NewIdentity> = BTreeMap::new();
            for (natural, blind) in batch.iter().zip(&blinds) {
                if known.contains_key(&(natural.kind.clone(), *blind)) {
                    continue;
                }
                let uuid = uuid::Builder::from_random_bytes(random().map_err(self.key_error())?);
                let subject =
                    Subject::new(&natural.kind, uuid.into_uuid()).map_err(IdentityError::Name)?;
                new.entry(*blind).or_insert_with(|| NewIdentity {
                    owner: natural.owner.clone().unwrap_or_else(|| subject.clone()),
                    subject,
                    kind: natural.kind.clone(),
                    blind: *blind,
                    natural_id: natural.id.clone(),
                });
            }
            if !new.is_empty() {
                let new: Vec<_> = new.into_values().collect();
                self.call_identify(&[], &new, Some(index_key.id())).await?;
                known = self.known_subjects(batch, &blinds).await?;
            }
            for (natural, blind) in batch.iter().zip(blinds) {
                let subject = known.get(&(natural.kind.clone(), blind)).ok_or_else(|| {
                    database("read back a subject just made")(sqlx::Error::RowNotFound)
                })?;
                subjects.push(subject.clone());
            }
        }
        Ok(subjects)
    }

    /// The subject of a natural id, if it has one. Observation makes no identities.
    pub async fn subject_of(&self, kind: &str, id: &str) -> Result<Option<Subject>, IdentityError> {
        let index_key = self.owner_key(&Subject::of_ledger(self.id())).await?;
        let natural = Natural {
            kind: kind.to_owned(),
            id: id.to_owned(),
            owner: None,
        };
        let blind = blind(&index_key, kind, id);
        let mut known = self.known_subjects(&[natural], &[blind]).await?;
        Ok(known.remove(&(kind.to_owned(), blind)))
    }

    async fn known_subjects(
        &self,
        naturals: &[Natural],
        blinds: &[Hash],
    ) -> Result<HashMap<(String, Hash), Subject>, IdentityError> {
        let rows = query(
            "select i.subject, i.kind, i.blind, \
                    exists (select from ledger.entries e \
                            where e.ledger_id = i.ledger_id and e.subject = i.subject) as introduced \
             from ledger.identity i \
             where i.ledger_id = $1 and (i.kind, i.blind) in \
                   (select u.kind, u.blind from unnest($2::text[], $3::bytea[]) as u (kind, blind))",
        )
        .bind(self.id().uuid())
        .bind(naturals.iter().map(|natural| natural.kind.as_str()).collect::<Vec<_>>())
        .bind(blinds.iter().map(|blind| blind.0.to_vec()).collect::<Vec<_>>())
        .fetch_all(self.pool())
        .await
        .map_err(database("look up identities"))?;
        let by_blind: HashMap<Hash, &Natural> =
            blinds.iter().copied().zip(naturals.iter()).collect();
        let read = |row: &sqlx::postgres::PgRow| -> Result<_, sqlx::Error> {
            let subject: Subject = decoded(row, "subject")?;
            let blind = Hash::from_slice(row.try_get("blind")?).unwrap_or(Hash::ZERO);
            Ok((
                row.try_get::<String, _>("kind")?,
                blind,
                subject,
                row.try_get::<bool, _>("introduced")?,
            ))
        };
        let mut known = HashMap::new();
        for row in &rows {
            let (kind, blind, subject, introduced) =
                read(row).map_err(database("look up identities"))?;
            if let (false, Some(natural)) = (introduced, by_blind.get(&blind)) {
                self.to_introduce()
                    .insert(subject.clone(), natural.id.clone());
            }
            known.insert((kind, blind), subject);
        }
        Ok(known)
    }

    /// The natural id behind a subject, for who holds the keys. `None` where there is no row: none was made, or it was erased.
    pub async fn natural_id(&self, subject: &Subject) -> Result<Option<String>, IdentityError> {
        let row = query(
            "select owner, nonce, sealed from ledger.identity where ledger_id = $1 and subject = $2",
        )
        .bind(self.id().uuid())
        .bind(subject.to_string())
        .fetch_optional(self.pool())
        .await
        .map_err(database("read an identity"))?;
        let Some(row) = row else { return Ok(None) };
        let read = || -> Result<(Subject, Vec<u8>, Vec<u8>), sqlx::Error> {
            Ok((
                decoded(&row, "owner")?,
                row.try_get("nonce")?,
                row.try_get("sealed")?,
            ))
        };
        let (owner, nonce, sealed) = read().map_err(database("read an identity"))?;
        let key = self.owner_key(&owner).await?;
        let aad = identity_aad(self.id(), subject);
        let id = key.open(&aad, &nonce, &sealed).map_err(self.key_error())?;
        Ok(String::from_utf8(id).ok())
    }

    /// Whose key seals what is said about a subject: the owner in its identity row, else the subject itself.
    pub async fn owner_of(&self, subject: &Subject) -> Result<Subject, IdentityError> {
        let row = query("select owner from ledger.identity where ledger_id = $1 and subject = $2")
            .bind(self.id().uuid())
            .bind(subject.to_string())
            .fetch_optional(self.pool())
            .await
            .map_err(database("read an identity"))?;
        match row {
            Some(row) => decoded(&row, "owner").map_err(database("read an identity")),
            None => Ok(subject.clone()),
        }
    }

    /// HMAC of some bytes under an owner's key, for content that is compared and never kept.
    pub async fn owner_digest(&self, owner: &Subject, bytes: &[u8]) -> Result<Hash, IdentityError> {
        Ok(self.owner_key(owner).await?.digest("ledger-body-v1", bytes))
    }
}

/// Reads a text column as one of our names.
pub(super) fn decoded<T>(row: &sqlx::postgres::PgRow, column: &str) -> Result<T, sqlx::Error>
where
    T: std::str::FromStr<Err = NameError>,
{
    let text: &str = row.try_get(column)?;
    text.parse()
        .map_err(|error: NameError| sqlx::Error::ColumnDecode {
            index: column.to_owned(),
            source: Box::new(error),
        })
}

pub(super) fn wrapped_key(row: &sqlx::postgres::PgRow) -> Result<WrappedKey, sqlx::Error> {
    Ok(WrappedKey {
        key_id: row.try_get("key_id")?,
        owner: decoded(row, "owner")?,
        kek_id: row.try_get("kek_id")?,
        nonce: row.try_get("nonce")?,
        wrapped: row.try_get("wrapped")?,
    })
}
