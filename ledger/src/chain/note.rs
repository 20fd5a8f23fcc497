//! C2SP signed notes <https://c2sp.org/signed-note>: keys, signatures, and notes that several have signed.
//!
//! Every text here has one form: what is read is written again and compared, so that leading zeros, other base64 of the same
//! bytes, line ends of other systems and trailing spaces are refused.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};

use super::cosignature;

/// Longest note in bytes. A note with the most signatures of the longest kind has a third of it.
pub const NOTE_BYTES_MAX: usize = 1 << 20;
/// Most signatures on a note, as in the Go reference.
pub const SIGNATURES_MAX: usize = 100;

/// What a signature line starts with: an em dash and a space.
const DASH: &str = "\u{2014} ";
const PRIVATE: &str = "PRIVATE+KEY+";

/// What a key signs, which is the type byte before its public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// Ed25519 (RFC 8032) over the note's text: what logs sign with.
    Ed25519,
    /// A timestamped Ed25519 cosignature of a checkpoint: what witnesses sign with.
    Cosignature,
}

impl KeyKind {
    const fn byte(self) -> u8 {
        match self {
            Self::Ed25519 => 0x01,
            Self::Cosignature => 0x04,
        }
    }

    const fn of(byte: u8) -> Option<Self> {
        match byte {
            0x01 => Some(Self::Ed25519),
            0x04 => Some(Self::Cosignature),
            _ => None,
        }
    }
}

/// A text that is not a key of a note.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// See the text.
    #[error(
        "a checkpoint's key name must not be empty and holds no white space, no control character and no +"
    )]
    Name,
    /// Not three parts with eight hex digits and canonical base64.
    #[error("a key must be written as <name>+<8 hex digits>+<base64>")]
    Form,
    /// ECDSA, ML-DSA, or a type that is not known at all.
    #[error(
        "keys of type {0:#04x} cannot be used here: only Ed25519 (0x01) and its cosignatures (0x04) can"
    )]
    Kind(u8),
    /// Not 32 bytes, or no point of the curve, or one that any signature fits.
    #[error("the key's bytes are not an Ed25519 key")]
    Bytes,
    /// The id is that of another key or name.
    #[error("the key's id does not belong to its name and bytes")]
    Id,
}

/// Refuses what cannot stand between the dash and the space of a signature line.
fn check_name(name: &str) -> Result<(), KeyError> {
    let bad = |c: char| c.is_whitespace() || c < ' ' || c == '+';
    if name.is_empty() || name.contains(bad) {
        return Err(KeyError::Name);
    }
    Ok(())
}

/// A key's id: the first four bytes of `SHA-256(name ‖ LF ‖ type ‖ public key)`.
fn key_id(name: &str, kind: KeyKind, public: &VerifyingKey) -> u32 {
    let digest = Sha256::new()
        .chain_update(name)
        .chain_update([b'\n', kind.byte()])
        .chain_update(public.as_bytes())
        .finalize();
    u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])
}

/// `<name>+<key id>+<base64(type ‖ bytes)>`.
fn encode_key(name: &str, id: u32, kind: KeyKind, bytes: &[u8; 32]) -> String {
    let typed = [&[kind.byte()], bytes.as_slice()].concat();
    format!("{name}+{id:08x}+{}", STANDARD.encode(typed))
}

/// Name, id, kind and bytes of a key; that the text is in its one form is for the caller to compare.
fn decode_key(text: &str) -> Result<(&str, u32, KeyKind, [u8; 32]), KeyError> {
    // At most three parts: base64 may hold a plus.
    let mut parts = text.splitn(3, '+');
    let (Some(name), Some(id), Some(typed)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(KeyError::Form);
    };
    check_name(name)?;
    let id = u32::from_str_radix(id, 16).map_err(|_| KeyError::Form)?;
    let typed = STANDARD.decode(typed).map_err(|_| KeyError::Form)?;
    let (kind, bytes) = typed.split_first().ok_or(KeyError::Form)?;
    let kind = KeyKind::of(*kind).ok_or(KeyError::Kind(*kind))?;
    let bytes = bytes.try_into().map_err(|_| KeyError::Bytes)?;
    Ok((name, id, kind, bytes))
}

