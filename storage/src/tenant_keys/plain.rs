use std::sync::Arc;

use aws_lc_rs::hmac;
use zeroize::Zeroizing;

use super::{DataKeyVersion, TenantKeys};
use crate::{
    AuditKey, Error,
    seal::{KEY_BYTES, SealingKey, random_key},
};

type Key = Zeroizing<[u8; KEY_BYTES]>;

/// A tenant's keys in the plain, as they are while they are made, wrapped and changed.
pub(crate) struct PlainKeys {
    audit_key_id: [u8; 16],
    index: Key,
    digest: Key,
    audit: Key,
    /// The newest first; never empty.
    data: Vec<(DataKeyVersion, Key)>,
}

const FIRST_BYTES: usize = 16 + 4 * KEY_BYTES;
const HEAD_BYTES: usize = 16 + 3 * KEY_BYTES;
const DATA_BYTES: usize = 4 + KEY_BYTES;

impl PlainKeys {
    pub(crate) fn generate() -> Result<Self, Error> {
        let mut audit_key_id = [0; 16];
        crate::seal::fill(&mut audit_key_id)?;
        Ok(Self {
            audit_key_id,
            index: random_key()?,
            digest: random_key()?,
            audit: random_key()?,
            data: vec![(DataKeyVersion::FIRST, random_key()?)],
        })
    }

    /// Returns `audit key id (16) | data | index | digest | audit (32 each)`, which the release without versions reads as well;
    /// for keys that were never rotated.
    pub(crate) fn write_first(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(Vec::with_capacity(FIRST_BYTES));
        out.extend_from_slice(&self.audit_key_id);
        for key in [&self.data[0].1, &self.index, &self.digest, &self.audit] {
            out.extend_from_slice(key.as_slice());
        }
        out
    }

    pub(crate) fn read_first(bytes: &[u8]) -> Result<Self, Error> {
        let mut input = Input(bytes);
        let audit_key_id = input.take()?;
        let data = vec![(DataKeyVersion::FIRST, input.key()?)];
        let keys =
            Self { audit_key_id, data, index: input.key()?, digest: input.key()?, audit: input.key()? };
        input.end().map(|()| keys)
    }

    /// Returns `audit key id (16) | index | digest | audit (32 each) | (version (4) | data key (32))…`, the newest first.
    pub(crate) fn write(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(Vec::with_capacity(HEAD_BYTES + self.data.len() * DATA_BYTES));
        out.extend_from_slice(&self.audit_key_id);
        for key in [&self.index, &self.digest, &self.audit] {
            out.extend_from_slice(key.as_slice());
        }
        for (version, key) in &self.data {
            out.extend_from_slice(&version.0.to_be_bytes());
            out.extend_from_slice(key.as_slice());
        }
        out
    }

    pub(crate) fn read(bytes: &[u8]) -> Result<Self, Error> {
        let mut input = Input(bytes);
        let audit_key_id = input.take()?;
        let (index, digest, audit) = (input.key()?, input.key()?, input.key()?);
        let mut data = Vec::new();
        while data.is_empty() || !input.0.is_empty() {
            let version = DataKeyVersion(u32::from_be_bytes(input.take()?));
            data.push((version, input.key()?));
        }
        Ok(Self { audit_key_id, index, digest, audit, data })
    }

    /// Draws a data key that seals from now on, beside those that still open.
    pub(crate) fn add_data_key(&mut self) -> Result<DataKeyVersion, Error> {
        let newest = self.data[0].0.0.checked_add(1).map(DataKeyVersion);
        let newest =
            newest.ok_or_else(|| Error::damaged_row("a tenant's data key has no further version"))?;
        self.data.insert(0, (newest, random_key()?));
        Ok(newest)
    }

    /// Forgets every data key but the newest.
    pub(crate) fn drop_old_data_keys(&mut self) {
        self.data.truncate(1);
    }

    pub(crate) fn to_keys(&self) -> TenantKeys {
        TenantKeys {
            data: self.data.iter().map(|(version, key)| (*version, SealingKey::new(key))).collect(),
            index: hmac::Key::new(hmac::HMAC_SHA256, self.index.as_slice()),
            digest: hmac::Key::new(hmac::HMAC_SHA256, self.digest.as_slice()),
            audit: Arc::new(AuditKey::of_tenant(self.audit_key_id, SealingKey::new(&self.audit))),
            audit_ring: Arc::default(),
        }
    }
}

struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (taken, rest) = self.0.split_first_chunk().ok_or_else(wrong_length)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn key(&mut self) -> Result<Key, Error> {
        self.take().map(Zeroizing::new)
    }

    fn end(&self) -> Result<(), Error> {
        if self.0.is_empty() { Ok(()) } else { Err(wrong_length()) }
    }
}

fn wrong_length() -> Error {
    Error::damaged_row("a tenant's keys have the wrong length")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_of_the_release_before_is_still_read() {
        let bytes: Vec<u8> = (0..144).collect();
        let keys = PlainKeys::read_first(&bytes).unwrap();
        assert_eq!(keys.write_first().as_slice(), bytes);
        assert_eq!((keys.data[0].1[0], keys.index[0], keys.digest[0], keys.audit[0]), (16, 48, 80, 112));
        let again = PlainKeys::read(&keys.write()).unwrap();
        assert_eq!(again.write_first().as_slice(), bytes);
        assert!(PlainKeys::read_first(&bytes[..143]).is_err());
        assert!(PlainKeys::read(&keys.write()[..HEAD_BYTES]).is_err(), "without any data key");
        assert!(PlainKeys::read(&keys.write()[..HEAD_BYTES + 35]).is_err());
    }

    #[test]
    fn old_rows_open_until_their_data_key_is_dropped() {
        let mut plain = PlainKeys::generate().unwrap();
        let first = plain.to_keys().seal_row(b"place", b"one").unwrap();
        assert_eq!(first[0], super::super::SEALED);
        assert_eq!(plain.add_data_key().unwrap(), DataKeyVersion(2));
        let mut plain = PlainKeys::read(&plain.write()).unwrap();
        let keys = plain.to_keys();
        let second = keys.seal_row(b"place", b"two").unwrap();
        assert_eq!(second[..5], [super::super::SEALED_LATER, 0, 0, 0, 2]);
        assert_eq!(keys.open_row(b"place", &first).unwrap(), b"one");
        assert_eq!(keys.open_row(b"place", &second).unwrap(), b"two");
        assert!(keys.open_row(b"elsewhere", &second).is_err());
        plain.drop_old_data_keys();
        let keys = plain.to_keys();
        assert_eq!(keys.open_row(b"place", &second).unwrap(), b"two");
        let gone = keys.open_row(b"place", &first).unwrap_err().to_string();
        assert!(gone.contains("data key 1, which is gone"), "{gone}");
    }
}
