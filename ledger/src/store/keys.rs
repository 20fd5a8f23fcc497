//! Keys: one data key per owner seals everything about that owner, and a key-encryption key outside the database wraps
//! it. Destroying an owner's data key erases the owner from the ledger and from every backup of it.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest, Sha256};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::aead::{self, NONCE_BYTES};
use crate::chain::entry::Hash;
use crate::domain::id::{EntryId, EventType, LedgerId, Subject};

/// Name of the one AEAD in use, as it stands in the payload table: XChaCha20-Poly1305, whose 192-bit nonces may be random.
pub const SEALED: &str = "xchacha20-poly1305";
/// Data keys kept unwrapped in memory; enough for the users of one run, and a bound on a ledger of millions.
const CACHED_MAX: usize = 16_384;

/// A key could not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The text is not 64 hex digits.
    #[error("the key-encryption key must be 64 hex digits")]
    Malformed,
    /// No key-encryption key was given, and a sealed payload must be written or read.
    #[error("no key-encryption key was found")]
    NoKek,
    /// The data key does not come out: its row was edited, or it is wrapped by another key-encryption key.
    #[error("unwrap data key {key_id}: {why}")]
    Unwrap {
        /// Row of `ledger.keys`.
        key_id: String,
        /// What did not fit.
        why: &'static str,
    },
    /// The AEAD refused: altered bytes, or bytes of another place.
    #[error("open what key {key_id} sealed: it was altered or stands in another place")]
    Open {
        /// Row of `ledger.keys`.
        key_id: String,
    },
    /// The operating system gave no randomness.
    #[error("draw random bytes from the operating system")]
    Random,
}

/// Random bytes from the operating system.
pub fn random<const N: usize>() -> Result<[u8; N], KeyError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| KeyError::Random)?;
    Ok(bytes)
}

/// A key-encryption key: 32 bytes that are never in the database.
#[derive(Clone)]
pub struct Kek {
    id: String,
    key: Zeroizing<[u8; 32]>,
}

impl fmt::Debug for Kek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kek({})", self.id)
    }
}

impl Kek {
    /// Takes 32 bytes. The id is a digest, so that one key has one id everywhere.
    pub fn new(key: [u8; 32]) -> Self {
        let digest = Sha256::new()
            .chain_update(b"ledger-kek-id-v1\0")
            .chain_update(key)
            .finalize();
        Self {
            id: format!("kek-{}", hex::encode(&digest[..8])),
            key: Zeroizing::new(key),
        }
    }

    /// Draws a new key.
    pub fn generate() -> Result<Self, KeyError> {
        Ok(Self::new(random()?))
    }

    /// Reads 64 hex digits, as `LEDGER_KEK` and the key file hold them.
    pub fn from_hex(text: &str) -> Result<Self, KeyError> {
        let mut key = Zeroizing::new([0; 32]);
        hex::decode_to_slice(text.trim(), key.as_mut_slice()).map_err(|_| KeyError::Malformed)?;
        Ok(Self::new(*key))
    }

    /// 64 hex digits, for the key file.
    pub fn to_hex(&self) -> Zeroizing<String> {
        Zeroizing::new(hex::encode(self.key.as_slice()))
    }

    /// Its id, `kek-<16 hex digits>`.
    pub fn id(&self) -> &str {
        &self.id
    }
}

/// An owner's data key, unwrapped.
#[derive(Clone)]
pub struct DataKey {
    id: Arc<str>,
    key: Arc<Zeroizing<[u8; 32]>>,
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DataKey({})", self.id)
    }
}

impl DataKey {
    /// Row of `ledger.keys`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Seals under a fresh nonce.
    pub fn seal(&self, aad: &[u8], message: &[u8]) -> Result<Sealed, KeyError> {
        let nonce: [u8; NONCE_BYTES] = random()?;
        let bytes = aead::seal(&self.key, &nonce, aad, message).ok_or_else(|| KeyError::Open {
            key_id: self.id.to_string(),
        })?;
        Ok(Sealed {
            nonce: nonce.to_vec(),
            bytes,
        })
    }

