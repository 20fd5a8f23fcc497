//! Payloads: checked, salted, sealed; and opened again for who may read them.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::erasures::Erasure;
use super::keys::{KeyError, SEALED, payload_aad, random};
use super::{AppendError, Draft, Given, Sealing, Store, query};
use crate::chain::canonical;
use crate::chain::entry::{
    Entry, Hash, PAYLOAD_BYTES_MAX, PLAIN, SALT_BYTES, commitment, commitment_of_salted,
};
use crate::domain::id::{EntryId, IdempotencyKey};

/// The reserved first member of a payload that introduces its subject: verify compares it with the identity row, so that a
/// swapped row is found. Readers see it beside the payload, not in it.
const NATURAL_ID: &str = "{\"natural_id\":";

/// Whether salt ‖ payload introduces its subject.
pub(super) fn introduces(salted: &[u8]) -> bool {
    salted
        .get(SALT_BYTES..)
        .is_some_and(|text| text.starts_with(NATURAL_ID.as_bytes()))
}

/// Salt ‖ payload, which is what is stored, in plain or sealed.
#[derive(Debug)]
pub(super) struct Salted(Zeroizing<Vec<u8>>, Hash);

impl Salted {
    pub(super) fn new(payload: &str) -> Result<Self, KeyError> {
        let salt: [u8; SALT_BYTES] = random()?;
        let bytes = [&salt[..], payload.as_bytes()].concat();
        Ok(Self(
            Zeroizing::new(bytes),
            commitment(&salt, payload.as_bytes()),
        ))
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0.to_vec()
    }

    pub(super) fn commitment(&self) -> Hash {
        self.1
    }
}

/// A payload as its row will hold it.
#[derive(Debug)]
pub(super) struct SealedPayload {
    pub(super) algorithm: &'static str,
    pub(super) key_id: String,
    pub(super) nonce: Vec<u8>,
    pub(super) bytes: Vec<u8>,
}

/// The key of an entry whose caller gave none.
pub(super) fn key_of(id: EntryId) -> IdempotencyKey {
    #[expect(
        clippy::expect_used,
        reason = "a UUID's text is of the names' alphabet"
    )]
    id.to_string().parse().expect("a UUID is a key")
}

/// A payload as a reader gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PayloadText {
    /// The JSON text, byte for byte as it was given, and the natural id that it introduced.
    Open {
        /// The payload.
        json: String,
        /// The natural id of the subject, in the first entry about it.
        natural_id: Option<String>,
    },
    /// Sealed, and the key is not at hand.
    Sealed,
    /// It was erased, by this erasure.
    Erased(Arc<Erasure>),
    /// There is no payload row, and no entry says that it was erased.
    Gone,
    /// It does not open, or is not what was committed to: see `ledger verify`.
    Damaged,
}

impl PayloadText {
    /// Takes salt ‖ payload apart.
    pub(crate) fn from_salted(salted: &[u8]) -> Self {
        let text = salted
            .get(SALT_BYTES..)
            .and_then(|bytes| std::str::from_utf8(bytes).ok());
        match text {
            None => Self::Damaged,
            Some(text) => {
                let (natural_id, json) = split_natural_id(text);
                Self::Open { json, natural_id }
            }
        }
    }

    /// Takes salt ‖ payload apart where it is what the entry committed to.
    pub(crate) fn from_committed(entry: &Entry, salted: &[u8]) -> Self {
        if commitment_of_salted(salted) == Some(entry.commitment) {
            Self::from_salted(salted)
        } else {
            Self::Damaged
        }
    }

    /// The JSON text, where it is open.
    pub fn json(&self) -> Option<&str> {
        match self {
            Self::Open { json, .. } => Some(json),
            _ => None,
        }
    }
}

/// Puts the natural id in front of the members of an object.
fn with_natural_id(payload: &str, natural_id: &str) -> String {
    let mut id = Vec::new();
    canonical::write_string(natural_id, &mut id);
    let id = String::from_utf8_lossy(&id);
    let rest = payload.trim_start().trim_start_matches('{');
    let comma = if rest.trim_start().starts_with('}') {
        ""
    } else {
        ","
    };
    format!("{NATURAL_ID}{id}{comma}{rest}")
}

/// The reverse of [`with_natural_id`].
fn split_natural_id(text: &str) -> (Option<String>, String) {
    let Some(rest) = text.strip_prefix(NATURAL_ID) else {
        return (None, text.to_owned());
    };
    let mut strings = serde_json::Deserializer::from_str(rest).into_iter::<String>();
    match strings.next() {
        Some(Ok(natural_id)) => {
            let members = rest[strings.byte_offset()..].trim_start_matches(',');
            (Some(natural_id), format!("{{{members}"))
        }
        _ => (None, text.to_owned()),
    }
}

