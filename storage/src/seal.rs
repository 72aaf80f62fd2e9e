use aws_lc_rs::rand;
use xaes_256_gcm::{
    Key, Nonce, Tag, Xaes256Gcm,
    aead::{AeadInOut, KeyInit},
};
use zeroize::Zeroizing;

use crate::Error;

/// Seals under one 256-bit key with XAES-256-GCM, whose 192-bit nonces may be random for practically any number of
/// messages. Forgets the key when it is dropped.
///
/// Source: C2SP XAES-256-GCM.
pub(crate) struct SealingKey(Xaes256Gcm);

pub(crate) const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;

/// How much longer sealed data is than plain data.
pub(crate) const OVERHEAD_BYTES: usize = NONCE_BYTES + TAG_BYTES;

impl SealingKey {
    pub(crate) fn new(key: &[u8; KEY_BYTES]) -> Self {
        Self(Xaes256Gcm::new(&Key::<Xaes256Gcm>::from(*key)))
    }

    pub(crate) fn generate() -> Result<Self, Error> {
        Ok(Self::new(&*random_key()?))
    }

    /// Returns `nonce | ciphertext | tag`.
    pub(crate) fn seal(&self, aad: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, Error> {
        self.seal_after(&[], aad, plaintext)
    }

    /// Returns `head | nonce | ciphertext | tag`; the head is neither sealed nor authenticated.
    pub(crate) fn seal_after(&self, head: &[u8], aad: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, Error> {
        let mut nonce = [0; NONCE_BYTES];
        fill(&mut nonce)?;
        let mut out = Vec::with_capacity(head.len() + OVERHEAD_BYTES + plaintext.len());
        out.extend_from_slice(head);
        out.extend_from_slice(&nonce);
        out.extend_from_slice(plaintext);
        let body = &mut out[head.len() + NONCE_BYTES..];
        let tag = self
            .0
            .encrypt_inout_detached(&Nonce::from(nonce), aad, body.into())
            .map_err(|_| Error::KeyProvider("plaintext too long to be sealed".into()))?;
        out.extend_from_slice(&tag);
        Ok(out)
    }

    /// Returns the plaintext; `None` if it was not sealed under this key with this `aad`.
    pub(crate) fn open(&self, aad: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, rest) = sealed.split_first_chunk::<NONCE_BYTES>()?;
        let (body, tag) = rest.split_last_chunk::<TAG_BYTES>()?;
        let mut out = body.to_vec();
        let opened = self.0.decrypt_inout_detached(
            &Nonce::from(*nonce),
            aad,
            out.as_mut_slice().into(),
            &Tag::from(*tag),
        );
        opened.ok().map(|()| out)
    }
}

/// Draws a new key from the cryptographic provider.
pub(crate) fn random_key() -> Result<Zeroizing<[u8; KEY_BYTES]>, Error> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    fill(key.as_mut_slice())?;
    Ok(key)
}

pub(crate) fn fill(out: &mut [u8]) -> Result<(), Error> {
    rand::fill(out).map_err(|_| Error::KeyProvider("the system gives no randomness".into()))
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;
    use proptest::prelude::*;

    use super::*;

    /// Source: C2SP XAES-256-GCM.md, "Test vectors" (the same in filippo.io/xaes256gcm and in Tink).
    #[test]
    fn the_vectors_of_c2sp_open() {
        let nonce = b"ABCDEFGHIJKLMNOPQRSTUVWX";
        let vectors: [(u8, &[u8], &str); 2] = [
            (1, b"", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"),
            (3, b"c2sp.org/XAES-256-GCM", "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"),
        ];
        for (key, aad, sealed) in vectors {
            let sealed = [nonce, HEXLOWER.decode(sealed.as_bytes()).unwrap().as_slice()].concat();
            let opened = SealingKey::new(&[key; KEY_BYTES]).open(aad, &sealed);
            assert_eq!(opened.as_deref(), Some(&b"XAES-256-GCM"[..]));
        }
    }

    #[test]
    fn equal_texts_seal_differently() {
        let key = SealingKey::generate().unwrap();
        assert_ne!(key.seal(b"", b"text").unwrap(), key.seal(b"", b"text").unwrap());
    }

    proptest! {
        #[test]
        fn only_what_was_sealed_opens(text: Vec<u8>, aad: Vec<u8>, place: prop::sample::Index, flip in 1..=255_u8) {
            let key = SealingKey::generate().unwrap();
            let sealed = key.seal(&aad, &text).unwrap();
            prop_assert_eq!(sealed.len(), text.len() + OVERHEAD_BYTES);
            prop_assert_eq!(key.open(&aad, &sealed), Some(text));
            let mut changed = sealed.clone();
            changed[place.index(sealed.len())] ^= flip;
            prop_assert_eq!(key.open(&aad, &changed), None);
            prop_assert_eq!(key.open(&[&aad[..], b"x"].concat(), &sealed), None);
            prop_assert_eq!(key.open(&aad, &sealed[..place.index(sealed.len())]), None);
            prop_assert_eq!(SealingKey::generate().unwrap().open(&aad, &sealed), None);
        }
    }
}
