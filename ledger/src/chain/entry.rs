//! The entry: what is hashed, byte for byte. The SQL twin is `ledger.append`; both must agree on every entry.

use serde::{Deserialize, Deserializer, Serialize};
use sha2::{Digest, Sha256};

pub use crate::domain::hash::Hash;
use crate::domain::id::{
    Actor, EntryId, EventType, IdempotencyKey, LedgerId, RunId, Subject, Timestamp,
};

/// Format of the entry; fixes every algorithm used for it and never falls within a ledger.
pub const FORMAT: u8 = 1;
/// Longest entry in bytes.
pub const ENTRY_BYTES_MAX: usize = 8 * 1024;
/// Longest payload in bytes, without its salt.
pub const PAYLOAD_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Length of the random salt before each payload, in bytes.
pub const SALT_BYTES: usize = 32;
/// Algorithm name of a payload that is stored as it is.
pub const PLAIN: &str = "plain";

/// One link of the chain. The field order is that of the canonical text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Who caused it.
    pub actor: Actor,
    /// Id of the entry that caused this one.
    #[serde(deserialize_with = "required")]
    pub cause: Option<EntryId>,
    /// See [`commitment`].
    pub commitment: Hash,
    /// Id of this entry.
    pub id: EntryId,
    /// Idempotency key; equal to `id` where the caller gave none.
    pub key: IdempotencyKey,
    /// Ledger the entry belongs to.
    pub ledger: LedgerId,
    /// When it happened, as the caller says.
    pub occurred_at: Timestamp,
    /// [`leaf_hash`] of entry `seq` - 1; zeros for the first.
    pub prev: Hash,
    /// When PostgreSQL recorded it; never before the entry in front.
    pub recorded_at: Timestamp,
    /// Run it belongs to.
    #[serde(deserialize_with = "required")]
    pub run: Option<RunId>,
    /// Version of the payload of this type, from 1.
    pub schema: u16,
    /// Place in the chain, from 1 without gaps.
    pub seq: u64,
    /// See [`stored`].
    pub stored: Hash,
    /// What it is about.
    pub subject: Subject,
    /// What happened.
    #[serde(rename = "type")]
    pub event_type: EventType,
    /// [`FORMAT`].
    pub v: u8,
}

/// `Option` fields are null or a value, never absent: one entry has one text.
fn required<'de, D: Deserializer<'de>, T: Deserialize<'de>>(d: D) -> Result<Option<T>, D::Error> {
    Option::deserialize(d)
}

/// Bytes that are not an entry of format 1 in its canonical form.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EntryError {
    /// Not JSON, or not the fields of an entry.
    #[error("read the entry's fields")]
    Fields(#[source] serde_json::Error),
    /// The right fields in other bytes than the canonical ones.
    #[error("the entry's bytes are not its canonical form")]
    NotCanonical,
    /// A format of a later program.
    #[error("entry format {0} is newer than this program: use a newer `ledger`")]
    Format(u8),
    /// Over 8 KiB.
    #[error("the entry has {0} bytes, over the limit of {ENTRY_BYTES_MAX}")]
    TooLong(usize),
}

impl Entry {
    /// The RFC 8785 canonical JSON of the entry, which is what is hashed.
    pub fn to_bytes(&self) -> Vec<u8> {
        use std::fmt::Write;
        let quoted = |id: Option<String>| id.map_or("null".to_owned(), |id| format!("\"{id}\""));
        let mut text = String::with_capacity(768);
        // Every string here is of the names' alphabet, so that no escape is ever needed.
        let written = write!(
            text,
            concat!(
                r#"{{"actor":"{actor}","cause":{cause},"commitment":"{commitment}","id":"{id}","#,
                r#""key":"{key}","ledger":"{ledger}","occurred_at":"{occurred_at}","#,
                r#""prev":"{prev}","recorded_at":"{recorded_at}","run":{run},"#,
                r#""schema":{schema},"seq":{seq},"stored":"{stored}","#,
                r#""subject":"{subject}","type":"{event_type}","v":{v}}}"#,
            ),
            actor = self.actor,
            cause = quoted(self.cause.map(|id| id.to_string())),
            commitment = self.commitment,
            id = self.id,
            key = self.key,
            ledger = self.ledger,
            occurred_at = self.occurred_at,
            prev = self.prev,
            recorded_at = self.recorded_at,
            run = quoted(self.run.map(|id| id.to_string())),
            schema = self.schema,
            seq = self.seq,
            stored = self.stored,
            subject = self.subject,
            event_type = self.event_type,
            v = self.v,
        );
        debug_assert!(written.is_ok(), "writing to a String does not fail");
        text.into_bytes()
    }