    /// Opens what [`DataKey::seal`] made with the same associated data.
    pub fn open(&self, aad: &[u8], nonce: &[u8], bytes: &[u8]) -> Result<Vec<u8>, KeyError> {
        self.open_in(Vec::new(), aad, nonce, bytes)
    }

    /// As [`DataKey::open`], in the room of a vector that is no longer needed.
    pub(super) fn open_in(
        &self,
        room: Vec<u8>,
        aad: &[u8],
        nonce: &[u8],
        bytes: &[u8],
    ) -> Result<Vec<u8>, KeyError> {
        aead::open_in(room, &self.key, nonce, aad, bytes).ok_or_else(|| KeyError::Open {
            key_id: self.id.to_string(),
        })
    }

    /// HMAC-SHA256 under this key: equal digests show equal content to who holds the key, and nothing to others.
    pub fn digest(&self, purpose: &str, message: &[u8]) -> Hash {
        hmac(&self.key, &[purpose.as_bytes(), b"\0", message])
    }
}

/// Ciphertext with its nonce.
#[derive(Debug, Clone)]
pub struct Sealed {
    /// 24 random bytes.
    pub nonce: Vec<u8>,
    /// Ciphertext and tag.
    pub bytes: Vec<u8>,
}

fn hmac(key: &[u8; 32], parts: &[&[u8]]) -> Hash {
    #[expect(
        clippy::expect_used,
        reason = "HMAC takes keys of any length (RFC 2104)"
    )]
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length is a key");
    for part in parts {
        mac.update(part);
    }
    Hash(mac.finalize().into_bytes().into())
}

/// Associated data of a payload: it opens in its own entry only.
pub fn payload_aad(ledger: LedgerId, entry: EntryId, event_type: &EventType) -> Vec<u8> {
    let (ledger, entry) = (ledger.uuid(), entry.uuid());
    [
        b"ledger-payload-aad-v1\0",
        &ledger.as_bytes()[..],
        entry.as_bytes(),
        event_type.as_str().as_bytes(),
    ]
    .concat()
}

/// Associated data of a wrapped data key.
pub fn key_aad(ledger: LedgerId, owner: &Subject, key_id: &str) -> Vec<u8> {
    let text = format!("{owner}\0{key_id}");
    [
        b"ledger-key-aad-v1\0",
        &ledger.uuid().as_bytes()[..],
        text.as_bytes(),
    ]
    .concat()
}

/// Associated data of a sealed natural id.
pub fn identity_aad(ledger: LedgerId, subject: &Subject) -> Vec<u8> {
    let text = subject.to_string();
    [
        b"ledger-identity-aad-v1\0",
        &ledger.uuid().as_bytes()[..],
        text.as_bytes(),
    ]
    .concat()
}

/// A data key as its row holds it.
#[derive(Debug, Clone)]
pub struct WrappedKey {
    /// Primary key.
    pub key_id: String,
    /// Whose data it seals.
    pub owner: Subject,
    /// Which key-encryption key wraps it.
    pub kek_id: String,
    /// Nonce of the wrapping.
    pub nonce: Vec<u8>,
    /// The wrapped key.
    pub wrapped: Vec<u8>,
}

/// The key-encryption keys at hand, and the data keys they opened. Cheap to clone.
#[derive(Clone, Debug)]
pub struct KeyRing {
    ledger: LedgerId,
    keks: Arc<Mutex<Vec<Kek>>>,
    opened: Arc<Mutex<OpenedKeys>>,
}

#[derive(Debug, Default)]
struct OpenedKeys {
    by_owner: HashMap<Subject, DataKey>,
    by_id: HashMap<Arc<str>, DataKey>,
}

impl KeyRing {
    /// A ring for one ledger; the first key-encryption key wraps what is new. With none, only plain payloads can be used.
    pub fn new(ledger: LedgerId, keks: Vec<Kek>) -> Self {
        Self {
            ledger,
            keks: Arc::new(Mutex::new(keks)),
            opened: Arc::default(),
        }
    }

    /// Whether sealed payloads can be read and written at all.
    pub fn has_kek(&self) -> bool {
        !self.keks().is_empty()
    }

