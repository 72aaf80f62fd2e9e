//! The lines of an export, as docs/audit-format.md lists them.

use std::collections::BTreeMap;

use aesp_merkle::{Frontier, Hash};
use aesp_proto::{
    TenantId, Timestamp, WriterId,
    v1::{AuditEvent, EventType, Outcome},
};
use data_encoding::BASE64;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, de::IgnoredAny};

use crate::{Handover, LogKey, PublicKey, TimeRange};

/// What the header calls the format without checkpoints.
pub(crate) const FORMAT: &str = "aesp-audit-export-v1";
/// What it calls the one with them.
pub(crate) const SEALED_FORMAT: &str = "aesp-audit-export-v2";
const SIGNED_PREFIX: &[u8] = b"aesp-audit-export-v1\n";

/// Any line, told apart by `line`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "snake_case")]
pub(crate) enum Line<V = IgnoredAny> {
    Header(Header),
    Range(RangeLine),
    Batch(BatchLine),
    Event(EventLine<V>),
    Checkpoint(CheckpointLine),
    Trailer(Trailer),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Header {
    pub(crate) format: String,
    pub(crate) tenant: TenantId,
    pub(crate) exported_at_ms: Timestamp,
    /// The public keys that signed; believed only as far as the reader trusts them.
    pub(crate) keys: Vec<Base64>,
    /// The keys that signed checkpoints, in the order of their numbers; in the second format only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) log_keys: Option<Vec<LogKeyLine>>,
    /// For each of `keys` the signature of the last log key; in the second format only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) certificates: Option<Vec<Base64>>,
}

/// A log key, as the header lists it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogKeyLine {
    pub(crate) number: u32,
    pub(crate) public: Base64,
    /// By the key before, and by this one; the first has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) handover: Option<(Base64, Base64)>,
}

impl From<&LogKey> for LogKeyLine {
    fn from(key: &LogKey) -> Self {
        let handover = key.handover.as_ref();
        Self {
            number: key.number,
            public: Base64(key.public.0.to_vec()),
            handover: handover.map(|both| (Base64(both.by_previous.clone()), Base64(both.by_next.clone()))),
        }
    }
}

impl LogKeyLine {
    /// Returns the key, or `None` if it is none.
    pub(crate) fn key(&self) -> Option<LogKey> {
        let handover = self.handover.clone();
        Some(LogKey {
            number: self.number,
            public: PublicKey(self.public.0.as_slice().try_into().ok()?),
            handover: handover.map(|(previous, next)| Handover { by_previous: previous.0, by_next: next.0 }),
        })
    }
}

/// Says that the export is of a time range, and with which leaf it begins. In the second format only.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RangeLine {
    pub(crate) start_ms: Timestamp,
    /// 0 if the range has no end.
    pub(crate) end_ms: Timestamp,
    /// The log epoch of the first event.
    pub(crate) log_epoch: u32,
    /// Leaves of that log epoch before it.
    pub(crate) first_leaf: u64,
    /// The roots of the perfect trees that they fall into, the largest first.
    pub(crate) before: Vec<Base64>,
}

impl RangeLine {
    pub(crate) fn range(&self) -> TimeRange {
        let end = (self.end_ms.0 != 0).then_some(self.end_ms);
        TimeRange { start: self.start_ms, end }
    }

    /// Returns what comes before the first leaf, or `None` if that is no tree of so many leaves.
    pub(crate) fn frontier(&self) -> Option<Frontier> {
        let hashes: Option<Vec<Hash>> =
            self.before.iter().map(|hash| hash.0.as_slice().try_into().ok()).collect();
        Frontier::new(self.first_leaf, hashes?)
    }
}

