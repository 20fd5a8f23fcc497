//! The entry: what is hashed, byte for byte. The SQL twin is `ledger.append`; both must agree on every entry.

use serde::{Deserialize, Deserializer, Serialize};
use sha2::{Digest, Sha256};

use super::scan;
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
        // Every string here is of the names' alphabet, so that no escape is ever needed.
        let mut out = Vec::with_capacity(896);
        let mut put = |part: &[u8]| out.extend_from_slice(part);
        let uuid = |id: uuid::Uuid| -> [u8; 36] {
            let mut text = [0; 36];
            id.as_hyphenated().encode_lower(&mut text);
            text
        };
        let quoted = |id: Option<uuid::Uuid>| match id {
            None => b"null".to_vec(),
            Some(id) => [b"\"", uuid(id).as_slice(), b"\""].concat(),
        };
        put(b"{\"actor\":\"");
        put(self.actor.as_str().as_bytes());
        put(b"\",\"cause\":");
        put(&quoted(self.cause.map(EntryId::uuid)));
        put(b",\"commitment\":\"");
        put(&self.commitment.text());
        put(b"\",\"id\":\"");
        put(&uuid(self.id.uuid()));
        put(b"\",\"key\":\"");
        put(self.key.as_str().as_bytes());
        put(b"\",\"ledger\":\"");
        put(&uuid(self.ledger.uuid()));
        put(b"\",\"occurred_at\":\"");
        put(&self.occurred_at.text());
        put(b"\",\"prev\":\"");
        put(&self.prev.text());
        put(b"\",\"recorded_at\":\"");
        put(&self.recorded_at.text());
        put(b"\",\"run\":");
        put(&quoted(self.run.map(RunId::uuid)));
        put(b",\"schema\":");
        put(self.schema.to_string().as_bytes());
        put(b",\"seq\":");
        put(self.seq.to_string().as_bytes());
        put(b",\"stored\":\"");
        put(&self.stored.text());
        put(b"\",\"subject\":\"");
        put(self.subject.kind().as_bytes());
        put(b":");
        put(&uuid(self.subject.uuid()));
        put(b"\",\"type\":\"");
        put(self.event_type.as_str().as_bytes());
        put(b"\",\"v\":");
        put(self.v.to_string().as_bytes());
        put(b"}");
        out
    }

    /// Reads an entry strictly: its fields, all of them, no others, in exactly the bytes that [`Entry::to_bytes`] makes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, EntryError> {
        if bytes.len() > ENTRY_BYTES_MAX {
            return Err(EntryError::TooLong(bytes.len()));
        }
        match scan::entry(bytes) {
            Some(entry) => Ok(entry),
            None => Self::from_any_json(bytes),
        }
    }

    /// The general way, which says what is wrong; [`scan::entry`] reads nothing that this refuses.
    fn from_any_json(bytes: &[u8]) -> Result<Self, EntryError> {
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

        #[test]
        fn the_scanner_reads_what_the_general_reader_reads(
            entry in entries(), at in any::<prop::sample::Index>(), byte in prop_oneof![any::<u8>(), prop::sample::select(b"019azAZ\"\\:,-+ {}nul".to_vec())],
            cut in prop::option::of(any::<prop::sample::Index>()),
        ) {
            let bytes = entry.to_bytes();
            prop_assert_eq!(scan::entry(&bytes), Some(entry));
            let mut edited = bytes.clone();
            edited[at.index(bytes.len())] = byte;
            prop_assert_eq!(scan::entry(&edited), Entry::from_any_json(&edited).ok());
            let mut inserted = bytes.clone();
            inserted.insert(at.index(bytes.len() + 1), byte);
            prop_assert_eq!(scan::entry(&inserted), Entry::from_any_json(&inserted).ok());
            if let Some(cut) = cut {
                let mut removed = bytes;
                removed.remove(cut.index(removed.len()));
                prop_assert_eq!(scan::entry(&removed), Entry::from_any_json(&removed).ok());
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
