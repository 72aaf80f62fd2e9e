use aws_lc_rs::hmac;
use zeroize::{Zeroize, Zeroizing};

use crate::{
    Blind, Error, Kind,
    seal::{self, KEY_BYTES, SealingKey},
};

/// A tenant's keys: `data` seals rows, `index` blinds identifiers, `digest` makes digests that can't be guessed, `audit`
/// seals the sensitive fields of audit events. Forgotten when the last holder drops them.
pub struct TenantKeys {
    data: SealingKey,
    index: hmac::Key,
    digest: hmac::Key,
    audit: SealingKey,
    audit_key_id: [u8; 16],
}

const PLAIN_BYTES: usize = 16 + 4 * KEY_BYTES;

impl TenantKeys {
    /// Draws new keys and returns them in their plain form: `audit key id (16) | data | index | digest | audit (32 each)`.
    pub(crate) fn generate() -> Result<Zeroizing<Vec<u8>>, Error> {
        let mut plain = Zeroizing::new(vec![0; PLAIN_BYTES]);
        seal::fill(plain.as_mut_slice())?;
        Ok(plain)
    }

    pub(crate) fn from_plain(mut plain: Vec<u8>) -> Result<Self, Error> {
        let keys = Self::read(&plain);
        plain.zeroize();
        keys.ok_or_else(|| Error::damaged_row("a tenant's keys have the wrong length"))
    }

    fn read(plain: &[u8]) -> Option<Self> {
        let (audit_key_id, rest) = plain.split_first_chunk()?;
        let (data, rest) = rest.split_first_chunk()?;
        let (index, rest) = rest.split_first_chunk::<KEY_BYTES>()?;
        let (digest, rest) = rest.split_first_chunk::<KEY_BYTES>()?;
        let audit = rest.try_into().ok()?;
        Some(Self {
            data: SealingKey::new(data),
            index: hmac::Key::new(hmac::HMAC_SHA256, index),
            digest: hmac::Key::new(hmac::HMAC_SHA256, digest),
            audit: SealingKey::new(audit),
            audit_key_id: *audit_key_id,
        })
    }

    /// Seals under the data key. `aad` must name what it is and where it lies.
    ///
    /// # Errors
    /// [`Error::KeyProvider`] if there is no randomness.
    pub fn seal(&self, aad: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, Error> {
        self.data.seal(aad, plaintext)
    }

    pub(crate) fn seal_after(&self, head: &[u8], aad: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, Error> {
        self.data.seal_after(head, aad, plaintext)
    }

    /// Opens what [`seal`](Self::seal) sealed.
    ///
    /// # Errors
    /// [`Error::Damaged`] if it was sealed under another key or `aad`, or was changed.
    pub fn open(&self, aad: &[u8], sealed: &[u8]) -> Result<Vec<u8>, Error> {
        self.data.open(aad, sealed).ok_or_else(|| Error::damaged_row("a sealed value does not open"))
    }

    /// Seals a sensitive field of an audit event.
    ///
    /// # Errors
    /// As [`seal`](Self::seal).
    pub fn audit_seal(&self, aad: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, Error> {
        self.audit.seal(aad, plaintext)
    }

    /// Opens what [`audit_seal`](Self::audit_seal) sealed.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn audit_open(&self, aad: &[u8], sealed: &[u8]) -> Result<Vec<u8>, Error> {
        self.audit.open(aad, sealed).ok_or_else(|| Error::damaged_row("a sealed audit field does not open"))
    }

    /// Returns the name of the audit key: random, no secret, stands in the events.
    #[must_use]
    pub fn audit_key_id(&self) -> [u8; 16] {
        self.audit_key_id
    }

    /// Returns the HMAC-SHA-256 of `bytes` under the digest key: equal for equal bytes within the tenant, and of no use for
    /// guessing once the key is destroyed.
    #[must_use]
    pub fn digest(&self, bytes: &[u8]) -> [u8; 32] {
        tag(&hmac::sign(&self.digest, bytes))
    }

    /// Returns an identifier as it may stand in a key of `kind`.
    #[must_use]
    pub fn blind(&self, kind: Kind, text: &str) -> Blind {
        let mut context = hmac::Context::with_key(&self.index);
        context.update(&kind.to_bytes());
        context.update(text.as_bytes());
        let mut out = [0; 16];
        out.copy_from_slice(&tag(&context.sign())[..16]);
        Blind(out)
    }
}

fn tag(tag: &hmac::Tag) -> [u8; 32] {
    tag.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

impl std::fmt::Debug for TenantKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TenantKeys")
    }
}