    /// Draws and wraps a new data key for an owner.
    pub fn generate(&self, owner: &Subject) -> Result<WrappedKey, KeyError> {
        let keks = self.keks();
        let kek = keks.first().ok_or(KeyError::NoKek)?;
        Ok(self.generate_under(kek, owner)?.0)
    }

    /// Draws a new data key for an owner and wraps it by this key-encryption key.
    pub(super) fn generate_under(
        &self,
        kek: &Kek,
        owner: &Subject,
    ) -> Result<(WrappedKey, DataKey), KeyError> {
        let key = DataKey {
            id: Uuid::from_bytes(random()?).to_string().into(),
            key: Arc::new(Zeroizing::new(random()?)),
        };
        Ok((self.wrap(kek, owner, &key)?, key))
    }

    /// Wraps a data key by another key-encryption key.
    pub(super) fn wrap(
        &self,
        kek: &Kek,
        owner: &Subject,
        key: &DataKey,
    ) -> Result<WrappedKey, KeyError> {
        let key_id = key.id.to_string();
        let nonce: [u8; NONCE_BYTES] = random()?;
        let aad = key_aad(self.ledger, owner, &key_id);
        let wrapped = aead::seal(&kek.key, &nonce, &aad, key.key.as_slice()).ok_or_else(|| {
            KeyError::Unwrap {
                key_id: key_id.clone(),
                why: "wrapping failed",
            }
        })?;
        Ok(WrappedKey {
            key_id,
            owner: owner.clone(),
            kek_id: kek.id.clone(),
            nonce: nonce.to_vec(),
            wrapped,
        })
    }

    /// The key-encryption keys at hand.
    pub(super) fn keks(&self) -> Vec<Kek> {
        let keks = self.keks.lock().unwrap_or_else(PoisonError::into_inner);
        keks.clone()
    }

    /// Forgets every data key, of which an erasure has destroyed or replaced some.
    pub(super) fn forget(&self) {
        *self.opened() = OpenedKeys::default();
    }

    /// Takes the key-encryption key that an erasure has put in force.
    pub(super) fn adopt(&self, kek: &Kek) {
        let mut keks = self.keks.lock().unwrap_or_else(PoisonError::into_inner);
        keks.retain(|known| known.id != kek.id);
        keks.insert(0, kek.clone());
    }

    /// Unwraps a data key.
    ///
    /// # Errors
    /// [`KeyError::NoKek`] where its key-encryption key is not at hand, [`KeyError::Unwrap`] where the row was altered.
    pub fn unwrap(&self, row: &WrappedKey) -> Result<DataKey, KeyError> {
        let keks = self.keks();
        if keks.is_empty() {
            return Err(KeyError::NoKek);
        }
        let failed = |why| KeyError::Unwrap {
            key_id: row.key_id.clone(),
            why,
        };
        let aad = key_aad(self.ledger, &row.owner, &row.key_id);
        let opened = keks
            .iter()
            .find_map(|kek| Some((kek, aead::open(&kek.key, &row.nonce, &aad, &row.wrapped)?)));
        let Some((kek, opened)) = opened else {
            // With the key that it names at hand, the row is at fault; else that key is simply not here.
            return Err(if keks.iter().any(|kek| kek.id == row.kek_id) {
                failed("its row was altered")
            } else {
                KeyError::NoKek
            });
        };
        if kek.id != row.kek_id {
            return Err(failed("its row names another key-encryption key"));
        }
        let opened = Zeroizing::new(opened);
        let key = opened
            .as_slice()
            .try_into()
            .map_err(|_| failed("it is not 32 bytes long"))?;
        Ok(DataKey {
            id: row.key_id.as_str().into(),
            key: Arc::new(Zeroizing::new(key)),
        })
    }

    fn opened(&self) -> std::sync::MutexGuard<'_, OpenedKeys> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The data key of an owner, if it was unwrapped before.
    pub fn cached(&self, owner: &Subject) -> Option<DataKey> {
        self.opened().by_owner.get(owner).cloned()
    }

    /// The data key of this id, if it was unwrapped before.
    pub fn cached_by_id(&self, key_id: &str) -> Option<DataKey> {
        self.opened().by_id.get(key_id).cloned()
    }