/// A signed checkpoint of the log; the event before it is its last leaf.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CheckpointLine {
    pub(crate) note: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BatchLine {
    /// Log epoch and versionstamp of the commit.
    pub(crate) commit: Base64,
    /// An encoded `AuditBatchProof`.
    pub(crate) proof: Base64,
    /// The leaf hashes of the events that follow; their tree hash is what the batch holds.
    pub(crate) leaf_hashes: Vec<Base64>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EventLine<V> {
    /// An encoded `AuditLeaf`.
    pub(crate) leaf: Base64,
    /// For people; proves nothing.
    pub(crate) view: V,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Trailer {
    pub(crate) batches: u64,
    pub(crate) events: u64,
    pub(crate) chains: BTreeMap<WriterId, ChainEnd>,
    /// SHA-256 of all lines before this one, with their line feeds.
    pub(crate) digest: Base64,
    pub(crate) key_id: Base64,
    pub(crate) signature: Base64,
}

/// Where the chain of a writer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChainEnd {
    pub(crate) last_sequence: u64,
    #[serde(with = "hash")]
    pub(crate) head: Hash,
}

mod hash {
    use serde::{Deserializer, Serializer};

    use super::{Base64, Hash};

    pub(super) fn serialize<T: Serializer>(hash: &Hash, serializer: T) -> Result<T::Ok, T::Error> {
        serde::Serialize::serialize(&Base64(hash.to_vec()), serializer)
    }

    pub(super) fn deserialize<'de, T: Deserializer<'de>>(deserializer: T) -> Result<Hash, T::Error> {
        let bytes = <Base64 as serde::Deserialize>::deserialize(deserializer)?;
        bytes.0.try_into().map_err(|_| serde::de::Error::custom("a hash has 32 bytes"))
    }
}

/// Bytes, in base 64 (RFC 4648 §4, padded, canonical).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Base64(pub(crate) Vec<u8>);

impl Serialize for Base64 {
    fn serialize<T: Serializer>(&self, serializer: T) -> Result<T::Ok, T::Error> {
        serializer.serialize_str(&BASE64.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<T: Deserializer<'de>>(deserializer: T) -> Result<Self, T::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        BASE64.decode(text.as_bytes()).map(Self).map_err(|_| T::Error::custom("not canonical base 64"))
    }
}

/// Returns what the exporter signs: it covers every byte before the trailer.
pub(crate) fn signature_input(digest: &Hash) -> Vec<u8> {
    [SIGNED_PREFIX, digest].concat()
}

/// The readable view of an event; absent what is empty.
#[derive(Serialize)]
pub(crate) struct View {
    event_id: String,
    timestamp_ms: i64,
    event_type: &'static str,
    action: String,
    outcome: &'static str,
    #[serde(flatten)]
    rest: BTreeMap<&'static str, serde_json::Value>,
}

impl From<AuditEvent> for View {
    fn from(event: AuditEvent) -> Self {
        let kind = EventType::try_from(event.event_type).unwrap_or_default().as_str_name();
        let outcome = Outcome::try_from(event.outcome).unwrap_or_default().as_str_name();
        let texts = [
            ("principal_id", event.principal_id),
            ("session_id", event.session_id),
            ("resource", event.resource),
            ("source_ip", event.source_ip),
            ("user_agent", event.user_agent),
            ("reason", event.reason),
            ("correlation_id", event.correlation_id),
            ("invocation_id", event.invocation_id),
            ("decision_id", event.decision_id),
            ("on_behalf_of", event.on_behalf_of),
        ];
        let present = texts.into_iter().filter(|(_, text)| !text.is_empty());
        let mut rest: BTreeMap<_, serde_json::Value> =
            present.map(|(name, text)| (name, text.into())).collect();
        if !event.metadata.is_empty() {
            let sorted: BTreeMap<_, _> = event.metadata.into_iter().collect();
            rest.insert("metadata", sorted.into_iter().collect());
        }
        if !event.policy_violations.is_empty() {
            rest.insert("policy_violations", event.policy_violations.into());
        }
        for (name, number) in [("revision", event.revision), ("count", event.count)] {
            if number > 0 {
                rest.insert(name, number.into());
            }
        }
        if event.external {
            rest.insert("external", true.into());
        }
        if event.risk_score != 0.0 {
            rest.insert("risk_score", event.risk_score.into());
        }
        Self {
            event_id: event.event_id,
            timestamp_ms: event.timestamp_ms,
            event_type: kind,
            action: event.action,
            outcome,
            rest,
        }
    }
}

/// Returns the public keys of a header, or `None` if one is not a key.
pub(crate) fn public_keys(header: &Header) -> Option<Vec<PublicKey>> {
    header.keys.iter().map(|key| Some(PublicKey(key.0.as_slice().try_into().ok()?))).collect()
}

/// The running hash of all lines.
pub(crate) struct Digest(aws_lc_rs::digest::Context);

impl Default for Digest {
    fn default() -> Self {
        Self(aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256))
    }
}

impl Digest {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn value(&self) -> Hash {
        aesp_merkle::hash_of(self.0.clone())
    }
}
