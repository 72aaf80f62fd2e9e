use aesp_audit::{Event, Recorder};
use aesp_proto::{
    Entropy, TenantId,
    v1::{EventType, Outcome},
};
use tracing::warn;

/// Puts on record what happens around the platform log.
#[derive(Clone)]
pub(crate) struct Teller {
    pub(crate) recorder: Recorder,
    pub(crate) entropy: Entropy,
}

/// The risk of what an operator must look at now: critical in every format.
const CRITICAL: f64 = 1.0;

impl Teller {
    /// Something went as it should.
    pub(crate) async fn well(&self, action: &str, resource: &str, fields: &[(&str, String)]) -> bool {
        self.tell((EventType::SystemEvent, Outcome::Success, 0.0), action, (resource, ""), fields).await
    }

    /// Something failed, or was refused.
    pub(crate) async fn alert(
        &self,
        action: &str,
        resource: &str,
        reason: &str,
        fields: &[(&str, String)],
    ) -> bool {
        self.tell((EventType::SecurityAlert, Outcome::Failure, 0.0), action, (resource, reason), fields).await
    }

    /// The log was rewritten, or a witness is wrong.
    pub(crate) async fn critical(
        &self,
        action: &str,
        resource: &str,
        reason: &str,
        fields: &[(&str, String)],
    ) -> bool {
        self.tell((EventType::SecurityAlert, Outcome::Failure, CRITICAL), action, (resource, reason), fields)
            .await
    }

    /// Tells whether it is on record.
    async fn tell(
        &self,
        (kind, outcome, risk): (EventType, Outcome, f64),
        action: &str,
        (resource, reason): (&str, &str),
        fields: &[(&str, String)],
    ) -> bool {
        let mut event = Event::new(&self.entropy, TenantId::PLATFORM, kind, action, outcome);
        event.details.resource = resource.to_owned();
        event.details.reason = reason.to_owned();
        event.details.risk_score = risk;
        event.details.fields =
            fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let told = self.recorder.append(vec![event]).await;
        if let Err(error) = &told {
            warn!(%error, action, "an event of the platform log is not on record");
        }
        told.is_ok()
    }
}
