//! Fernet tokens as v1 stored them: version, seconds, IV, AES-128-CBC, HMAC-SHA256.
//!
//! Format: the Fernet specification (github.com/fernet/spec). Only making tokens is needed here; the program under test
//! reads them with code of its own.

use aes::Aes128;
use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockModeEncrypt, KeyIvInit};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// 32 bytes: the first 16 sign, the last 16 encrypt.
#[derive(Clone, Copy)]
pub struct FernetKey([u8; 32]);

impl std::fmt::Debug for FernetKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FernetKey(..)")
    }
}

impl FernetKey {
    /// A key of these bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The key as `ENCRYPTION_KEY` holds it: URL-safe base64 with padding.
    pub fn encoded(&self) -> String {
        URL_SAFE.encode(self.0)
    }

    /// The token of a text, made at `seconds` (Unix time) with the given IV.
    ///
    /// # Panics
    /// Never: the text is padded first.
    pub fn encrypt(&self, plain: &[u8], seconds: u64, iv: [u8; 16]) -> String {
        let mut signing = [0; 16];
        let mut secret = [0; 16];
        signing.copy_from_slice(&self.0[..16]);
        secret.copy_from_slice(&self.0[16..]);

        let mut token = vec![0x80];
        token.extend(seconds.to_be_bytes());
        token.extend(iv);
        let start = token.len();
        token.extend(plain);
        // PKCS#7 always adds: a whole block where the text fills its last one.
        token.resize(start + (plain.len() / 16 + 1) * 16, 0);
        #[expect(
            clippy::expect_used,
            reason = "the line above made room for the padding"
        )]
        cbc::Encryptor::<Aes128>::new(&secret.into(), &iv.into())
            .encrypt_padded::<Pkcs7>(&mut token[start..], plain.len())
            .expect("room for the padding");
        token.extend(hmac_sha256(&signing, &token));
        URL_SAFE.encode(token)
    }
}

/// HMAC-SHA256 of a message.
pub(crate) fn hmac_sha256(key: &[u8], message: &[u8]) -> [u8; 32] {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> FernetKey {
        let mut bytes = [0; 32];
        for (value, byte) in (0..).zip(bytes.iter_mut()) {
            *byte = value;
        }
        FernetKey::new(bytes)
    }

    fn iv() -> [u8; 16] {
        let mut iv = [0; 16];
        for (value, byte) in (0x40..).zip(iv.iter_mut()) {
            *byte = value;
        }
        iv
    }

    #[test]
    fn makes_the_reference_implementations_tokens() {
        assert_eq!(
            key().encoded(),
            "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
        );
        assert_eq!(
            key().encrypt(b"1//0example-refresh-token_v1", 1_768_435_200, iv()),
            "gAAAAABpaC4AQEFCQ0RFRkdISUpLTE1OTy89KU5-2hSVumjs3d_anCbwI0ug--g_1kBRTf0mf5yABYH8KhR4R6Y55giOJBXKqvErO-CwZTzWyNVQoBZR4NU="
        );
        assert_eq!(
            key().encrypt(b"", 1_768_435_200, iv()),
            "gAAAAABpaC4AQEFCQ0RFRkdISUpLTE1OT7LkFdb5Gqlykiy_QciBnTpI8cHtD5N9uc0GS9A0ECmYmiyYRqkRnFASY0kWJ-4LVg=="
        );
    }

    #[test]
    fn makes_the_specifications_token() {
        let mut iv = [0; 16];
        for (value, byte) in (0..).zip(iv.iter_mut()) {
            *byte = value;
        }
        let mut bytes = [0; 32];
        bytes.copy_from_slice(
            &URL_SAFE
                .decode("cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=")
                .unwrap(),
        );
        assert_eq!(
            FernetKey::new(bytes).encrypt(b"hello", 499_162_800, iv),
            "gAAAAAAdwJ6wAAECAwQFBgcICQoLDA0ODy021cpGVWKZ_eEwCGM4BLLF_5CV9dOPmrhuVUPgJobwOz7JcbmrR64jVmpU4IwqDA=="
        );
    }
}
