//! The fixed bytes of an event: `AuditLeaf` with an `AuditSealed` inside (proto/aesp/v1/audit.proto).

use aesp_proto::{
    EventId, TenantId, Timestamp, WriterId,
    v1::{AuditLeaf, AuditSealed, audit_sealed::Field},
};
use aesp_storage::{AuditKey, TenantKeys};
use prost::Message;

use crate::{Details, Error, Event};

/// The format that this version writes.
pub(crate) const FORMAT: u32 = 1;
/// Bytes of a text that are kept; what a stranger sends longer is cut, for a record must not fail on it.
const TEXT_BYTES: usize = 1024;
/// Bytes of the value of one of [`Details::fields`] that are kept.
const VALUE_BYTES: usize = 4096;
/// Fields and policy violations that are kept.
const ENTRIES: usize = 64;
/// Bytes of an encoded leaf: what a bundle of entries can say of its length (C2SP tlog-tiles), and below what the store takes as a value.
const LEAF_BYTES: usize = 65_535;

/// Where in its chain a leaf stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) writer: WriterId,
    pub(crate) sequence: u64,
    pub(crate) timestamp: Timestamp,
}

/// Returns what the sealed part is bound to: event id | tenant id, 32 bytes.
pub(crate) fn sealed_aad(event: &EventId, tenant: &TenantId) -> [u8; 32] {
    let mut aad = [0; 32];
    aad[..16].copy_from_slice(event.as_bytes());
    aad[16..].copy_from_slice(tenant.as_bytes());
    aad
}

/// Encodes the event, its details sealed under the key; those of an event without details are not looked at.
///
/// # Errors
/// [`Error::EventTooLarge`] above the size of a leaf; the store's error when it can't be sealed.
pub(crate) fn encode(
    event: &Event,
    place: Place,
    keys: Option<(&TenantKeys, &AuditKey)>,
) -> Result<Vec<u8>, Error> {
    let (sealed, key_id) = if let Some((keys, key)) = keys {
        let plaintext = plaintext(&event.details, |bytes| keys.digest(bytes).to_vec()).encode_to_vec();
        let aad = sealed_aad(&event.id, &event.tenant);
        (key.seal(&aad, &plaintext)?, key.id().to_vec())
    } else {
        (Vec::new(), Vec::new())
    };
    let bytes = leaf(event, place, sealed, key_id).encode_to_vec();
    if bytes.len() > LEAF_BYTES {
        return Err(Error::EventTooLarge { size_bytes: bytes.len(), limit_bytes: LEAF_BYTES });
    }
    Ok(bytes)
}

/// Returns the leaf of the event. An event of one has no `count`.
pub(crate) fn leaf(event: &Event, place: Place, sealed: Vec<u8>, sealed_key_id: Vec<u8>) -> AuditLeaf {
    AuditLeaf {
        format: FORMAT,
        event_id: event.id.as_bytes().to_vec(),
        tenant_id: event.tenant.as_bytes().to_vec(),
        timestamp_ms: place.timestamp.0,
        event_type: event.kind.into(),
        action: cut(&event.action, TEXT_BYTES),
        outcome: event.outcome.into(),
        principal_id: event.principal.map(|id| id.as_bytes().to_vec()).unwrap_or_default(),
        session_id: event.session.map(|id| id.as_bytes().to_vec()).unwrap_or_default(),
        decision_id: event.decision.map(|id| id.as_bytes().to_vec()).unwrap_or_default(),
        revision: event.revision.0,
        external: event.external,
        count: if event.count == 1 { 0 } else { event.count },
        on_behalf_of: event.on_behalf_of.map(|id| id.as_bytes().to_vec()).unwrap_or_default(),
        sealed,
        writer_id: place.writer.as_bytes().to_vec(),
        sequence: place.sequence,
        sealed_key_id,
    }
}

/// Returns the sensitive part, with `digest` in place of arguments and result.
pub(crate) fn plaintext(details: &Details, digest: impl Fn(&[u8]) -> Vec<u8>) -> AuditSealed {
    let field =
        |(key, value): &(String, String)| Field { key: cut(key, TEXT_BYTES), value: cut(value, VALUE_BYTES) };
    AuditSealed {
        resource: cut(&details.resource, TEXT_BYTES),
        source_ip: cut(&details.source_ip, TEXT_BYTES),
        user_agent: cut(&details.user_agent, TEXT_BYTES),
        fields: details.fields.iter().take(ENTRIES).map(field).collect(),
        reason: cut(&details.reason, TEXT_BYTES),
        correlation_id: cut(&details.correlation_id, TEXT_BYTES),
        invocation_id: cut(&details.invocation_id, TEXT_BYTES),
        policy_violations: details
            .policy_violations
            .iter()
            .take(ENTRIES)
            .map(|p| cut(p, TEXT_BYTES))
            .collect(),
        risk_score: details.risk_score,
        arguments_digest: details.arguments.as_deref().map(&digest).unwrap_or_default(),
        result_digest: details.result.as_deref().map(&digest).unwrap_or_default(),
    }
}

/// Cuts a text at a character so that it has at most `limit` bytes; a cut one ends in "…".
fn cut(text: &str, limit: usize) -> String {
    const MARK: char = '…';
    if text.len() <= limit {
        return text.to_owned();
    }
    let mut kept = text[..text.floor_char_boundary(limit - MARK.len_utf8())].to_owned();
    kept.push(MARK);
    kept
}
