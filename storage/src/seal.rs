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
