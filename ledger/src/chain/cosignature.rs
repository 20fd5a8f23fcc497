//! C2SP cosignatures <https://c2sp.org/tlog-cosignature>, Ed25519: a witness says that at some time a checkpoint was the largest
//! consistent tree that it had seen of its origin.
//!
//! The signed message does not name the witness, so that a key belongs to one witness and is used for nothing else.

use ed25519_dalek::VerifyingKey;

use super::note::{self, KeyError, KeyKind, SecretKey, Signature, VerifierKey};

/// A witness' key under its name.
#[derive(Debug)]
pub struct Cosigner(SecretKey);

impl Cosigner {
    /// Takes a name and 32 secret random bytes.
    pub fn new(name: &str, seed: &[u8; 32]) -> Result<Self, KeyError> {
        SecretKey::new(name, KeyKind::Cosignature, seed).map(Self)
    }

    /// Reads what [`Cosigner::signing_key`] wrote, without a line end.
    pub fn from_signing_key(text: &str) -> Result<Self, KeyError> {
        SecretKey::parse(text, KeyKind::Cosignature).map(Self)
    }

    /// The public key.
    pub fn verifier_key(&self) -> VerifierKey {
        self.0.verifier_key()
    }

    /// The signing key in the form of Go's `note` package: secret, for a file of mode 0600.
    pub fn signing_key(&self) -> String {
        self.0.text()
    }

    /// Cosigns a checkpoint's text at a time in seconds since 1970. That it extends all that was cosigned before is for the
    /// caller to know.
    pub fn cosign(&self, text: &str, time: u64) -> Signature {
        self.0.sign(&message(text, time), &time.to_be_bytes())
    }
}

fn message(text: &str, time: u64) -> Vec<u8> {
    format!("cosignature/v1\ntime {time}\n{text}").into_bytes()
}

