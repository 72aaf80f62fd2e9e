use aesp_proto::Timestamp;

use crate::{Error, Version, Writer};

/// Takes the journal of the store to the archive.
pub struct Shipper {}

/// What a step of the shipper reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shipped {
    /// Everything up to this version is in the archive.
    pub up_to: Version,
    /// Every commit until this time is in the archive: now less this is the recovery point objective reached.
    pub restorable_to: Timestamp,
    /// The segments that this step wrote.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The bytes that the journal still takes in the store.
    pub journal_bytes: u64,
}

impl Shipper {
    /// Continues where the archive ends.
    pub fn new(writer: Writer) -> Self {
        todo!()
    }

    /// Takes what is committed to the archive, verifies it there, and trims the journal. Safe to cut off anywhere.
    ///
    /// # Errors
    /// [`Error::Fenced`] if another node took over: stop. [`Error::Gap`] if the journal was stopped: claim again, and take a
    /// snapshot.
    pub async fn step(&mut self) -> Result<Shipped, Error> {
        todo!()
    }
}