/// A public key under a name. Its text is the "vkey" of a signed note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    kind: KeyKind,
    id: u32,
    public: VerifyingKey,
}

impl VerifierKey {
    fn new(name: &str, kind: KeyKind, public: VerifyingKey) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            id: key_id(name, kind, &public),
            public,
        }
    }

    /// Whose key it is: a log's origin, or a witness.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it signs.
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// Its id, which signature lines repeat.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The 32 bytes of the Ed25519 key. Two keys of equal bytes are one key, whatever their names.
    pub fn public(&self) -> &[u8; 32] {
        self.public.as_bytes()
    }

    /// The signed time of a cosignature, or zero, where the signature is right.
    fn check(&self, text: &str, bytes: &[u8]) -> Option<u64> {
        match self.kind {
            KeyKind::Ed25519 => {
                let valid = valid(&self.public, text.as_bytes(), bytes.try_into().ok()?);
                valid.then_some(0)
            }
            KeyKind::Cosignature => cosignature::check(&self.public, text, bytes),
        }
    }
}

/// Whether this is the key's signature, by the strict rules: no points of small order.
pub(super) fn valid(public: &VerifyingKey, message: &[u8], signature: &[u8; 64]) -> bool {
    let signature = ed25519_dalek::Signature::from_bytes(signature);
    public.verify_strict(message, &signature).is_ok()
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let public = self.public.as_bytes();
        f.write_str(&encode_key(&self.name, self.id, self.kind, public))
    }
}

impl FromStr for VerifierKey {
    type Err = KeyError;
    fn from_str(text: &str) -> Result<Self, KeyError> {
        let (name, id, kind, bytes) = decode_key(text)?;
        let public = VerifyingKey::from_bytes(&bytes).map_err(|_| KeyError::Bytes)?;
        if public.is_weak() {
            return Err(KeyError::Bytes);
        }
        let key = Self::new(name, kind, public);
        if key.id != id {
            return Err(KeyError::Id);
        }
        if key.to_string() != text {
            return Err(KeyError::Form);
        }
        Ok(key)
    }
}

/// A name with its secret key, for both kinds of signers.
pub(super) struct SecretKey {
    name: String,
    kind: KeyKind,
    key: SigningKey,
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl SecretKey {
    pub(super) fn new(name: &str, kind: KeyKind, seed: &[u8; 32]) -> Result<Self, KeyError> {
        check_name(name)?;
        Ok(Self {
            name: name.to_owned(),
            kind,
            key: SigningKey::from_bytes(seed),
        })
    }

    /// Reads [`SecretKey::text`].
    pub(super) fn parse(text: &str, expected: KeyKind) -> Result<Self, KeyError> {
        let rest = text.strip_prefix(PRIVATE).ok_or(KeyError::Form)?;
        let (name, id, kind, seed) = decode_key(rest)?;
        if kind != expected {
            return Err(KeyError::Kind(kind.byte()));
        }
        let secret = Self::new(name, kind, &seed)?;
        if secret.verifier_key().id != id {
            return Err(KeyError::Id);
        }
        if secret.text() != text {
            return Err(KeyError::Form);
        }
        Ok(secret)
    }

    pub(super) fn verifier_key(&self) -> VerifierKey {
        VerifierKey::new(&self.name, self.kind, self.key.verifying_key())
    }

    pub(super) fn text(&self) -> String {
        let id = self.verifier_key().id;
        let key = encode_key(&self.name, id, self.kind, self.key.as_bytes());
        format!("{PRIVATE}{key}")
    }

    /// The line for this message; `before` stands between key id and signature.
    pub(super) fn sign(&self, message: &[u8], before: &[u8]) -> Signature {
        let signature = self.key.sign(message).to_bytes();
        Signature {
            name: self.name.clone(),
            key_id: self.verifier_key().id,
            bytes: [before, signature.as_slice()].concat(),
        }
    }
}

/// An Ed25519 key that signs checkpoints under a name, which is the ledger's origin.
#[derive(Debug)]
pub struct NoteSigner(SecretKey);

impl NoteSigner {
    /// Takes a name and 32 secret random bytes.
    pub fn new(name: &str, seed: &[u8; 32]) -> Result<Self, KeyError> {
        SecretKey::new(name, KeyKind::Ed25519, seed).map(Self)
    }

