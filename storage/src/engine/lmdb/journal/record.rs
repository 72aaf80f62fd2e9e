use aesp_proto::Timestamp;
use bytes::Bytes;

use crate::Error;

/// One resolved change: what it does depends on nothing that was there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// Sets a value.
    Set {
        /// The key.
        key: &'a [u8],
        /// Its new value.
        value: &'a [u8],
    },
    /// Removes a key.
    Clear {
        /// The key.
        key: &'a [u8],
    },
    /// Removes every key between two.
    ClearRange {
        /// The first key, inclusive.
        start: &'a [u8],
        /// The end, exclusive.
        end: &'a [u8],
    },
}

/// One commit of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalRecord {
    /// The version that it made.
    pub version: u64,
    /// Its place within that version.
    pub place: u16,
    /// `form (1) | milliseconds (8) | changes`, as [`changes`](Self::changes) reads them.
    pub bytes: Bytes,
}

/// The form of a record. Its changes: `tag (1) | length | key | length | value`, lengths as LEB128.
const FORM: u8 = 1;
const SET: u8 = 1;
const CLEAR: u8 = 2;
const CLEAR_RANGE: u8 = 3;
const HEAD_BYTES: usize = 9;

/// Encodes changes.
pub(crate) struct Changes(Vec<u8>);

impl Changes {
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    pub(crate) fn push(&mut self, change: Change<'_>) {
        let mut push = |tag, parts: [&[u8]; 2]| {
            self.0.push(tag);
            for part in &parts[..if tag == CLEAR { 1 } else { 2 }] {
                write_length(&mut self.0, part.len());
                self.0.extend_from_slice(part);
            }
        };
        match change {
            Change::Set { key, value } => push(SET, [key, value]),
            Change::Clear { key } => push(CLEAR, [key, &[]]),
            Change::ClearRange { start, end } => push(CLEAR_RANGE, [start, end]),
        }
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// Encodes changes, in their order.
pub fn encode<'a>(changes: impl IntoIterator<Item = Change<'a>>) -> Vec<u8> {
    let mut out = Changes::with_capacity(0);
    changes.into_iter().for_each(|change| out.push(change));
    out.into_bytes()
}

/// Builds the bytes of a record.
pub(crate) struct RecordWriter(Changes);

impl RecordWriter {
    pub(crate) fn new(time: Timestamp, capacity: usize) -> Self {
        let mut out = Changes::with_capacity(HEAD_BYTES + capacity);
        out.0.push(FORM);
        out.0.extend_from_slice(&time.0.to_be_bytes());
        Self(out)
    }

    pub(crate) fn push(&mut self, change: Change<'_>) {
        self.0.push(change);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.as_bytes().len() == HEAD_BYTES
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0.0
    }
}

/// Reads encoded changes, in their order.
///
/// # Errors
/// [`Error::Damaged`] if the bytes are none.
pub fn decode(mut rest: &[u8]) -> Result<Vec<Change<'_>>, Error> {
    let mut out = Vec::new();
    while let Some((&tag, after)) = rest.split_first() {
        rest = after;
        let change = match tag {
            SET => Change::Set { key: part(&mut rest)?, value: part(&mut rest)? },
            CLEAR => Change::Clear { key: part(&mut rest)? },
            CLEAR_RANGE => Change::ClearRange { start: part(&mut rest)?, end: part(&mut rest)? },
            _ => return Err(damaged()),
        };
        out.push(change);
    }
    Ok(out)
}

impl JournalRecord {
    /// Returns when it was committed.
    ///
    /// # Errors
    /// [`Error::Damaged`] if the bytes are no record.
    pub fn time(&self) -> Result<Timestamp, Error> {
        time(&self.bytes)
    }

    /// Returns the changes as they are encoded.
    ///
    /// # Errors
    /// [`Error::Damaged`] if the bytes are no record.
    pub fn encoded_changes(&self) -> Result<Bytes, Error> {
        self.time()?;
        Ok(self.bytes.slice(HEAD_BYTES..))
    }

    /// Returns the changes, in their order.
    ///
    /// # Errors
    /// [`Error::Damaged`] if the bytes are no record.
    pub fn changes(&self) -> Result<Vec<Change<'_>>, Error> {
        self.time()?;
        decode(&self.bytes[HEAD_BYTES..])
    }
}

/// Reads the time of a record.
pub(crate) fn time(record: &[u8]) -> Result<Timestamp, Error> {
    let (&[form], rest) = record.split_first_chunk::<1>().ok_or_else(damaged)?;
    let (time, _) = rest.split_first_chunk::<8>().ok_or_else(damaged)?;
    if form == FORM { Ok(Timestamp(i64::from_be_bytes(*time))) } else { Err(damaged()) }
}

fn damaged() -> Error {
    Error::damaged_row("a record of the journal makes no sense")
}

fn write_length(out: &mut Vec<u8>, mut length: usize) {
    while length >= 0x80 {
        out.push(u8::try_from(length & 0x7F).expect("seven bits") | 0x80);
        length >>= 7;
    }
    out.push(u8::try_from(length).expect("below 0x80"));
}

fn part<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Error> {
    let mut length = 0_usize;
    for shift in (0..35).step_by(7) {
        let (&byte, after) = rest.split_first().ok_or_else(damaged)?;
        *rest = after;
        length |= usize::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            let (part, after) = rest.split_at_checked(length).ok_or_else(damaged)?;
            *rest = after;
            return Ok(part);
        }
    }
    Err(damaged())
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;
    use proptest::prelude::*;

    use super::*;

    fn record(changes: &[Change<'_>]) -> JournalRecord {
        let mut writer = RecordWriter::new(Timestamp(0x0102_0304), 0);
        changes.iter().for_each(|change| writer.push(*change));
        JournalRecord { version: 1, place: 0, bytes: writer.as_bytes().to_vec().into() }
    }

    #[test]
    fn records_never_change() {
        let long = [7; 200];
        let record = record(&[
            Change::Set { key: b"k", value: b"" },
            Change::Clear { key: b"gone" },
            Change::ClearRange { start: b"a", end: &long[..130] },
        ]);
        let expected = ["010000000001020304", "01016b00", "0204676f6e65", "0301618201", &"07".repeat(130)];
        assert_eq!(HEXLOWER.encode(&record.bytes), expected.concat());
        assert_eq!(record.time().unwrap(), Timestamp(0x0102_0304));
    }

    #[test]
    fn what_is_no_record_is_told() {
        for bytes in [&b""[..], b"\x01\0\0\0", b"\x02\0\0\0\0\0\0\0\0", b"\x01\0\0\0\0\0\0\0\0\x09"] {
            let record = JournalRecord { version: 1, place: 0, bytes: Bytes::copy_from_slice(bytes) };
            assert!(matches!(record.changes(), Err(Error::Damaged { .. })), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn changes_come_back(rows: Vec<(Vec<u8>, Vec<u8>, u8)>, cut: prop::sample::Index) {
            let changes: Vec<_> = rows.iter().map(|(key, value, what)| match what % 3 {
                0 => Change::Set { key, value },
                1 => Change::Clear { key },
                _ => Change::ClearRange { start: key, end: value },
            }).collect();
            let whole = record(&changes);
            prop_assert_eq!(whole.changes().unwrap(), changes.clone());
            let part = whole.bytes.slice(..cut.index(whole.bytes.len()));
            // Whatever is left of it, nothing panics and nothing is made up.
            if let Ok(left) = (JournalRecord { bytes: part, ..whole.clone() }).changes() {
                prop_assert!(changes.starts_with(&left));
            }
        }
    }
}
