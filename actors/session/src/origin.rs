use aesp_audit::Event;
use aesp_proto::{
    DecisionId, Entropy, PrincipalId, Revision, SessionId, TenantId,
    v1::{EventType, Outcome},
};

/// Who asks for a change, as the record of it says.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// Who asks; nobody for the Host itself.
    pub principal: Option<PrincipalId>,
    /// The decision that permits it.
    pub decision: Option<DecisionId>,
    /// The tenant's revision that it was made at.
    pub revision: Revision,
    /// The client's address.
    pub source_ip: String,
    /// The client's program.
    pub user_agent: String,
    /// Names the request.
    pub correlation_id: String,
}

impl Origin {
    /// Makes the record of a change to a session.
    pub(crate) fn event(
        &self,
        entropy: &Entropy,
        (tenant, session): (TenantId, SessionId),
        (kind, action): (EventType, &str),
        reason: &str,
    ) -> Event {
        let mut event = Event::new(entropy, tenant, kind, action, Outcome::Success);
        event.session = Some(session);
        event.principal = self.principal;
        event.decision = self.decision;
        event.revision = self.revision;
        event.details.resource = session.to_string();
        event.details.reason = reason.to_owned();
        event.details.source_ip.clone_from(&self.source_ip);
        event.details.user_agent.clone_from(&self.user_agent);
        event.details.correlation_id.clone_from(&self.correlation_id);
        event
    }
}