    /// Reads an entry strictly: its fields, all of them, no others, in exactly the bytes that [`Entry::to_bytes`] makes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, EntryError> {
        if bytes.len() > ENTRY_BYTES_MAX {
            return Err(EntryError::TooLong(bytes.len()));
        }
        let entry: Self = serde_json::from_slice(bytes).map_err(EntryError::Fields)?;
        if entry.v != FORMAT {
            return Err(EntryError::Format(entry.v));
        }
        if entry.to_bytes() != bytes {
            return Err(EntryError::NotCanonical);
        }
        Ok(entry)
    }

    /// The hash that the next entry links to and the leaf of the Merkle tree.
    pub fn hash(&self) -> Hash {
        leaf_hash(&self.to_bytes())
    }
}

/// RFC 6962 leaf hash, `SHA-256(0x00 ‖ bytes)`: one hash serves the chain and the tree.
pub fn leaf_hash(bytes: &[u8]) -> Hash {
    Hash(
        Sha256::new()
            .chain_update([0])
            .chain_update(bytes)
            .finalize()
            .into(),
    )
}

/// Ties an entry to its payload without revealing it: `SHA-256("ledger-payload-v1\0" ‖ salt ‖ payload)`.
pub fn commitment(salt: &[u8; SALT_BYTES], payload: &[u8]) -> Hash {
    let digest = Sha256::new()
        .chain_update(b"ledger-payload-v1\0")
        .chain_update(salt)
        .chain_update(payload)
        .finalize();
    Hash(digest.into())
}

/// The commitment of salt ‖ payload, as they are stored in plain or come out of a sealed payload. `None` when there is no whole salt.
pub fn commitment_of_salted(salted: &[u8]) -> Option<Hash> {
    let (salt, payload) = salted.split_first_chunk::<SALT_BYTES>()?;
    Some(commitment(salt, payload))
}

