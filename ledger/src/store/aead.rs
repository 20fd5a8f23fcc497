//! XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03): HChaCha20 makes the key of a ChaCha20-Poly1305 (RFC 8439), which
//! `ring` computes in a quarter of the time of the portable crates. Verify opens every payload there is.

use chacha20::{R20, hchacha};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroizing;

/// Length of a key in bytes.
pub(super) const KEY_BYTES: usize = 32;
/// Length of a nonce in bytes: long enough to be drawn at random for as long as a key is used.
pub(super) const NONCE_BYTES: usize = 24;

/// Encrypts; the tag's 16 bytes stand at the end. `None` only for messages beyond the algorithm's 256 GiB.
pub(super) fn seal(
    key: &[u8; KEY_BYTES],
    nonce: &[u8; NONCE_BYTES],
    aad: &[u8],
    message: &[u8],
) -> Option<Vec<u8>> {
    let (key, nonce) = derived(key, nonce)?;
    let mut bytes = Vec::with_capacity(message.len() + CHACHA20_POLY1305.tag_len());
    bytes.extend_from_slice(message);
    key.seal_in_place_append_tag(nonce, Aad::from(aad), &mut bytes)
        .ok()?;
    Some(bytes)
}

/// Decrypts what [`seal`] made; `None` for anything else.
pub(super) fn open(
    key: &[u8; KEY_BYTES],
    nonce: &[u8],
    aad: &[u8],
    bytes: &[u8],
) -> Option<Vec<u8>> {
    open_in(Vec::new(), key, nonce, aad, bytes)
}

/// As [`open`], in the room of a vector that is no longer needed.
pub(super) fn open_in(
    mut message: Vec<u8>,
    key: &[u8; KEY_BYTES],
    nonce: &[u8],
    aad: &[u8],
    bytes: &[u8],
) -> Option<Vec<u8>> {
    let (key, nonce) = derived(key, nonce.try_into().ok()?)?;
    message.clear();
    message.extend_from_slice(bytes);
    let length = key
        .open_in_place(nonce, Aad::from(aad), &mut message)
        .ok()?
        .len();
    message.truncate(length);
    Some(message)
}

/// Section 2.3: the first 16 bytes of the nonce go into the key, the others behind four zeros.
fn derived(key: &[u8; KEY_BYTES], nonce: &[u8; NONCE_BYTES]) -> Option<(LessSafeKey, Nonce)> {
    let (first, rest) = nonce.split_first_chunk::<16>()?;
    let subkey = Zeroizing::new(<[u8; KEY_BYTES]>::from(hchacha::<R20>(
        &(*key).into(),
        &(*first).into(),
    )));
    let mut short = [0; 12];
    short[4..].copy_from_slice(rest);
    let unbound = UnboundKey::new(&CHACHA20_POLY1305, subkey.as_slice()).ok()?;
    Some((
        LessSafeKey::new(unbound),
        Nonce::assume_unique_for_key(short),
    ))
}

#[cfg(test)]
mod tests {
    use chacha20poly1305::XChaCha20Poly1305;
    use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
    use proptest::prelude::*;

    use super::*;

    /// draft-irtf-cfrg-xchacha-03, appendix A.3.1.
    #[test]
    fn the_vector_of_the_draft() {
        let key: [u8; KEY_BYTES] = std::array::from_fn(|at| 0x80 + u8::try_from(at).unwrap());
        let nonce: [u8; NONCE_BYTES] = std::array::from_fn(|at| 0x40 + u8::try_from(at).unwrap());
        let aad = hex::decode("50515253c0c1c2c3c4c5c6c7").unwrap();
        let message =
            b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for \
                        the future, sunscreen would be it.";
        let sealed = seal(&key, &nonce, &aad, message).unwrap();
        assert_eq!(
            hex::encode(&sealed),
            "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb731c7f1b0b4aa6440bf3a82f4eda7e39\
             ae64c6708c54c216cb96b72e1213b4522f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff9\
             21f9664c97637da9768812f615c68b13b52e\
             c0875924c1c7987947deafd8780acf49"
        );
        assert_eq!(open(&key, &nonce, &aad, &sealed).unwrap(), message);
    }

    proptest! {
        #[test]
        fn another_implementation_makes_the_same(
            key in any::<[u8; KEY_BYTES]>(), nonce in any::<[u8; NONCE_BYTES]>(),
            aad in proptest::collection::vec(any::<u8>(), 0..90),
            message in proptest::collection::vec(any::<u8>(), 0..700),
            flip in any::<prop::sample::Index>(),
        ) {
            let sealed = seal(&key, &nonce, &aad, &message).unwrap();
            let other = XChaCha20Poly1305::new(&key.into());
            let payload = Payload { msg: &message, aad: &aad };
            prop_assert_eq!(&other.encrypt(&nonce.into(), payload).unwrap(), &sealed);
            prop_assert_eq!(open(&key, &nonce, &aad, &sealed), Some(message));
            let mut edited = sealed.clone();
            edited[flip.index(sealed.len())] ^= 1;
            prop_assert_eq!(open(&key, &nonce, &aad, &edited), None);
            prop_assert_eq!(open(&key, &nonce[1..], &aad, &sealed), None);
        }
    }
}
