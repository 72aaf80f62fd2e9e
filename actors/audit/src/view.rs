//! A leaf as people read it: sensitive fields opened, or left empty with the reason.

use std::collections::HashMap;

use aesp_proto::{
    DecisionId, EventId, Id, IdKind, PrincipalId, SessionId, TenantId,
    v1::{AuditEvent, AuditLeaf, AuditSealed},
};
use aesp_storage::{Error as StoreError, Opened, Transaction};
use data_encoding::HEXLOWER;
use futures::future::try_join_all;
use prost::Message;

use crate::leaf::sealed_aad;

/// Where [`AuditEvent::metadata`] says why the sensitive fields are empty.
const SEALED_BECAUSE: &str = "aesp.sealed";
/// Where [`AuditEvent::metadata`] says when they were erased, in milliseconds since 1970.
const ERASED_AT: &str = "aesp.erased_at_ms";
/// Keys that are looked for at the same time.
const AT_ONCE: usize = 256;
/// Where [`AuditEvent::metadata`] has the digests.
const DIGESTS: [&str; 2] = ["arguments_digest", "result_digest"];

/// Tells whether an entry of [`AuditEvent::metadata`] is no field of the event, but was put there by this view of it.
pub(crate) fn made_by_view(name: &str) -> bool {
    name == SEALED_BECAUSE || name == ERASED_AT || DIGESTS.contains(&name)
}

/// What opens a tenant's leaves, as far as they were shown to it.
pub(crate) struct Keys {
    tenant: TenantId,
    /// Whether the tenant has keys: without them nothing opens, and the rest of the log stays readable.
    usable: bool,
    known: HashMap<Vec<u8>, Opened>,
}

impl Keys {
    pub(crate) async fn load(tx: &Transaction, tenant: TenantId) -> Result<Self, StoreError> {
        let usable = match tx.tenant_keys(tenant).await {
            Err(StoreError::KeyDestroyed { .. }) => false,
            Err(error) => return Err(error),
            Ok(_) => true,
        };
        Ok(Self { tenant, usable, known: HashMap::new() })
    }

    pub(crate) fn usable(&self) -> bool {
        self.usable
    }

    /// Finds the keys of these leaves, those that are not known yet side by side.
    pub(crate) async fn learn<'l>(
        &mut self,
        tx: &Transaction,
        leaves: impl IntoIterator<Item = &'l AuditLeaf> + Send,
    ) -> Result<(), StoreError> {
        if !self.usable {
            return Ok(());
        }
        let mut wanted: Vec<&[u8]> = Vec::new();
        for leaf in leaves {
            if !leaf.sealed.is_empty() && !self.known.contains_key(&leaf.sealed_key_id) {
                wanted.push(&leaf.sealed_key_id);
            }
        }
        wanted.sort_unstable();
        wanted.dedup();
        let tenant = self.tenant;
        for part in wanted.chunks(AT_ONCE) {
            let found = try_join_all(part.iter().map(|id| tx.audit_opener(tenant, id))).await?;
            self.known.extend(part.iter().map(|id| id.to_vec()).zip(found));
        }
        Ok(())
    }
}

/// Why the sensitive part of an event can't be read.
enum Shut {
    /// Its key was destroyed, and nothing says more.
    Gone,
    Erased {
        at_ms: i64,
        rule: String,
    },
    Damaged,
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
        Err(why) => event.metadata.extend(why.told()),
    }
    event
}

impl Shut {
    fn told(self) -> Vec<(String, String)> {
        let because = |why: String| (SEALED_BECAUSE.to_owned(), why);
        match self {
            Self::Gone => vec![because("the key of the sealed part was destroyed".into())],
            Self::Damaged => vec![because("the sealed part is damaged".into())],
            Self::Erased { at_ms, rule } => {
                vec![because(format!("erased: {rule}")), (ERASED_AT.to_owned(), at_ms.to_string())]
            }
        }
    }
}

fn text<K: IdKind>(id: Result<Id<K>, aesp_proto::InvalidId>) -> String {
    id.map(|id| id.to_string()).unwrap_or_default()
}

fn open(leaf: &AuditLeaf, keys: &Keys) -> Result<AuditSealed, Shut> {
    debug_assert!(!keys.usable || keys.known.contains_key(&leaf.sealed_key_id), "a leaf that was not shown");
    let key = match keys.known.get(&leaf.sealed_key_id) {
        Some(Opened::Key(key)) => key,
        Some(Opened::Destroyed(row)) => {
            return Err(Shut::Erased { at_ms: row.at.0, rule: row.rule.clone() });
        }
        Some(Opened::Unknown) | None => return Err(Shut::Gone),
    };
    let event = EventId::from_slice(&leaf.event_id).map_err(|_| Shut::Damaged)?;
    let tenant = TenantId::from_slice(&leaf.tenant_id).map_err(|_| Shut::Damaged)?;
    let plaintext = key.open(&sealed_aad(&event, &tenant), &leaf.sealed).map_err(|_| Shut::Damaged)?;
    AuditSealed::decode(plaintext.as_slice()).map_err(|_| Shut::Damaged)
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
