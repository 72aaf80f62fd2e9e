use aesp_proto::{PrincipalId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{Error, KeyError, KeyReader, KeyWriter, RowKey, seal};

const DAY_MS: i64 = 86_400_000;
const SALT_BYTES: usize = 8;
const SUBJECT_SALT_BYTES: usize = 4;
/// Bytes of the name of a partition's key.
const PARTITION_BYTES: usize = 16;
/// Bytes of the name of a subject's key.
const SUBJECT_BYTES: usize = 20;

/// A class of retention in a stretch of time: events of one period are kept, and erased, together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AuditPeriod {
    /// Which class, by its number in the tenant's rules.
    pub class: u16,
    /// The first day, counted from 1970-01-01 (UTC).
    pub first_day: u32,
    /// How many days.
    pub days: u16,
}

impl AuditPeriod {
    /// Returns when it begins.
    #[must_use]
    pub fn start(self) -> Timestamp {
        Timestamp(i64::from(self.first_day) * DAY_MS)
    }

    /// Returns when it is over.
    #[must_use]
    pub fn end(self) -> Timestamp {
        Timestamp((i64::from(self.first_day) + i64::from(self.days)) * DAY_MS)
    }

    fn write(self) -> [u8; SALT_BYTES] {
        let mut out = [0; SALT_BYTES];
        out[..2].copy_from_slice(&self.class.to_be_bytes());
        out[2..6].copy_from_slice(&self.first_day.to_be_bytes());
        out[6..].copy_from_slice(&self.days.to_be_bytes());
        out
    }
}

/// Names the key of a period (16 bytes): class (2), first day (4), days (2), all big-endian, and 8 random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AuditPartition {
    /// Of what.
    pub period: AuditPeriod,
    salt: [u8; SALT_BYTES],
}

impl AuditPartition {
    pub(super) fn new(period: AuditPeriod) -> Result<Self, Error> {
        let mut salt = [0; SALT_BYTES];
        seal::fill(&mut salt)?;
        Ok(Self { period, salt })
    }

    /// Returns what the keys of all partitions of the period start with.
    pub(super) fn prefix(period: AuditPeriod) -> Vec<u8> {
        period.write().to_vec()
    }

    fn bytes(self) -> [u8; PARTITION_BYTES] {
        let mut out = [0; PARTITION_BYTES];
        out[..SALT_BYTES].copy_from_slice(&self.period.write());
        out[SALT_BYTES..].copy_from_slice(&self.salt);
        out
    }

    fn of(bytes: [u8; PARTITION_BYTES]) -> Self {
        let [c0, c1, d0, d1, d2, d3, n0, n1, salt @ ..] = bytes;
        let period = AuditPeriod {
            class: u16::from_be_bytes([c0, c1]),
            first_day: u32::from_be_bytes([d0, d1, d2, d3]),
            days: u16::from_be_bytes([n0, n1]),
        };
        Self { period, salt }
    }
}

/// Names a key of a subject (20 bytes): the principal (16) and 4 random bytes. A subject whose key was destroyed gets another one when
/// something of it is written again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AuditSubject {
    /// Whose.
    pub principal: PrincipalId,
    salt: [u8; SUBJECT_SALT_BYTES],
}

impl AuditSubject {
    pub(super) fn new(principal: PrincipalId) -> Result<Self, Error> {
        let mut salt = [0; SUBJECT_SALT_BYTES];
        seal::fill(&mut salt)?;
        Ok(Self { principal, salt })
    }

    fn bytes(self) -> [u8; SUBJECT_BYTES] {
        let mut out = [0; SUBJECT_BYTES];
        out[..16].copy_from_slice(self.principal.as_bytes());
        out[16..].copy_from_slice(&self.salt);
        out
    }

    fn of(bytes: [u8; SUBJECT_BYTES]) -> Self {
        let (principal, salt) = bytes.split_at(16);
        Self {
            principal: PrincipalId::from_bytes(principal.try_into().expect("split at 16")),
            salt: salt.try_into().expect("4 of 20 are left"),
        }
    }
}

/// Names one of these keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum AuditKeyName {
    /// That of a partition.
    Partition(AuditPartition),
    /// That of a subject.
    Subject(AuditSubject),
}

