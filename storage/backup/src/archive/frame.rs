//! The form of an object: `magic (8) | format (2) | kind (1) | key (4) | line (4) | cluster length (2) | cluster | clear length (4)
//! | clear (JSON) | sealed (nonce, zstd of the body, tag)`, numbers big-endian. Sealed under the backup key `key`; everything
//! before it and the object's name are authenticated with it, so that nothing can stand in another's place.

use std::sync::Arc;

use aesp_storage::BackupKey;
use serde::{Serialize, de::DeserializeOwned};

use crate::{ClusterId, Error, Line};

pub(crate) const FORMAT: u16 = 1;
const MAGIC: &[u8; 8] = b"AESPBAK\n";
/// Values are sealed already and don't shrink; keys and platform rows do.
const COMPRESSION: i32 = 1;
/// More than any segment or chunk has, so that a small object can't make a process run out of memory.
const MAX_BODY_BYTES: usize = 1 << 30;

/// What an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Line = 1,
    Segment = 2,
    Chunk = 3,
    Manifest = 4,
}

/// What an object is and where it lies.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) kind: Kind,
    pub(crate) cluster: &'a ClusterId,
    pub(crate) line: Line,
    pub(crate) name: &'a str,
}

/// Builds an object.
pub(crate) fn encode(
    place: Place<'_>,
    (number, key): (u32, &BackupKey),
    clear: &impl Serialize,
    body: &[u8],
) -> Result<Vec<u8>, Error> {
    let invalid = |what: &str| Error::Target(format!("{}: {what}", place.name));
    let clear = serde_json::to_vec(clear).map_err(|error| invalid(&error.to_string()))?;
    let cluster = place.cluster.0.as_bytes();
    let cluster_length = u16::try_from(cluster.len()).map_err(|_| invalid("the cluster's id is too long"))?;
    let clear_length = u32::try_from(clear.len()).map_err(|_| invalid("too much to say"))?;
    let mut out = Vec::with_capacity(64 + clear.len() + body.len());
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&FORMAT.to_be_bytes());
    out.push(place.kind as u8);
    out.extend_from_slice(&number.to_be_bytes());
    out.extend_from_slice(&place.line.0.to_be_bytes());
    out.extend_from_slice(&cluster_length.to_be_bytes());
    out.extend_from_slice(cluster);
    out.extend_from_slice(&clear_length.to_be_bytes());
    out.extend_from_slice(&clear);
    let packed = zstd::bulk::compress(body, COMPRESSION).map_err(|error| invalid(&error.to_string()))?;
    let sealed = key.seal(&[&out, place.name.as_bytes()].concat(), &packed)?;
    out.extend_from_slice(&sealed);
    Ok(out)
}

/// The clear part of an object, which tells how to open the rest. Not to be trusted before that is open.
pub(crate) struct Header {
    pub(crate) key: u32,
    clear: std::ops::Range<usize>,
}

/// Reads what stands in front.
pub(crate) fn header(place: Place<'_>, object: &[u8]) -> Result<Header, Error> {
    let damaged = |what: &str| Error::damaged(place.name, what);
    let cut = || damaged("it ends too early");
    let mut at = 0;
    let mut take = |length: usize| {
        let part = object.get(at..at + length).ok_or_else(cut);
        at += length;
        part
    };
    if take(MAGIC.len())? != MAGIC {
        return Err(damaged("it is no object of an archive"));
    }
    let format = be16(take(2)?);
    if format > FORMAT {
        return Err(Error::NewerFormat { object: place.name.into(), found: format, known: FORMAT });
    }
    let kind = take(1)?[0];
    let key = be32(take(4)?);
    let line = be32(take(4)?);
    let cluster_length = usize::from(be16(take(2)?));
    let cluster = String::from_utf8_lossy(take(cluster_length)?).into_owned();
    let clear_length = be32(take(4)?) as usize;
    take(clear_length)?;
    if cluster != place.cluster.0 {
        return Err(Error::OtherCluster { expected: place.cluster.clone(), found: ClusterId(cluster) });
    }
    if kind != place.kind as u8 || line != place.line.0 {
        return Err(damaged("it is another object under this name"));
    }
    Ok(Header { key, clear: at - clear_length..at })
}

fn be16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |number, byte| number << 8 | u16::from(*byte))
}

fn be32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

/// Opens an object: its clear part and its body.
pub(crate) fn decode<T: DeserializeOwned>(
    place: Place<'_>,
    header: &Header,
    key: &Arc<BackupKey>,
    object: &[u8],
) -> Result<(T, Vec<u8>), Error> {
    let damaged = |what: &str| Error::damaged(place.name, what);
    let (front, sealed) = object.split_at(header.clear.end);
    let packed = key
        .open(&[front, place.name.as_bytes()].concat(), sealed)
        .ok_or_else(|| damaged("it was changed, cut off, or put under another name"))?;
    let size = zstd::zstd_safe::get_frame_content_size(&packed).ok().flatten();
    let size = size.and_then(|size| usize::try_from(size).ok()).filter(|size| *size <= MAX_BODY_BYTES);
    let size = size.ok_or_else(|| damaged("it does not say how long it is"))?;
    let body = zstd::bulk::decompress(&packed, size).map_err(|_| damaged("it can't be unpacked"))?;
    let clear = serde_json::from_slice(&object[header.clear.clone()])
        .map_err(|error| damaged(&format!("what it says of itself makes no sense: {error}")))?;
    Ok((clear, body))
}

#[cfg(test)]
mod tests;