/// Digest of what lies in the payload table, checkable without any key: `SHA-256("ledger-stored-v1\0" ‖ parts)`, where the
/// parts are algorithm, key id, nonce and stored bytes, each preceded by its length as 4 bytes big-endian.
pub fn stored(algorithm: &str, key_id: &str, nonce: &[u8], bytes: &[u8]) -> Hash {
    let mut digest = Sha256::new();
    digest.update(b"ledger-stored-v1\0");
    for part in [algorithm.as_bytes(), key_id.as_bytes(), nonce, bytes] {
        // Parts are at most 8 MiB: the payload's limit is checked where it comes in.
        digest.update(u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        digest.update(part);
    }
    Hash(digest.finalize().into())
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    prop_compose! {
        pub(crate) fn entries()(
            seq in 1_u64..(1 << 53),
            ids in any::<(u128, u128, u128)>(),
            cause in prop::option::of(any::<u128>()),
            run in prop::option::of(any::<u128>()),
            micros in (-62_135_596_800_000_000_i64..253_402_300_799_999_999, 0_i64..4_000_000_000_000_000),
            hashes in any::<([u8; 32], [u8; 32], [u8; 32])>(),
            key in "[a-z0-9._:/-]{1,128}",
            event_type in "[a-z]{1,9}\\.[a-z_]{1,20}",
            kind in "[a-z][a-z0-9-]{0,20}",
            actor in prop_oneof!["person:[a-z0-9._:/-]{1,40}", "worker:[a-z0-9-]{1,9}", Just("system".to_owned())],
            schema in 1_u16..,
        ) -> Entry {
            Entry {
                actor: actor.parse().unwrap(),
                cause: cause.map(|id| EntryId::new(Uuid::from_u128(id))),
                commitment: Hash(hashes.0),
                id: EntryId::new(Uuid::from_u128(ids.0)),
                key: key.parse().unwrap(),
                ledger: LedgerId::new(Uuid::from_u128(ids.1)),
                occurred_at: Timestamp::from_micros(micros.0).unwrap(),
                prev: Hash(hashes.1),
                recorded_at: Timestamp::from_micros(micros.1).unwrap(),
                run: run.map(|id| RunId::new(Uuid::from_u128(id))),
                schema,
                seq,
                stored: Hash(hashes.2),
                subject: Subject::new(&kind, Uuid::from_u128(ids.2)).unwrap(),
                event_type: event_type.parse().unwrap(),
                v: FORMAT,
            }
        }
    }

    proptest! {
        #[test]
        fn bytes_read_back_and_equal_the_general_canonical_form(entry in entries()) {
            let bytes = entry.to_bytes();
            prop_assert!(bytes.len() <= ENTRY_BYTES_MAX);
            prop_assert_eq!(&Entry::from_bytes(&bytes).unwrap(), &entry);
            let value = crate::chain::canonical::parse(&bytes).unwrap();
            prop_assert_eq!(crate::chain::canonical::to_bytes(&value).unwrap(), bytes);
        }

        #[test]
        fn no_other_bytes_are_the_same_entry(entry in entries(), at in any::<prop::sample::Index>(), bit in 0_u8..8) {
            let mut bytes = entry.to_bytes();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            if let Ok(other) = Entry::from_bytes(&bytes) {
                prop_assert_ne!(other, entry);
            }
        }
    }

    #[test]
    fn other_forms_of_the_same_fields_are_refused() {
        let bytes = fixed().to_bytes();
        let text = String::from_utf8(bytes.clone()).unwrap();
        for other in [
            format!(" {text}"),
            text.replace("\"cause\":null,", ""),
            text.replace("\"v\":1", "\"v\":1,\"w\":2"),
            text.replace("\"seq\":7", "\"seq\":07"),
            text.replace("\"seq\":7", "\"seq\":7,\"seq\":7"),
            text.replace("system", "\\u0073ystem"),
        ] {
            assert_ne!(other, text);
            assert!(Entry::from_bytes(other.as_bytes()).is_err(), "{other}");
        }
        let newer = text.replace("\"v\":1", "\"v\":2");
        assert!(matches!(
            Entry::from_bytes(newer.as_bytes()),
            Err(EntryError::Format(2))
        ));
    }

    fn fixed() -> Entry {
        Entry {
            actor: Actor::system(),
            cause: None,
            commitment: commitment(&[7; 32], b"{}"),
            id: "0197f1c2-0000-7000-8000-000000000001".parse().unwrap(),
            key: "0197f1c2-0000-7000-8000-000000000001".parse().unwrap(),
            ledger: "0197f1c2-0000-7000-8000-000000000000".parse().unwrap(),
            occurred_at: "2026-01-15T09:30:00.123456Z".parse().unwrap(),
            prev: Hash::ZERO,
            recorded_at: "2026-01-15T09:30:01.000000Z".parse().unwrap(),
            run: None,
            schema: 1,
            seq: 7,
            stored: stored(PLAIN, "", &[], &[&[7; 32][..], b"{}"].concat()),
            subject: "service:0197f1c2-0000-7000-8000-00000000000a"
                .parse()
                .unwrap(),
            event_type: "service.scaled_down".parse().unwrap(),
            v: FORMAT,
        }
    }

    /// What is hashed can never change: this text and hash were written on the first day.
    #[test]
    fn the_format_is_frozen() {
        insta::assert_snapshot!(
            "entry_bytes",
            String::from_utf8(fixed().to_bytes()).unwrap()
        );
        insta::assert_snapshot!("entry_hash", fixed().hash());
    }
}
