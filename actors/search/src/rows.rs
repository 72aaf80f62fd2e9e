//! What the index stores, all of it under the tenant and sealed: `SEARCH_STATE`, and of each segment one `SEARCH_SEGMENT`, one
//! `SEARCH_PLACES`, one `SEARCH_COUNTS` and 256 `SEARCH_TERMS`. A segment is written once, in one transaction, and is the same
//! whenever it is made again.

use aesp_audit::Position;
use aesp_proto::{TenantId, Timestamp};
use aesp_storage::{Error as StoreError, Kind, Row, Transaction};
use data_encoding::BASE64;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// How far a tenant's index is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StateRow {
    /// Segments are numbered 0, 1, 2 …; how many there are.
    pub(crate) segments: u64,
    /// The last event in them.
    pub(crate) last: Option<Place>,
    /// Events in them.
    pub(crate) events: u64,
    /// The time of the newest event in them.
    pub(crate) newest: Timestamp,
}

impl Row for StateRow {
    const KIND: Kind = Kind::SEARCH_STATE;
    type Key = ();
}

/// Which events a segment holds, and how many of each sort.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SegmentRow {
    /// The last event before it.
    pub(crate) after: Option<Place>,
    /// Its last event.
    pub(crate) last: Place,
    pub(crate) events: u32,
    pub(crate) oldest: Timestamp,
    pub(crate) newest: Timestamp,
    /// Packed [`Cells`](crate::cells::Cells) by hour, type, outcome and action.
    pub(crate) counts: Packed,
}

impl Row for SegmentRow {
    const KIND: Kind = Kind::SEARCH_SEGMENT;
    type Key = u64;
}

/// Where the events of a segment stand ([`places`](crate::places)).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct PlacesRow(pub(crate) Packed);

impl Row for PlacesRow {
    const KIND: Kind = Kind::SEARCH_PLACES;
    type Key = u64;
}

/// Packed [`Cells`](crate::cells::Cells) of a segment by principals and tools, too.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct CountsRow(pub(crate) Packed);

impl Row for CountsRow {
    const KIND: Kind = Kind::SEARCH_COUNTS;
    type Key = u64;
}

/// A part of a segment's terms ([`bucket`](crate::bucket)): by the part, then by the segment.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct TermsRow(pub(crate) Packed);

impl Row for TermsRow {
    const KIND: Kind = Kind::SEARCH_TERMS;
    type Key = TermsKey;
}

/// `bucket (1) | segment (8)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TermsKey {
    pub(crate) bucket: u8,
    pub(crate) segment: u64,
}

impl aesp_storage::RowKey for TermsKey {
    fn write(&self, out: &mut aesp_storage::KeyWriter) {
        out.bytes(&[self.bucket]).bytes(&self.segment.to_be_bytes());
    }

    fn read(input: &mut aesp_storage::KeyReader<'_>) -> Result<Self, aesp_storage::KeyError> {
        let [bucket] = input.array()?;
        Ok(Self { bucket, segment: u64::from_be_bytes(input.array()?) })
    }
}

/// Bytes, in base 64 within the JSON of a row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Packed(pub(crate) Vec<u8>);

impl Serialize for Packed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Packed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        BASE64.decode(text.as_bytes()).map(Self).map_err(|_| D::Error::custom("not base 64"))
    }
}

/// A place in the log, in base 64 within the JSON of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place(pub(crate) Position);

impl Serialize for Place {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = Packed::deserialize(deserializer)?.0;
        bytes.try_into().map(Self).map_err(|_| D::Error::custom("a place has 16 bytes"))
    }
}

/// Returns how far the tenant's index is; nothing for a tenant whose keys are gone. A row that is damaged counts as none: then
/// everything is read from the log, and the index is made anew.
///
/// # Errors
/// The store's.
pub(crate) async fn state(tx: &Transaction, tenant: TenantId) -> Result<Option<StateRow>, StoreError> {
    match tx.find::<StateRow>(tenant, &()).await {
        Err(StoreError::KeyDestroyed { .. }) => Ok(None),
        Err(error) => Err(error),
        Ok(None) => Ok(Some(StateRow::default())),
        Ok(Some(found)) => Ok(Some(found.row.unwrap_or_else(|error| {
            tracing::warn!(%tenant, %error, "the state of an audit index is damaged; the index is made anew");
            StateRow::default()
        }))),
    }
}
