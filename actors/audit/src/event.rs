use aesp_proto::{
    DecisionId, Entropy, EventId, PrincipalId, Revision, SessionId, TenantId,
    v1::{EventType, Outcome},
};
use bytes::Bytes;

/// Something that happened, before it is written. Ids stay readable for ever; everything in [`Details`] is sealed under an
/// erasable key of the tenant.
#[derive(Clone, Debug)]
pub struct Event {
    /// Names the event.
    pub id: EventId,
    /// The tenant in whose log it is written.
    pub tenant: TenantId,
    /// What sort of thing happened.
    pub kind: EventType,
    /// The operation, for example `tool.invoke`.
    pub action: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Who did it.
    pub principal: Option<PrincipalId>,
    /// Within which session.
    pub session: Option<SessionId>,
    /// The decision that allowed or refused it.
    pub decision: Option<DecisionId>,
    /// The revision of the tenant's rights that the decision was made at.
    pub revision: Revision,
    /// The principal for whom a Runtime acted.
    pub on_behalf_of: Option<PrincipalId>,
    /// Reported from outside the Host, so not vouched for.
    pub external: bool,
    /// How many like it this one stands for; 0 and 1 mean one.
    pub count: u64,
    /// The classification of the contract that it is about. Not written: it decides how long the event is kept.
    pub classification: Option<&'static str>,
    /// The sensitive part.
    pub details: Details,
}

/// The sensitive part of an [`Event`]: whatever names, addresses or texts came from people and clients. It is written
/// sealed; `arguments` and `result` are written as HMAC digests only.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Details {
    /// What it was done to.
    pub resource: String,
    /// The client's address.
    pub source_ip: String,
    /// The client's program.
    pub user_agent: String,
    /// Why it ended so.
    pub reason: String,
    /// Joins the client's report with the Host's records.
    pub correlation_id: String,
    /// The client's own name for the call.
    pub invocation_id: String,
    /// Whatever else belongs to the record, as names and values.
    pub fields: Vec<(String, String)>,
    /// The policies that were violated.
    pub policy_violations: Vec<String>,
    /// An estimate of the risk, 0 to 1.
    pub risk_score: f64,
    /// The arguments of a call; only their digest is written.
    pub arguments: Option<Bytes>,
    /// The result of a call; only its digest is written.
    pub result: Option<Bytes>,
}

impl Event {
    /// Creates an event of one, with a new id and nothing else said.
    pub fn new(
        entropy: &Entropy,
        tenant: TenantId,
        kind: EventType,
        action: impl Into<String>,
        outcome: Outcome,
    ) -> Self {
        Self {
            id: EventId::random(entropy),
            tenant,
            kind,
            action: action.into(),
            outcome,
            principal: None,
            session: None,
            decision: None,
            revision: Revision::default(),
            on_behalf_of: None,
            external: false,
            count: 1,
            classification: None,
            details: Details::default(),
        }
    }
}

impl Details {
    /// Tells whether there is nothing to seal.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