impl Store {
    /// Checks a payload and adds the natural id where its entry is the first about the subject.
    pub(super) fn introduce(&self, draft: &Draft) -> Result<String, AppendError> {
        let refused = |why: String| AppendError::Payload {
            event_type: draft.event_type.to_string(),
            why,
        };
        if draft.payload.len() > PAYLOAD_BYTES_MAX {
            return Err(refused(format!(
                "it has more than {PAYLOAD_BYTES_MAX} bytes"
            )));
        }
        let value = canonical::parse(draft.payload.as_bytes()).map_err(|e| refused(e.reason()))?;
        let Some(members) = value.as_object() else {
            return Err(refused("it must be an object".to_owned()));
        };
        if members.contains_key("natural_id") {
            return Err(refused("the member `natural_id` is reserved".to_owned()));
        }
        if draft.sealing == Sealing::Plain {
            return Ok(draft.payload.clone());
        }
        let natural_id = self.to_introduce().get(&draft.subject).cloned();
        let Some(natural_id) = natural_id else {
            return Ok(draft.payload.clone());
        };
        let payload = with_natural_id(&draft.payload, &natural_id);
        if payload.len() > PAYLOAD_BYTES_MAX {
            return Err(refused(format!(
                "with the natural id of its subject, which the first entry about it carries, \
                 it has more than {PAYLOAD_BYTES_MAX} bytes"
            )));
        }
        Ok(payload)
    }

    pub(super) async fn seal(
        &self,
        id: EntryId,
        draft: &Draft,
        salted: &Salted,
    ) -> Result<SealedPayload, AppendError> {
        let Sealing::Owner(owner) = &draft.sealing else {
            return Ok(SealedPayload {
                algorithm: PLAIN,
                key_id: String::new(),
                nonce: Vec::new(),
                bytes: salted.0.to_vec(),
            });
        };
        let key = self
            .owner_key(owner)
            .await
            .map_err(|error| error.into_append(self.id(), &draft.subject))?;
        let aad = payload_aad(self.id(), id, &draft.event_type);
        let sealed = key
            .seal(&aad, &salted.0)
            .map_err(|source| AppendError::Key {
                subject: draft.subject.clone(),
                source,
            })?;
        Ok(SealedPayload {
            algorithm: SEALED,
            key_id: key.id().to_owned(),
            nonce: sealed.nonce,
            bytes: sealed.bytes,
        })
    }

    /// Compares the payload behind a replayed key, which SQL could not open, with what the caller gave.
    pub(super) async fn check_replay(
        &self,
        entry: &Entry,
        given: &Given,
    ) -> Result<(), AppendError> {
        if !given.sealed {
            return Ok(());
        }
        let seq = i64::try_from(entry.seq).unwrap_or(i64::MAX);
        let database = |source: sqlx::Error| AppendError::Database {
            ledger: self.id(),
            count: 1,
            source: std::sync::Arc::new(source),
        };
        let row = query(
            "select algorithm, key_id, nonce, bytes from ledger.payloads \
             where ledger_id = $1 and seq = $2",
        )
        .bind(self.id().uuid())
        .bind(seq)
        .fetch_optional(self.pool())
        .await
        .map_err(database)?;
        // After an erasure the key alone decides.
        let Some(row) = row else { return Ok(()) };
        let first = self.open_payload(entry, &row).await.map_err(database)?;
        match first {
            PayloadText::Open { json, .. } if json != given.payload => {
                Err(AppendError::KeyReused {
                    key: entry.key.clone(),
                    seq: entry.seq,
                })
            }
            PayloadText::Damaged => Err(AppendError::Corrupt {
                seq: entry.seq,
                what: "the payload found by its key does not open",
            }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_natural_id_goes_in_and_comes_out_without_touching_the_payload() {
        for payload in [
            "{}",
            "{ }",
            "{\"a\":1}",
            "{ \"a\" : [1, 2]\n}",
            " {\"a\":\"}{\"}",
        ] {
            for id in ["x", "", "a\"b\\", "{,}", "名前\n\u{1f600}"] {
                let with = with_natural_id(payload, id);
                canonical::check(with.as_bytes()).unwrap();
                let (found, without) = split_natural_id(&with);
                assert_eq!(found.as_deref(), Some(id));
                assert_eq!(without, payload.trim_start(), "{payload} {id}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_natural_id_comes_back(id in any::<String>()) {
            let with = with_natural_id("{\"n\":1}", &id);
            prop_assert_eq!(split_natural_id(&with), (Some(id), "{\"n\":1}".to_owned()));
        }
    }
}
