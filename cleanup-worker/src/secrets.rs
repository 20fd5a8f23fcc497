//! Secrets that cannot be printed by accident, and v1's token encryption (Fernet).
//!
//! Format: the Fernet specification (<https://github.com/fernet/spec/blob/master/Spec.md>). v1 enforces no age
//! limit on its tokens, so neither does this module.

use std::fmt;

use aes::Aes128;
use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeDecrypt as _, KeyIvInit as _};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use zeroize::{Zeroize as _, Zeroizing};

/// Base64 as Fernet writes it; padding may have been lost in a copied environment variable.
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

const VERSION: u8 = 0x80;
const IV_START: usize = 1 + 8;
const BODY_START: usize = IV_START + 16;
const MAC_LENGTH: usize = 32;

/// A text that must not be seen: it is overwritten when dropped, and `Debug` and `Display` print a placeholder.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes ownership of a secret text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The secret itself, for the one place that has to send or decrypt it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl<'de> serde::Deserialize<'de> for Secret {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

/// Why a text is not a usable Fernet key. The text itself is never repeated.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum KeyError {
    /// The text has characters that base64 has not, or a length it cannot have.
    #[error("it is not url-safe base64")]
    NotBase64,
    /// It is base64, of another number of bytes than the 32 of a Fernet key.
    #[error("it is base64 of {bytes} bytes, and a Fernet key has 32")]
    WrongLength {
        /// How many bytes the text decodes to.
        bytes: usize,
    },
}

/// Why a stored token could not be opened. Neither the token nor the key is repeated.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
pub enum DecryptError {
    /// Not a Fernet token: stored in plain, or encrypted by another scheme. Its bytes must not be used.
    #[error(
        "the stored token is not_encrypted_or_foreign: it does not start as a Fernet token does"
    )]
    NotEncryptedOrForeign,
    /// Starts like a Fernet token, but has not its shape.
    #[error("the stored token is cut or damaged")]
    Malformed,
    /// The signature does not match: another key, or an altered token.
    #[error("the stored token was made with another key, or was altered")]
    WrongKeyOrAltered,
    /// The signature matches, and yet what it signs is not a text: only a foreign writer with the same key makes that.
    #[error("the stored token opens, and what it holds is not a text")]
    NotText,
}

impl DecryptError {
    /// The name of this error in entries and reports.
    pub const fn code(self) -> &'static str {
        match self {
            Self::NotEncryptedOrForeign => "not_encrypted_or_foreign",
            Self::Malformed => "malformed",
            Self::WrongKeyOrAltered => "wrong_key_or_altered",
            Self::NotText => "not_text",
        }
    }
}

/// v1's `ENCRYPTION_KEY`: 16 bytes that sign, then 16 bytes that encrypt.
#[derive(Clone)]
pub struct FernetKey(Zeroizing<[u8; 32]>);

impl fmt::Debug for FernetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FernetKey(..)")
    }
}

impl FernetKey {
    /// Reads a key: base64 of 32 bytes, with or without padding.
    ///
    /// # Errors
    /// [`KeyError`] says what is wrong without repeating the text.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        // v1's Python reads both alphabets, so a key that worked there works here.
        let text = Zeroizing::new(text.trim().replace('+', "-").replace('/', "_"));
        let bytes = Zeroizing::new(
            URL_SAFE
                .decode(text.as_bytes())
                .map_err(|_| KeyError::NotBase64)?,
        );
        let mut key = Zeroizing::new([0_u8; 32]);
        if bytes.len() != key.len() {
            return Err(KeyError::WrongLength { bytes: bytes.len() });
        }
        key.copy_from_slice(&bytes);
        Ok(Self(key))
    }

    /// Opens a token. The signature is checked, in constant time, before anything is decrypted.
    ///
    /// # Errors
    /// [`DecryptError`], one variant per cause.
    pub fn decrypt(&self, token: &str) -> Result<Secret, DecryptError> {
        let token = token.trim();
        // The version byte and the five high bytes of a time before the year 2106, in base64.
        if !token.starts_with("gAAAAA") {
            return Err(DecryptError::NotEncryptedOrForeign);
        }
        let bytes = URL_SAFE
            .decode(token)
            .map_err(|_| DecryptError::Malformed)?;
        let shortest = BODY_START + 16 + MAC_LENGTH;
        if bytes.len() < shortest || !(bytes.len() - BODY_START - MAC_LENGTH).is_multiple_of(16) {
            return Err(DecryptError::Malformed);
        }
        if bytes[0] != VERSION {
            return Err(DecryptError::NotEncryptedOrForeign);
        }
        let (signed, mac) = bytes.split_at(bytes.len() - MAC_LENGTH);
        let (signing, encrypting) = self.0.split_at(16);
        let mut hmac =
            Hmac::<Sha256>::new_from_slice(signing).map_err(|_| DecryptError::Malformed)?;
        hmac.update(signed);
        hmac.verify_slice(mac)
            .map_err(|_| DecryptError::WrongKeyOrAltered)?;

        let mut body = Zeroizing::new(signed[BODY_START..].to_vec());
        let plain =
            cbc::Decryptor::<Aes128>::new_from_slices(encrypting, &signed[IV_START..BODY_START])
                .map_err(|_| DecryptError::Malformed)?
                .decrypt_padded::<Pkcs7>(&mut body)
                .map_err(|_| DecryptError::NotText)?;
        match std::str::from_utf8(plain) {
            Ok(text) => Ok(Secret::new(text)),
            Err(_) => Err(DecryptError::NotText),
        }
    }
}