/// The signed time, where `bytes` is a time of 8 bytes and the key's signature.
pub(super) fn check(public: &VerifyingKey, text: &str, bytes: &[u8]) -> Option<u64> {
    let (time, signature) = bytes.split_first_chunk::<8>()?;
    let time = u64::from_be_bytes(*time);
    let signature = signature.try_into().ok()?;
    let valid = i64::try_from(time).is_ok() && note::valid(public, &message(text, time), signature);
    valid.then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::note::{Note, NoteError, NoteSigner};

    const WITNESS: &str =
        "witness.example.org+b8a2cf20+BFLN3yikSfFkVAJtrnh/CiY3Zozkoy7clp+P7XB28qUN";
    const MIRROR: &str = "mirror.example.org+3fb148ef+BAAjjch9GyYz0sJsJx7ALhbdAtz2ov0unbzSl1vMp94O";
    const BY_WITNESS: &str = "\
rome2026h1.example.org
300
lCkHUpkmVBEms2r2T1K6Og69+wUuuN3MIEW1/ezu2v0=

— witness.example.org uKLPIAAAAABpVGeAhm2bOvKc3LaB9PFN1ruG19Y5yqslmcAAbhftnn1Zznmo0LXFZq4LGvqKqLX8jWlwLKasxEGTLIqAVusneCBmBw==
";
    const BY_MIRROR: &str = "\
rome2026h1.example.org
300
gw31yQrqZZCcEOPrzX+bpy3nJ6QgngTKn8G1m0i62uU=

— mirror.example.org P7FI7wAAAABpVGeAjA1S4pJm6MbcXjX7UUImu4azZtrfcVW2uyr/LXIYlwEJzXC0N0EiZkbqfLdXt/4gVEEuGmxJjAfXKMCISpsJAg==
";

    fn verified(note: &str, key: &str) -> Result<u64, NoteError> {
        let note = Note::parse(note.as_bytes()).unwrap();
        note.verify(&[key.parse().unwrap()])
            .map(|verified| verified[0].time)
    }

    #[test]
    fn published_cosignatures_verify() {
        assert_eq!(verified(BY_WITNESS, WITNESS), Ok(1_767_139_200));
        assert_eq!(verified(BY_MIRROR, MIRROR), Ok(1_767_139_200));
        assert_eq!(verified(BY_WITNESS, MIRROR), Err(NoteError::Unknown(1)));
        let other = BY_WITNESS.replace("\n300\n", "\n301\n");
        assert!(matches!(
            verified(&other, WITNESS),
            Err(NoteError::Wrong { .. })
        ));
    }

    /// Every bit of the signature line's payload is covered: by the key's id, or by the signature and its time.
    #[test]
    fn no_other_bytes_are_this_cosignature() {
        use base64::Engine as _;
        use base64::engine::general_purpose::STANDARD;

        let (head, line) = BY_WITNESS.trim_end().rsplit_once(' ').unwrap();
        let payload = STANDARD.decode(line).unwrap();
        assert_eq!(payload.len(), 76);
        for at in 0..payload.len() {
            for bit in 0..8 {
                let mut payload = payload.clone();
                payload[at] ^= 1 << bit;
                let note = format!("{head} {}\n", STANDARD.encode(payload));
                assert!(verified(&note, WITNESS).is_err(), "byte {at}, bit {bit}");
            }
        }
        for payload in [&payload[..75], &[payload.as_slice(), &[0]].concat()] {
            let note = format!("{head} {}\n", STANDARD.encode(payload));
            assert!(verified(&note, WITNESS).is_err());
        }
    }

    #[test]
    fn one_seed_is_two_keys() {
        let seed = "e69d4621bb5cce178a27821f30fc971cac5ccc1c562cb99d8b285d44561ab944";
        let seed: [u8; 32] = hex::decode(seed).unwrap().try_into().unwrap();
        let cosigner = Cosigner::new("Wit1", &seed).unwrap();
        assert_eq!(
            cosigner.verifier_key().to_string(),
            "Wit1+9b3fb2d5+BFhZSmQj9+SoL+p/nN0Hh76xXmF7QcHfytUrI1XfSClk"
        );
        let signer = NoteSigner::new("Wit1", &seed).unwrap();
        assert_eq!(signer.verifier_key().id(), 0x55ee_4561);

        let text = "example.com/log/testdata\n15\nrKbDipCvhuX1GZ7g5BBe8sA6BbJ7ja/1nk427v383cs=\n";
        let signature = cosigner.cosign(text, 1_767_225_600);
        assert_eq!(
            signature.to_string(),
            "— Wit1 mz+y1QAAAABpVbkApmYpTeTNbGtPX5WCNTYAM8mU9jtKA1IKlkal9NGh7E7XfhbLW9TcGVlaXugbrU07pTwVdIPlNqpWrGVUwYUhDQ=="
        );
        // A key of one kind does not answer for a signature of the other.
        let note = Note::new(text.to_owned(), vec![signature]).unwrap();
        let keys = [signer.verifier_key()];
        assert_eq!(note.verify(&keys), Err(NoteError::Unknown(1)));
        let secret = cosigner.signing_key();
        assert!(NoteSigner::from_signing_key(&secret).is_err());
        let again = Cosigner::from_signing_key(&secret).unwrap();
        assert_eq!(again.verifier_key(), cosigner.verifier_key());
        assert_eq!(format!("{cosigner:?}"), "Cosigner(Wit1)");
    }

    #[test]
    fn a_time_beyond_the_limit_is_refused() {
        let cosigner = Cosigner::new("Wit1", &[7; 32]).unwrap();
        let text = "a\n1\nb\n".to_owned();
        for (time, right) in [(1 << 63, false), ((1 << 63) - 1, true)] {
            let note = Note::new(text.clone(), vec![cosigner.cosign(&text, time)]).unwrap();
            assert_eq!(note.verify(&[cosigner.verifier_key()]).is_ok(), right);
        }
    }
}
