use aesp_proto::{TenantId, Timestamp};
use aesp_storage::JournalRecord;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Digest;
use crate::{Error, SnapshotId, Version};

/// What a line says of itself, in clear.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LineHead {
    /// The journal that it continues.
    pub(crate) journal: String,
    /// The version after which it begins.
    pub(crate) from: Version,
    pub(crate) began: Timestamp,
}

/// What a segment says of itself, in clear.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SegmentHead {
    /// It holds every commit above this version …
    pub(crate) from: Version,
    /// … up to this one.
    pub(crate) to: Version,
    /// Every commit that had returned by then is in it or before it.
    pub(crate) to_time: Timestamp,
    pub(crate) commits: u64,
    /// The digest of the segment before, or of the line's beginning.
    pub(crate) previous: Digest,
}

/// Writes the body of a segment: `version (8) | place (2) | length (4) | record`, again and again.
pub(crate) fn write_segment(records: &[JournalRecord]) -> Vec<u8> {
    let bytes = records.iter().map(|record| record.bytes.len() + 14).sum();
    let mut out = Vec::with_capacity(bytes);
    for record in records {
        out.extend_from_slice(&record.version.to_be_bytes());
        out.extend_from_slice(&record.place.to_be_bytes());
        let length = u32::try_from(record.bytes.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&record.bytes);
    }
    out
}

/// Reads the body of a segment, and checks it against what the segment says of itself.
pub(crate) fn read_segment(
    name: &str,
    head: &SegmentHead,
    body: Vec<u8>,
) -> Result<Vec<JournalRecord>, Error> {
    let damaged = |what: &str| Error::damaged(name, what);
    let cut = || damaged("a record is cut off");
    let mut rest = Bytes::from(body);
    let mut out: Vec<JournalRecord> = Vec::new();
    while !rest.is_empty() {
        let (version, after) = rest.split_first_chunk::<8>().ok_or_else(cut)?;
        let (place, after) = after.split_first_chunk::<2>().ok_or_else(cut)?;
        let (length, after) = after.split_first_chunk::<4>().ok_or_else(cut)?;
        let (version, place) = (u64::from_be_bytes(*version), u16::from_be_bytes(*place));
        let length = u32::from_be_bytes(*length) as usize;
        if after.len() < length {
            return Err(cut());
        }
        let record = JournalRecord { version, place, bytes: rest.slice(14..14 + length) };
        rest = rest.slice(14 + length..);
        let last = out.last().map_or((head.from.0, u16::MAX), |last| (last.version, last.place));
        if (version, place) <= last || version > head.to.0 {
            return Err(damaged("its commits are out of order"));
        }
        out.push(record);
    }
    if out.len() as u64 != head.commits {
        return Err(damaged("it has not as many commits as it says"));
    }
    Ok(out)
}

/// What a chunk says of itself, in clear.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ChunkHead {
    pub(crate) snapshot: SnapshotId,
    pub(crate) index: u32,
    /// The version at which it was read.
    pub(crate) version: Version,
    pub(crate) time: Timestamp,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
}

/// What stands sealed in front of a chunk's rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ChunkEnd {
    /// Where the next chunk begins; nothing in the last one.
    pub(crate) next: Option<Vec<u8>>,
    /// The tenants whose keys are in it.
    pub(crate) tenants: Vec<TenantId>,
}

impl ChunkEnd {
    /// Returns `length (4) | end (JSON) | rows`.
    pub(crate) fn before(&self, rows: &[u8]) -> Result<Vec<u8>, Error> {
        let end = serde_json::to_vec(self).map_err(|error| Error::Target(error.to_string()))?;
        let length = u32::try_from(end.len()).unwrap_or(u32::MAX);
        Ok([&length.to_be_bytes(), end.as_slice(), rows].concat())
    }

    /// Takes apart what [`before`](Self::before) returned.
    pub(crate) fn split(name: &str, body: Vec<u8>) -> Result<(Self, Bytes), Error> {
        let damaged = || Error::damaged(name, "its rows have no end");
        let (length, rest) = body.split_first_chunk::<4>().ok_or_else(damaged)?;
        let length = u32::from_be_bytes(*length) as usize;
        let end = rest.get(..length).ok_or_else(damaged)?;
        let end = serde_json::from_slice(end).map_err(|_| damaged())?;
        Ok((end, Bytes::from(body).slice(4 + length..)))
    }
}

/// What a snapshot says of itself, in clear.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) snapshot: SnapshotId,
    /// The version of its last chunk.
    pub(crate) from: Version,
    pub(crate) from_time: Timestamp,
    pub(crate) began: Timestamp,
    pub(crate) chunks: u64,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    /// The tenants whose keys, which the key provider wrapped, stand in it.
    pub(crate) tenants: Vec<TenantId>,
    /// What unwraps the backup keys and the tenants' keys.
    pub(crate) key_provider: String,
}

/// What the sealed part of a manifest says of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ManifestChunk {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) version: Version,
    pub(crate) time: Timestamp,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
}