/// What stands for a stored token in the ledger: hex SHA-256(user id ‖ `google_refresh_token` ‖ ciphertext). It changes when the token does,
/// and says nothing about it.
pub fn token_fingerprint(user_id: &str, ciphertext: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(user_id.as_bytes());
    hash.update(b"google_refresh_token");
    hash.update(ciphertext.as_bytes());
    let mut digest = hash.finalize();
    let text = hex::encode(digest);
    digest.zeroize();
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    const TOKEN: &str = "gAAAAABpaC4AQEFCQ0RFRkdISUpLTE1OTy89KU5-2hSVumjs3d_anCbwI0ug--g_1kBRTf0mf5yABYH8KhR4R6Y55giOJBXKqvErO-CwZTzWyNVQoBZR4NU=";
    const FLIPPED: &str = "gAAAAABpaC4AQEFCQ0RFRkdISUpLTE1OTy89KU5-2xSVumjs3d_anCbwI0ug--g_1kBRTf0mf5yABYH8KhR4R6Y55giOJBXKqvErO-CwZTzWyNVQoBZR4NU=";
    const EMPTY: &str = "gAAAAABpaC4AQEFCQ0RFRkdISUpLTE1OT7LkFdb5Gqlykiy_QciBnTpI8cHtD5N9uc0GS9A0ECmYmiyYRqkRnFASY0kWJ-4LVg==";
    const SPEC_KEY: &str = "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=";
    const SPEC_TOKEN: &str = "gAAAAAAdwJ6wAAECAwQFBgcICQoLDA0ODy021cpGVWKZ_eEwCGM4BLLF_5CV9dOPmrhuVUPgJobwOz7JcbmrR64jVmpU4IwqDA==";

    fn open(key: &str, token: &str) -> Result<String, DecryptError> {
        let key = FernetKey::parse(key).expect("a key of the test vectors");
        key.decrypt(token).map(|secret| secret.expose().to_owned())
    }

    #[test]
    fn the_reference_vectors_open() {
        assert_eq!(
            open(KEY, TOKEN).as_deref(),
            Ok("1//0example-refresh-token_v1")
        );
        assert_eq!(open(KEY, EMPTY).as_deref(), Ok(""));
        assert_eq!(open(SPEC_KEY, SPEC_TOKEN).as_deref(), Ok("hello"));
    }

    #[test]
    fn a_flipped_bit_or_another_key_fails_on_the_signature() {
        assert_eq!(open(KEY, FLIPPED), Err(DecryptError::WrongKeyOrAltered));
        assert_eq!(open(SPEC_KEY, TOKEN), Err(DecryptError::WrongKeyOrAltered));
    }

    #[test]
    fn what_is_not_fernet_is_named_so_and_never_used() {
        for foreign in ["", "1//0plain-refresh-token", "ya29.a0", "0f1e2d:9a8b7c"] {
            assert_eq!(open(KEY, foreign), Err(DecryptError::NotEncryptedOrForeign));
        }
        assert_eq!(
            DecryptError::NotEncryptedOrForeign.code(),
            "not_encrypted_or_foreign"
        );
    }

    #[test]
    fn cut_tokens_are_malformed_at_every_length() {
        for length in 6..TOKEN.len() - 4 {
            let cut = &TOKEN[..length];
            let error = open(KEY, cut).expect_err("a cut token");
            assert!(
                matches!(
                    error,
                    DecryptError::Malformed | DecryptError::WrongKeyOrAltered
                ),
                "{length}: {error:?}"
            );
        }
    }

    #[test]
    fn keys_are_32_bytes() {
        assert!(FernetKey::parse(KEY.trim_end_matches('=')).is_ok());
        assert!(FernetKey::parse(&format!(" {KEY}\n")).is_ok());
        assert_eq!(
            FernetKey::parse("AAEC").err(),
            Some(KeyError::WrongLength { bytes: 3 })
        );
        assert_eq!(
            FernetKey::parse("not base64!").err(),
            Some(KeyError::NotBase64)
        );
    }

    #[test]
    fn nothing_prints_a_secret() {
        let secret = Secret::new("hunter2");
        let key = FernetKey::parse(KEY).expect("a key of the test vectors");
        let shown = format!("{secret} {secret:?} {key:?}");
        assert_eq!(shown, "[secret] Secret(..) FernetKey(..)");
    }

    #[test]
    fn a_fingerprint_belongs_to_user_and_token() {
        let one = token_fingerprint("u1", TOKEN);
        assert_eq!(one.len(), 64);
        assert_eq!(one, token_fingerprint("u1", TOKEN));
        assert_ne!(one, token_fingerprint("u2", TOKEN));
        assert_ne!(one, token_fingerprint("u1", FLIPPED));
    }

    proptest::proptest! {
        #[test]
        fn no_token_but_a_signed_one_opens(token in "(gAAAAA)?[A-Za-z0-9_=-]{0,200}") {
            proptest::prop_assert!(open(KEY, &token).is_err());
        }

        #[test]
        fn any_changed_byte_is_noticed(place in 0..TOKEN.len() - 4, by in 1..64_usize) {
            let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
            let mut token: Vec<char> = TOKEN.chars().collect();
            let old = alphabet.find(token[place]).expect("base64");
            token[place] = alphabet.chars().nth((old + by) % 64).expect("base64");
            let token: String = token.into_iter().collect();
            proptest::prop_assert!(open(KEY, &token).is_err());
        }
    }
}
