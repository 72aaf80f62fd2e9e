use aesp_proto::v1::{AuditEvent, EventType, Outcome};
use serde::{Deserialize, Serialize};

/// How much an event is worth a look. The same in every format, whose numbers follow from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Something went as it should.
    #[default]
    Informational,
    /// Something failed, or an administrator changed something.
    Low,
    /// Something was refused, or violated a policy.
    Medium,
    /// An alert, or a high risk.
    High,
    /// A risk of nine tenths and more.
    Critical,
}

const HIGH_RISK: f64 = 0.7;
const CRITICAL_RISK: f64 = 0.9;

impl Severity {
    /// Judges an event by its outcome, its type and its risk, whichever says most.
    #[must_use]
    pub fn of(event: &AuditEvent) -> Self {
        let by_outcome = match event.outcome() {
            Outcome::Success | Outcome::Unspecified => Self::Informational,
            Outcome::Failure => Self::Low,
            Outcome::Denied => Self::Medium,
        };
        let by_type = match event.event_type() {
            EventType::SecurityAlert => Self::High,
            EventType::EventPolicyViolation => Self::Medium,
            EventType::ConfigurationChange => Self::Low,
            _ => Self::Informational,
        };
        let by_risk = match event.risk_score {
            risk if risk >= CRITICAL_RISK => Self::Critical,
            risk if risk >= HIGH_RISK => Self::High,
            _ => Self::Informational,
        };
        by_outcome.max(by_type).max(by_risk)
    }

    /// Returns its name, as OCSF has it, in small letters.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Informational => "informational",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }

    /// Returns the severity of RFC 5424 §6.2.1.
    #[must_use]
    pub fn syslog(self) -> u8 {
        match self {
            Self::Informational => 6,
            Self::Low => 5,
            Self::Medium => 4,
            Self::High => 3,
            Self::Critical => 2,
        }
    }

    /// Returns `severity_id` of OCSF.
    #[must_use]
    pub fn ocsf(self) -> u8 {
        match self {
            Self::Informational => 1,
            Self::Low => 2,
            Self::Medium => 3,
            Self::High => 4,
            Self::Critical => 5,
        }
    }

    /// Returns the severity number of OpenTelemetry's logs: INFO, INFO2, WARN, ERROR, FATAL.
    #[must_use]
    pub fn otel(self) -> i32 {
        match self {
            Self::Informational => 9,
            Self::Low => 10,
            Self::Medium => 13,
            Self::High => 17,
            Self::Critical => 21,
        }
    }

    /// Returns the severity of CEF, 0 to 10.
    #[must_use]
    pub fn cef(self) -> u8 {
        match self {
            Self::Informational => 2,
            Self::Low => 4,
            Self::Medium => 6,
            Self::High => 8,
            Self::Critical => 10,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_says_most_counts() {
        let severity = |kind: EventType, outcome: Outcome, risk_score: f64| {
            Severity::of(&AuditEvent {
                event_type: kind.into(),
                outcome: outcome.into(),
                risk_score,
                ..AuditEvent::default()
            })
        };
        use EventType::{ConfigurationChange, SecurityAlert, ToolInvocation};
        assert_eq!(severity(ConfigurationChange, Outcome::Success, 0.0), Severity::Low);
        assert_eq!(severity(ToolInvocation, Outcome::Success, 0.1), Severity::Informational);
        assert_eq!(severity(ToolInvocation, Outcome::Failure, f64::NAN), Severity::Low);
        assert_eq!(severity(ToolInvocation, Outcome::Denied, 0.0), Severity::Medium);
        assert_eq!(severity(SecurityAlert, Outcome::Success, 0.0), Severity::High);
        assert_eq!(severity(ToolInvocation, Outcome::Success, 0.95), Severity::Critical);
    }
}
