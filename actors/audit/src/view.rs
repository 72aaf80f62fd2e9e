//! A leaf as people read it: sensitive fields opened, or left empty with the reason.

use std::sync::Arc;

use aesp_proto::{
    DecisionId, EventId, Id, IdKind, PrincipalId, SessionId, TenantId,
    v1::{AuditEvent, AuditLeaf, AuditSealed},
};
use aesp_storage::{Error as StoreError, TenantKeys, Transaction};
use data_encoding::HEXLOWER;
use prost::Message;

use crate::leaf::sealed_aad;

/// The keys that open a tenant's leaves, or why there are none.
pub(crate) type Keys = Result<Arc<TenantKeys>, StoreError>;

/// Where [`AuditEvent::metadata`] says why the sensitive fields are empty.
const SEALED_BECAUSE: &str = "aesp.sealed";
/// Where [`AuditEvent::metadata`] has the digests.
const DIGESTS: [&str; 2] = ["arguments_digest", "result_digest"];

/// Tells whether an entry of [`AuditEvent::metadata`] is no field of the event, but was put there by this view of it.
pub(crate) fn made_by_view(name: &str) -> bool {
    name == SEALED_BECAUSE || DIGESTS.contains(&name)
}

/// Loads the tenant's keys; that they are destroyed is no failure, for the rest of the log stays readable.
pub(crate) async fn keys(tx: &Transaction, tenant: TenantId) -> Result<Keys, StoreError> {
    match tx.tenant_keys(tenant).await {
        Err(error @ StoreError::KeyDestroyed { .. }) => Ok(Err(error)),
        Err(error) => Err(error),
        Ok(keys) => Ok(Ok(keys)),
    }
}

/// Returns the readable event of a leaf.
pub(crate) fn event(leaf: &AuditLeaf, keys: &Keys) -> AuditEvent {
    let mut event = AuditEvent {
        event_id: text::<_>(EventId::from_slice(&leaf.event_id)),
        timestamp_ms: leaf.timestamp_ms,
        event_type: leaf.event_type,
        principal_id: text(PrincipalId::from_slice(&leaf.principal_id)),
        tenant_id: text(TenantId::from_slice(&leaf.tenant_id)),
        session_id: text(SessionId::from_slice(&leaf.session_id)),
        action: leaf.action.clone(),
        outcome: leaf.outcome,
        decision_id: text(DecisionId::from_slice(&leaf.decision_id)),
        revision: leaf.revision,
        external: leaf.external,
        count: leaf.count,
        on_behalf_of: text(PrincipalId::from_slice(&leaf.on_behalf_of)),
        ..AuditEvent::default()
    };
    if leaf.sealed.is_empty() {
        return event;
    }
    match open(leaf, keys) {
        Ok(details) => fill(&mut event, details),
        Err(why) => drop(event.metadata.insert(SEALED_BECAUSE.to_owned(), why.to_owned())),
    }
    event
}

fn text<K: IdKind>(id: Result<Id<K>, aesp_proto::InvalidId>) -> String {
    id.map(|id| id.to_string()).unwrap_or_default()
}

fn open(leaf: &AuditLeaf, keys: &Keys) -> Result<AuditSealed, &'static str> {
    const DAMAGED: &str = "the sealed part is damaged";
    let keys = keys.as_ref().map_err(|_| "the key of the sealed part was destroyed")?;
    if leaf.sealed_key_id != keys.audit_key_id() {
        return Err("the key of the sealed part was destroyed");
    }
    let event = EventId::from_slice(&leaf.event_id).map_err(|_| DAMAGED)?;
    let tenant = TenantId::from_slice(&leaf.tenant_id).map_err(|_| DAMAGED)?;
    let plaintext = keys.audit_open(&sealed_aad(&event, &tenant), &leaf.sealed).map_err(|_| DAMAGED)?;
    AuditSealed::decode(plaintext.as_slice()).map_err(|_| DAMAGED)
}

fn fill(event: &mut AuditEvent, details: AuditSealed) {
    event.metadata = details.fields.into_iter().map(|field| (field.key, field.value)).collect();
    let digests = DIGESTS.into_iter().zip([details.arguments_digest, details.result_digest]);
    for (name, digest) in digests.filter(|(_, digest)| !digest.is_empty()) {
        event.metadata.insert(name.to_owned(), HEXLOWER.encode(&digest));
    }
    event.resource = details.resource;
    event.source_ip = details.source_ip;
    event.user_agent = details.user_agent;
    event.reason = details.reason;
    event.correlation_id = details.correlation_id;
    event.invocation_id = details.invocation_id;
    event.policy_violations = details.policy_violations;
    event.risk_score = details.risk_score;
}
