//! Keys of checkpoints in the C2SP signed-note form <https://c2sp.org/signed-note>: key ids, verifier keys, signing keys.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::SigningKey;
use sha2::{Digest, Sha256};

/// Signature type of plain Ed25519.
const ED25519: u8 = 0x01;

/// A key's id: the first four bytes of `SHA-256(name ‖ LF ‖ type ‖ public key)`.
fn key_id(name: &str, public: &[u8]) -> u32 {
    let digest = Sha256::new()
        .chain_update(name)
        .chain_update([b'\n', ED25519])
        .chain_update(public)
        .finalize();
    u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])
}

/// An Ed25519 key that signs checkpoints under a name, which is the ledger's origin.
pub struct NoteSigner {
    name: String,
    key: SigningKey,
}

impl std::fmt::Debug for NoteSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NoteSigner({})", self.name)
    }
}

/// A name that cannot stand in a note.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a checkpoint's key name must not be empty and holds no white space and no +")]
pub struct KeyNameError;

impl NoteSigner {
    /// Takes a name and 32 secret random bytes.
    pub fn new(name: &str, seed: &[u8; 32]) -> Result<Self, KeyNameError> {
        if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c == '+') {
            return Err(KeyNameError);
        }
        Ok(Self {
            name: name.to_owned(),
            key: SigningKey::from_bytes(seed),
        })
    }

    /// The verifier key, `<name>+<key id>+<base64(type ‖ public key)>`: public.
    pub fn verifier_key(&self) -> String {
        let public = self.key.verifying_key();
        self.encoded("", public.as_bytes())
    }

    /// The signing key in the form of Go's `note` package: secret, for a file of mode 0600.
    pub fn signing_key(&self) -> String {
        self.encoded("PRIVATE+KEY+", self.key.as_bytes())
    }

    fn encoded(&self, prefix: &str, bytes: &[u8; 32]) -> String {
        let id = key_id(&self.name, self.key.verifying_key().as_bytes());
        let mut typed = vec![ED25519];
        typed.extend_from_slice(bytes);
        format!("{prefix}{}+{id:08x}+{}", self.name, STANDARD.encode(typed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Published with the checkpoint vectors of the tlog formats.
    #[test]
    fn published_key() {
        let seed = STANDARD
            .decode("AeymY/SZAX0jZcJ8enZ5FY1Dz+wTML2yWSkK+9DSF3eg")
            .unwrap();
        let seed: [u8; 32] = seed[1..].try_into().unwrap();
        let signer = NoteSigner::new("example.com/log/testdata", &seed).unwrap();
        assert_eq!(
            signer.verifier_key(),
            "example.com/log/testdata+33d7b496+AeHTu4Q3hEIMHNqc6fASMsq3rKNx280NI+oO5xCFkkSx"
        );
        assert_eq!(
            signer.signing_key(),
            "PRIVATE+KEY+example.com/log/testdata+33d7b496+AeymY/SZAX0jZcJ8enZ5FY1Dz+wTML2yWSkK+9DSF3eg"
        );
        assert_eq!(
            format!("{signer:?}"),
            "NoteSigner(example.com/log/testdata)"
        );
        assert!(NoteSigner::new("a b", &seed).is_err());
    }
}