    /// Keeps an unwrapped data key.
    pub fn cache(&self, owner: Subject, key: DataKey) {
        let mut opened = self.opened();
        if opened.by_owner.len() >= CACHED_MAX {
            *opened = OpenedKeys::default();
        }
        opened.by_id.insert(Arc::clone(&key.id), key.clone());
        opened.by_owner.insert(owner, key);
    }
}

/// Blind index of a natural id: equal ids meet, and without the index key nothing can be guessed from it.
pub fn blind(index_key: &DataKey, kind: &str, natural_id: &str) -> Hash {
    hmac(
        &index_key.key,
        &[
            b"ledger-identity-v1\0",
            kind.as_bytes(),
            b"\0",
            natural_id.as_bytes(),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEDGER: LedgerId = LedgerId::new(Uuid::from_u128(1));

    fn owner(n: u128) -> Subject {
        Subject::new("user", Uuid::from_u128(n)).unwrap()
    }

    #[test]
    fn a_data_key_opens_only_for_its_owner_ledger_and_row() {
        let kek = Kek::generate().unwrap();
        let ring = KeyRing::new(LEDGER, vec![kek.clone()]);
        let row = ring.generate(&owner(1)).unwrap();
        let key = ring.unwrap(&row).unwrap();
        let sealed = key.seal(b"here", b"secret").unwrap();
        assert_eq!(
            key.open(b"here", &sealed.nonce, &sealed.bytes).unwrap(),
            b"secret"
        );
        assert!(key.open(b"there", &sealed.nonce, &sealed.bytes).is_err());

        let mut wrapped = row.wrapped.clone();
        wrapped[0] ^= 1;
        for altered in [
            WrappedKey {
                owner: owner(2),
                ..row.clone()
            },
            WrappedKey {
                key_id: Uuid::nil().to_string(),
                ..row.clone()
            },
            WrappedKey {
                wrapped,
                ..row.clone()
            },
            WrappedKey {
                nonce: vec![0; 24],
                ..row.clone()
            },
            WrappedKey {
                nonce: vec![],
                ..row.clone()
            },
            WrappedKey {
                kek_id: "kek-0000000000000000".into(),
                ..row.clone()
            },
        ] {
            assert!(
                matches!(ring.unwrap(&altered), Err(KeyError::Unwrap { .. })),
                "{altered:?}"
            );
        }
        let elsewhere = KeyRing::new(LedgerId::new(Uuid::from_u128(2)), vec![kek]);
        assert!(matches!(
            elsewhere.unwrap(&row),
            Err(KeyError::Unwrap { .. })
        ));
        let without = KeyRing::new(LEDGER, vec![Kek::generate().unwrap()]);
        assert_eq!(without.unwrap(&row).unwrap_err(), KeyError::NoKek);
        assert_eq!(
            KeyRing::new(LEDGER, vec![]).unwrap(&row).unwrap_err(),
            KeyError::NoKek
        );
    }

    #[test]
    fn debug_shows_no_key() {
        let kek = Kek::new([0xab; 32]);
        let ring = KeyRing::new(LEDGER, vec![kek.clone()]);
        let key = ring.unwrap(&ring.generate(&owner(1)).unwrap()).unwrap();
        ring.cache(owner(1), key.clone());
        let shown = format!("{kek:?} {key:?} {ring:?}");
        assert!(!shown.contains("abab") && !shown.contains("171"), "{shown}");
        assert_eq!(Kek::from_hex(&kek.to_hex()).unwrap().id(), kek.id());
    }

    #[test]
    fn blind_indexes_differ_by_kind_and_key() {
        let ring = KeyRing::new(LEDGER, vec![Kek::generate().unwrap()]);
        let key = |n| ring.unwrap(&ring.generate(&owner(n)).unwrap()).unwrap();
        let (one, two) = (key(1), key(2));
        assert_eq!(blind(&one, "user", "x"), blind(&one, "user", "x"));
        assert_ne!(blind(&one, "user", "x"), blind(&one, "userx", ""));
        assert_ne!(blind(&one, "user", "x"), blind(&two, "user", "x"));
    }
}
