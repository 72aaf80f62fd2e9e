//! The bytes of a bundle: `aesp-audit-bundle-v1\n`, then a zstd frame of rows in the order of their keys, each `length of the key (1) |
//! key | length of the value (4, big-endian) | value`.

use aesp_merkle::sha256;
use aesp_storage::Range;
use bytes::{Buf, Bytes};
use data_encoding::HEXLOWER;

use super::Bundle;
use crate::Error;

const MAGIC: &[u8] = b"aesp-audit-bundle-v1\n";
const COMPRESSION: i32 = 9;
/// The largest body that is unpacked.
const BODY_BYTES: u64 = 64 << 20;

type Row = (Bytes, Bytes);

/// Packs rows, which must be in the order of their keys; returns the object and how many bytes were packed.
pub(super) fn write(rows: &[Row]) -> Result<(Bytes, u64), Error> {
    let mut body = Vec::new();
    for (key, value) in rows {
        let length = u8::try_from(key.len()).map_err(|_| Error::Damaged("a key of the log"))?;
        let value_length = u32::try_from(value.len()).map_err(|_| Error::Damaged("a value of the log"))?;
        body.push(length);
        body.extend_from_slice(key);
        body.extend_from_slice(&value_length.to_be_bytes());
        body.extend_from_slice(value);
    }
    let packed =
        zstd::bulk::compress(&body, COMPRESSION).map_err(|_| Error::Damaged("a bundle can't be packed"))?;
    Ok(([MAGIC, packed.as_slice()].concat().into(), body.len() as u64))
}

/// The rows of a bundle, in the order of their keys: events, then batches.
pub(super) struct Opened {
    rows: Vec<Row>,
    bytes: usize,
}

impl Opened {
    /// Opens an object that must be the bundle's.
    pub(super) fn read(bundle: &Bundle, object: &Bytes) -> Result<Self, Error> {
        let damaged =
            |what: &str| Error::ShelfDamaged { object: bundle.object.clone(), what: what.to_owned() };
        if HEXLOWER.encode(&sha256(&[object])) != bundle.digest {
            return Err(damaged("is not the one that was moved there: its digest is another"));
        }
        let packed = object.strip_prefix(MAGIC).ok_or_else(|| damaged("is no bundle"))?;
        let size = usize::try_from(bundle.body_bytes.min(BODY_BYTES)).map_err(|_| damaged("is too large"))?;
        let body = zstd::bulk::decompress(packed, size).map_err(|_| damaged("can't be unpacked"))?;
        let rows = rows(body.into()).ok_or_else(|| damaged("has a form that is not known"))?;
        Ok(Self { bytes: size + rows.len() * size_of::<Row>(), rows })
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the rows of a range.
    pub(super) fn range(&self, range: &Range) -> &[Row] {
        let from = self.rows.partition_point(|(key, _)| key.as_ref() < range.start.as_slice());
        let to = self.rows.partition_point(|(key, _)| key.as_ref() < range.end.as_slice());
        self.rows.get(from..to).unwrap_or_default()
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<Bytes> {
        let at = self.rows.binary_search_by(|(one, _)| one.as_ref().cmp(key)).ok()?;
        Some(self.rows[at].1.clone())
    }
}

fn rows(mut body: Bytes) -> Option<Vec<Row>> {
    let mut rows: Vec<Row> = Vec::new();
    while body.has_remaining() {
        let length = usize::from(body.try_get_u8().ok()?);
        let key = take(&mut body, length)?;
        let length = usize::try_from(body.try_get_u32().ok()?).ok()?;
        let value = take(&mut body, length)?;
        if rows.last().is_some_and(|(before, _)| *before >= key) {
            return None;
        }
        rows.push((key, value));
    }
    Some(rows)
}

fn take(body: &mut Bytes, length: usize) -> Option<Bytes> {
    (length <= body.len()).then(|| body.split_to(length))
}

#[cfg(test)]
mod tests {
    use aesp_proto::Timestamp;
    use proptest::{collection::btree_map, prelude::*};

    use super::*;

    fn bundle(object: &Bytes, body_bytes: u64) -> Bundle {
        Bundle {
            object: "o".into(),
            digest: HEXLOWER.encode(&sha256(&[object])),
            object_bytes: object.len() as u64,
            body_bytes,
            events: 0,
            first_at: Timestamp(0),
            last_at: Timestamp(0),
            moved_at: Timestamp(0),
        }
    }

    proptest! {
        #[test]
        fn what_was_packed_is_found_and_nothing_else(
            rows in btree_map(proptest::collection::vec(any::<u8>(), 1..40), proptest::collection::vec(any::<u8>(), 0..300), 0..40),
            start in proptest::collection::vec(any::<u8>(), 0..3), end in proptest::collection::vec(any::<u8>(), 0..3),
            place: prop::sample::Index, flip in 1..=255_u8,
        ) {
            let rows: Vec<Row> = rows.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
            let (object, bytes) = write(&rows).unwrap();
            let row = bundle(&object, bytes);
            let opened = Opened::read(&row, &object).unwrap();
            let range = Range::new(start.clone(), end.clone());
            let inside: Vec<Row> =
                rows.iter().filter(|(key, _)| key.as_ref() >= start.as_slice() && key.as_ref() < end.as_slice()).cloned().collect();
            prop_assert_eq!(opened.range(&range), inside.as_slice());
            for (key, value) in &rows {
                prop_assert_eq!(opened.get(key), Some(value.clone()));
            }
            // A tampered object is named and never believed; so is one whose digest was changed with it, unless it is a bundle.
            let mut changed = object.to_vec();
            changed[place.index(object.len())] ^= flip;
            let refused = matches!(Opened::read(&row, &changed.clone().into()), Err(Error::ShelfDamaged { .. }));
            prop_assert!(refused);
            let changed = Bytes::from(changed);
            drop(Opened::read(&bundle(&changed, bytes), &changed));
        }
    }
}