    /// Reads what [`NoteSigner::signing_key`] wrote, without a line end.
    pub fn from_signing_key(text: &str) -> Result<Self, KeyError> {
        SecretKey::parse(text, KeyKind::Ed25519).map(Self)
    }

    /// The public key.
    pub fn verifier_key(&self) -> VerifierKey {
        self.0.verifier_key()
    }

    /// The signing key in the form of Go's `note` package: secret, for a file of mode 0600.
    pub fn signing_key(&self) -> String {
        self.0.text()
    }

    /// Signs a note's text, which ends in a line feed. Signing the same text again gives the same bytes.
    pub fn sign(&self, text: &str) -> Signature {
        self.0.sign(text.as_bytes(), &[])
    }
}

/// Bytes that are not a signed note, or one that is not to be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoteError {
    /// Over [`NOTE_BYTES_MAX`].
    #[error("the note has {0} bytes, over the limit of {NOTE_BYTES_MAX}")]
    TooLong(usize),
    /// Not UTF-8, or a byte below 0x20 other than a line feed.
    #[error("a note is UTF-8 text without control characters")]
    Text,
    /// No text, no empty line, no signature, or no line feed at the end.
    #[error("a note is text, an empty line, and signature lines")]
    Shape,
    /// A line of signatures in another form than theirs.
    #[error("signature {0} is not written as a dash, a name and canonical base64")]
    Line(usize),
    /// Over [`SIGNATURES_MAX`].
    #[error("the note has {0} signatures, over the limit of {SIGNATURES_MAX}")]
    TooMany(usize),
    /// Two keys that a signature line could not tell apart.
    #[error("two different keys are both {name}+{id:08x}")]
    Ambiguous {
        /// Their name.
        name: String,
        /// Their id.
        id: u32,
    },
    /// A known key's signature is wrong: the whole note is refused.
    #[error("the signature by {name}+{id:08x} is wrong")]
    Wrong {
        /// Name of the key.
        name: String,
        /// Its id.
        id: u32,
    },
    /// None of the keys that were asked for has signed.
    #[error("the note is signed by none of the {0} known keys")]
    Unknown(usize),
}

/// One signature line of a note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    name: String,
    key_id: u32,
    bytes: Vec<u8>,
}

impl Signature {
    /// Who is said to have signed.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// With which of the keys of that name.
    pub fn key_id(&self) -> u32 {
        self.key_id
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let payload = [&self.key_id.to_be_bytes(), self.bytes.as_slice()].concat();
        write!(f, "{DASH}{} {}", self.name, STANDARD.encode(payload))
    }
}

/// Reads one line, without its line feed.
impl FromStr for Signature {
    type Err = NoteError;
    fn from_str(line: &str) -> Result<Self, NoteError> {
        read_line(line).ok_or(NoteError::Line(1))
    }
}

fn read_line(line: &str) -> Option<Signature> {
    let (name, payload) = line.strip_prefix(DASH)?.split_once(' ')?;
    check_name(name).ok()?;
    let payload = STANDARD.decode(payload).ok()?;
    let (key_id, bytes) = payload.split_first_chunk::<4>()?;
    let signature = Signature {
        name: name.to_owned(),
        key_id: u32::from_be_bytes(*key_id),
        bytes: bytes.to_vec(),
    };
    (!bytes.is_empty() && signature.to_string() == line).then_some(signature)
}

/// A text and who signed it. Its own text is the note, byte for byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<Signature>,
}

