//! What is stored of a wrapped key: `wrapKey` takes no associated data and little text, so it wraps a key of one use, and that seals.

use aesp_storage::Error;
use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand,
};
use zeroize::Zeroizing;

const MARK: &[u8] = b"aesp-azkv1:";
pub(super) const KEY_BYTES: usize = 32;

/// A key that seals once.
pub(super) struct OneUse(pub(super) Zeroizing<[u8; KEY_BYTES]>);

/// A wrapped key, taken apart: `mark | length (2) | version | length (2) | wrapped | nonce (12) | sealed`.
pub(super) struct Envelope<'a> {
    pub(super) version: &'a str,
    pub(super) wrapped: &'a [u8],
    sealed: &'a [u8],
}

impl OneUse {
    pub(super) fn generate() -> Result<Self, Error> {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        rand::fill(key.as_mut_slice()).map_err(|_| no_randomness())?;
        Ok(Self(key))
    }

    fn key(&self) -> LessSafeKey {
        LessSafeKey::new(UnboundKey::new(&AES_256_GCM, self.0.as_slice()).expect("32 bytes"))
    }

    /// Seals, and puts everything into one envelope.
    pub(super) fn seal(
        &self,
        version: &str,
        wrapped: &[u8],
        plain: &[u8],
        aad: &[u8],
    ) -> Result<Vec<u8>, Error> {
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).map_err(|_| no_randomness())?;
        let mut sealed = plain.to_vec();
        let done = self.key().seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(bound(version, aad)),
            &mut sealed,
        );
        done.map_err(|_| Error::KeyProvider("a key is too long to be wrapped".into()))?;
        let mut out = MARK.to_vec();
        for part in [version.as_bytes(), wrapped] {
            let length = u16::try_from(part.len());
            let length = length.map_err(|_| Error::KeyProvider("a wrapped key is too long".into()))?;
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(part);
        }
        out.extend_from_slice(&nonce);
        out.extend_from_slice(&sealed);
        Ok(out)
    }

    pub(super) fn open(&self, envelope: &Envelope<'_>, aad: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = envelope.sealed.split_first_chunk::<NONCE_LEN>()?;
        let mut plain = Zeroizing::new(sealed.to_vec());
        let opened = self.key().open_in_place(
            Nonce::assume_unique_for_key(*nonce),
            Aad::from(bound(envelope.version, aad)),
            &mut plain,
        );
        opened.ok().map(|opened| opened.to_vec())
    }
}

fn bound(version: &str, aad: &[u8]) -> Vec<u8> {
    [version.as_bytes(), &[0], aad].concat()
}

impl<'a> Envelope<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let (version, rest) = part(bytes.strip_prefix(MARK)?)?;
        let (wrapped, sealed) = part(rest)?;
        let version = std::str::from_utf8(version).ok()?;
        let plain = !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_alphanumeric());
        plain.then_some(Self { version, wrapped, sealed })
    }
}

fn part(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(u16::from_be_bytes(*length).into())
}

fn no_randomness() -> Error {
    Error::KeyProvider("the system gives no randomness".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envelope_opens_for_its_place_only() {
        let key = OneUse::generate().unwrap();
        let sealed = key.seal("0a1b", b"wrapped", b"a key", b"tenant 7").unwrap();
        let envelope = Envelope::read(&sealed).unwrap();
        assert_eq!((envelope.version, envelope.wrapped), ("0a1b", &b"wrapped"[..]));
        assert_eq!(key.open(&envelope, b"tenant 7").unwrap(), b"a key");
        assert!(key.open(&envelope, b"tenant 8").is_none());
        assert!(OneUse::generate().unwrap().open(&envelope, b"tenant 7").is_none());
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            let opened = Envelope::read(&changed).and_then(|envelope| {
                // The wrapped part is the key manager's to check.
                (envelope.wrapped == b"wrapped").then(|| key.open(&envelope, b"tenant 7")).flatten()
            });
            assert!(opened.is_none(), "byte {at}");
            assert!(Envelope::read(&sealed[..at]).is_none_or(|cut| key.open(&cut, b"tenant 7").is_none()));
        }
    }
}
