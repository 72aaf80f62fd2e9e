use aws_lc_rs::hkdf;
use zeroize::Zeroizing;

use super::names::{AuditPartition, AuditSubject, of_both};
use crate::{
    Error,
    seal::{KEY_BYTES, SealingKey},
};

pub(crate) type Secret = Zeroizing<[u8; KEY_BYTES]>;

/// What separates these keys from any other use of the same secrets.
const PURPOSE: &[u8] = b"aesp-audit-content-v1";

/// A key that seals sensitive parts of audit events, with the name that stands in them.
pub struct AuditKey {
    id: Vec<u8>,
    key: SealingKey,
}

impl AuditKey {
    /// The key that a tenant of an older release has, of no partition and no subject.
    pub(crate) fn of_tenant(id: [u8; 16], key: SealingKey) -> Self {
        Self { id: id.to_vec(), key }
    }

    /// Returns HKDF-SHA256 (RFC 5869) of the partition's key followed by the subject's, with the purpose and both names as info.
    pub(super) fn derive(
        partition: (AuditPartition, &Secret),
        subject: Option<(AuditSubject, &Secret)>,
    ) -> Result<Self, Error> {
        // With room for both: a copy left behind by growing would not be wiped.
        let mut both = Zeroizing::new(Vec::with_capacity(2 * KEY_BYTES));
        both.extend_from_slice(partition.1.as_slice());
        if let Some((_, secret)) = subject {
            both.extend_from_slice(secret.as_slice());
        }
        let id = of_both(partition.0, subject.map(|(name, _)| name));
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        hkdf::Salt::new(hkdf::HKDF_SHA256, &[])
            .extract(&both)
            .expand(&[PURPOSE, &id], hkdf::HKDF_SHA256)
            .and_then(|okm| okm.fill(key.as_mut_slice()))
            .map_err(|_| Error::KeyProvider("an audit key can't be derived".into()))?;
        Ok(Self { id, key: SealingKey::new(&key) })
    }

    /// Returns its name: random, no secret, stands in the events.
    #[must_use]
    pub fn id(&self) -> &[u8] {
        &self.id
    }

    /// Seals a sensitive field of an audit event. `aad` must name what it is and where it lies.
    ///
    /// # Errors
    /// [`Error::KeyProvider`] if there is no randomness.
    pub fn seal(&self, aad: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, Error> {
        self.key.seal(aad, plaintext)
    }

    /// Opens what [`seal`](Self::seal) sealed.
    ///
    /// # Errors
    /// [`Error::Damaged`] if it was sealed under another key or `aad`, or was changed.
    pub fn open(&self, aad: &[u8], sealed: &[u8]) -> Result<Vec<u8>, Error> {
        self.key.open(aad, sealed).ok_or_else(|| Error::damaged_row("a sealed audit field does not open"))
    }
}

impl std::fmt::Debug for AuditKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AuditKey")
    }
}