impl Note {
    /// A note of this text, which ends in a line feed, with these signatures.
    ///
    /// # Errors
    /// As [`Note::parse`] of the result.
    pub fn new(text: String, signatures: Vec<Signature>) -> Result<Self, NoteError> {
        let note = Self { text, signatures };
        let parsed = Self::parse(note.to_string().as_bytes())?;
        // A text whose end looks like the empty line would be divided elsewhere.
        (parsed == note).then_some(note).ok_or(NoteError::Shape)
    }

    /// Reads a note. Nothing is verified yet.
    pub fn parse(bytes: &[u8]) -> Result<Self, NoteError> {
        if bytes.len() > NOTE_BYTES_MAX {
            return Err(NoteError::TooLong(bytes.len()));
        }
        let whole = std::str::from_utf8(bytes).map_err(|_| NoteError::Text)?;
        if whole.bytes().any(|byte| byte < b' ' && byte != b'\n') {
            return Err(NoteError::Text);
        }
        // The last empty line divides: the text may hold others.
        let divide = whole.rfind("\n\n").ok_or(NoteError::Shape)?;
        let (text, rest) = whole.split_at(divide + 1);
        let lines = rest.strip_prefix('\n').and_then(|r| r.strip_suffix('\n'));
        let lines = lines.ok_or(NoteError::Shape)?;
        let count = lines.split('\n').count();
        if count > SIGNATURES_MAX {
            return Err(NoteError::TooMany(count));
        }
        let numbered = (1..).zip(lines.split('\n'));
        let signatures = numbered
            .map(|(number, line)| read_line(line).ok_or(NoteError::Line(number)))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            text: text.to_owned(),
            signatures,
        })
    }

    /// What is signed, with the line feed at its end.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signature lines, verified or not.
    pub fn signatures(&self) -> &[Signature] {
        &self.signatures
    }

    /// Adds a signature, unless it is there already.
    ///
    /// # Errors
    /// [`NoteError::TooMany`].
    pub fn add(&mut self, signature: Signature) -> Result<(), NoteError> {
        if self.signatures.contains(&signature) {
            return Ok(());
        }
        if self.signatures.len() >= SIGNATURES_MAX {
            return Err(NoteError::TooMany(self.signatures.len() + 1));
        }
        self.signatures.push(signature);
        Ok(())
    }

    /// Which of these keys have signed, each once, in the order of the lines. Lines of other keys are passed over: a key is known
    /// by name and id together.
    ///
    /// # Errors
    /// A wrong signature of a known key refuses the note, however many others are right; so does having none.
    pub fn verify<'k>(
        &self,
        keys: impl IntoIterator<Item = &'k VerifierKey>,
    ) -> Result<Vec<Verified<'k>>, NoteError> {
        let mut known: HashMap<(&str, u32), &'k VerifierKey> = HashMap::new();
        for key in keys {
            let other = known.insert((key.name(), key.id), key);
            if other.is_some_and(|other| other != key) {
                let (name, id) = (key.name.clone(), key.id);
                return Err(NoteError::Ambiguous { name, id });
            }
        }
        let mut verified: Vec<Verified<'k>> = Vec::new();
        for signature in &self.signatures {
            let Some(&key) = known.get(&(signature.name(), signature.key_id)) else {
                continue;
            };
            let Some(time) = key.check(&self.text, &signature.bytes) else {
                let (name, id) = (key.name.clone(), key.id);
                return Err(NoteError::Wrong { name, id });
            };
            if verified.iter().all(|one| one.key != key) {
                verified.push(Verified { key, time });
            }
        }
        if verified.is_empty() {
            return Err(NoteError::Unknown(known.len()));
        }
        Ok(verified)
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        for signature in &self.signatures {
            writeln!(f, "{signature}")?;
        }
        Ok(())
    }
}

/// A key whose signature of the note is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified<'k> {
    /// The key.
    pub key: &'k VerifierKey,
    /// When it was cosigned, in seconds since 1970; zero where the kind of signature says no time.
    pub time: u64,
}

#[cfg(test)]
#[path = "note_tests.rs"]
mod tests;
