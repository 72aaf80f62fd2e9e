use std::sync::Arc;

use aws_lc_rs::hmac;

use crate::{AuditKey, Blind, Error, Kind, audit_keys::AuditRing, seal::SealingKey};

mod plain;

pub(crate) use plain::PlainKeys;

/// Which of a tenant's data keys sealed a row. Counts from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DataKeyVersion(pub u32);

impl DataKeyVersion {
    /// The one that a tenant begins with.
    pub(crate) const FIRST: Self = Self(1);
}

impl std::fmt::Display for DataKeyVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A tenant's keys: the newest of `data` seals rows, `index` blinds identifiers, `digest` makes digests that can't be guessed, `audit`
/// seals the sensitive fields of audit events. Forgotten when the last holder drops them.
///
/// Only the data key is rotated. What the others made is part of keys, digests and audit leaves, which are fixed for ever.
pub struct TenantKeys {
    /// The newest first; never empty.
    data: Vec<(DataKeyVersion, SealingKey)>,
    index: hmac::Key,
    digest: hmac::Key,
    audit: Arc<AuditKey>,
    /// What was loaded of the keys that seal audit events; holds as long as these keys have their name.
    audit_ring: Arc<AuditRing>,
}

// The first byte of a sealed value.
/// `nonce | ciphertext | tag` under the first data key.
pub(crate) const SEALED: u8 = 2;
/// `version (4 bytes, big-endian) | nonce | ciphertext | tag` under a later one.
pub(crate) const SEALED_LATER: u8 = 4;

impl TenantKeys {
    /// Seals a row for its place under the newest data key.
    pub(crate) fn seal_row(&self, place: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, Error> {
        let (version, key) = &self.data[0];
        if *version == DataKeyVersion::FIRST {
            return key.seal_after(&[SEALED], place, plaintext);
        }
        let [a, b, c, d] = version.0.to_be_bytes();
        key.seal_after(&[SEALED_LATER, a, b, c, d], place, plaintext)
    }

    /// Opens what [`seal_row`](Self::seal_row) sealed.
    pub(crate) fn open_row(&self, place: &[u8], value: &[u8]) -> Result<Vec<u8>, Error> {
        let (version, sealed) =
            sealed_under(value).ok_or_else(|| Error::damaged_row("a value that should be sealed is not"))?;
        let known = self.data.iter().find(|(known, _)| *known == version);
        let (_, key) = known.ok_or_else(|| {
            Error::damaged_row(format!("a value is sealed under data key {version}, which is gone"))
        })?;
        key.open(place, sealed).ok_or_else(|| Error::damaged_row("a sealed value does not open"))
    }

    /// Returns the version that seals now.
    #[must_use]
    pub fn data_version(&self) -> DataKeyVersion {
        self.data[0].0
    }

    /// Returns the oldest version that still opens rows.
    #[must_use]
    pub fn oldest_data_version(&self) -> DataKeyVersion {
        self.data[self.data.len() - 1].0
    }

    /// Returns the key that sealed the tenant's audit events before there were partitions.
    #[must_use]
    pub fn audit_key(&self) -> &Arc<AuditKey> {
        &self.audit
    }

    pub(crate) fn audit_ring(&self) -> &Arc<AuditRing> {
        &self.audit_ring
    }

    /// Goes on with what was remembered beside the same keys.
    pub(crate) fn go_on_with(&mut self, before: &Self) {
        self.audit_ring = Arc::clone(&before.audit_ring);
    }

    /// Returns what [`remember`](Self::remember) was given, unless the keys have been renamed or dropped from memory since.
    #[must_use]
    pub fn remembered<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.audit_ring.remembered()
    }

    /// Remembers, in the place of what was remembered before, what was made of rows of the tenant that are changed only together with
    /// the name of its keys ([`rename_tenant_keys`](crate::Transaction::rename_tenant_keys)).
    pub fn remember<T: Send + Sync + 'static>(&self, what: Arc<T>) {
        self.audit_ring.remember(what);
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

/// Takes a sealed value apart: the version of the data key, and what it sealed; nothing if the value has another form.
pub(crate) fn sealed_under(value: &[u8]) -> Option<(DataKeyVersion, &[u8])> {
    match value.split_first()? {
        (&SEALED, sealed) => Some((DataKeyVersion::FIRST, sealed)),
        (&SEALED_LATER, rest) => {
            let (version, sealed) = rest.split_first_chunk()?;
            Some((DataKeyVersion(u32::from_be_bytes(*version)), sealed))
        }
        _ => None,
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