impl AuditKeyName {
    /// Returns its bytes: 16 of a partition, 20 of a subject.
    #[must_use]
    pub fn to_bytes(self) -> Vec<u8> {
        match self {
            Self::Partition(partition) => partition.bytes().to_vec(),
            Self::Subject(subject) => subject.bytes().to_vec(),
        }
    }

    /// Reads the bytes of a name.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        if let Ok(bytes) = bytes.try_into() {
            return Some(Self::Partition(AuditPartition::of(bytes)));
        }
        bytes.try_into().ok().map(|bytes| Self::Subject(AuditSubject::of(bytes)))
    }

    /// Returns the names of the keys that `sealed_key_id` of an event is made of: a partition's, and a subject's if it concerns one.
    /// Nothing for the tenant's own audit key of an older release, whose name is random, unless it looks like a partition's.
    #[must_use]
    pub fn of_event(sealed_key_id: &[u8]) -> Option<(AuditPartition, Option<AuditSubject>)> {
        let (partition, subject) = sealed_key_id.split_first_chunk::<PARTITION_BYTES>()?;
        let subject = match subject {
            [] => None,
            subject => Some(AuditSubject::of(subject.try_into().ok()?)),
        };
        Some((AuditPartition::of(*partition), subject))
    }
}

/// Returns what stands in an event: the names of the keys behind the one that sealed it.
pub(super) fn of_both(partition: AuditPartition, subject: Option<AuditSubject>) -> Vec<u8> {
    let mut out = partition.bytes().to_vec();
    if let Some(subject) = subject {
        out.extend_from_slice(&subject.bytes());
    }
    out
}

impl RowKey for AuditPartition {
    fn write(&self, out: &mut KeyWriter) {
        out.bytes(&self.bytes());
    }
    fn read(input: &mut KeyReader<'_>) -> Result<Self, KeyError> {
        input.array().map(Self::of)
    }
}

impl RowKey for AuditSubject {
    fn write(&self, out: &mut KeyWriter) {
        out.bytes(&self.bytes());
    }
    fn read(input: &mut KeyReader<'_>) -> Result<Self, KeyError> {
        input.array().map(Self::of)
    }
}

/// One byte says which, so that those of partitions come first, in the order of class and time.
impl RowKey for AuditKeyName {
    fn write(&self, out: &mut KeyWriter) {
        let tag = match self {
            Self::Partition(_) => 0,
            Self::Subject(_) => 1,
        };
        out.bytes(&[tag]).bytes(&self.to_bytes());
    }
    fn read(input: &mut KeyReader<'_>) -> Result<Self, KeyError> {
        match input.array()? {
            [0] => input.array().map(AuditPartition::of).map(Self::Partition),
            _ => input.array().map(AuditSubject::of).map(Self::Subject),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_never_change() {
        let period = AuditPeriod { class: 0x0102, first_day: 20_000, days: 31 };
        let partition = AuditPartition { period, salt: [7; 8] };
        let subject = AuditSubject { principal: PrincipalId::from_bytes([3; 16]), salt: [9; 4] };
        let golden = [&[1, 2, 0, 0, 0x4E, 0x20, 0, 31][..], &[7; 8], &[3; 16], &[9; 4]].concat();
        assert_eq!(of_both(partition, Some(subject)), golden);
        assert_eq!(of_both(partition, None), golden[..16]);
        assert_eq!(AuditKeyName::of_event(&golden), Some((partition, Some(subject))));
        assert_eq!(AuditKeyName::of_event(&golden[..16]), Some((partition, None)));
        for length in (0..golden.len()).filter(|length| *length != 16) {
            assert_eq!(AuditKeyName::of_event(&golden[..length]), None, "{length} bytes");
        }
        for name in [AuditKeyName::Partition(partition), AuditKeyName::Subject(subject)] {
            assert_eq!(AuditKeyName::read(&name.to_bytes()), Some(name));
            assert_eq!(AuditKeyName::decode(&crate::encode(&name)), Ok(name));
        }
        assert_eq!((period.start().0, period.end().0), (1_728_000_000_000, 1_730_678_400_000));
    }
}
