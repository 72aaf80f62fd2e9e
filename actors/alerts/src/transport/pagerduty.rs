use aesp_audit_formats::Severity;
use aesp_outbound::{Cause, Failure, Http, LateSecret};
use async_trait::async_trait;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use serde_json::{Value, json};

use super::{Means, Message, Transport, rfc3339};
use crate::{Alert, config::Receiver, note::Tell};

/// PagerDuty's Events API v2: one event an alert, whose `dedup_key` is the same for all of it, so that what is sent again opens no second
/// incident.
///
/// Source: PagerDuty, "Send an Alert Event", `POST /v2/enqueue`.
pub(super) struct Pagerduty {
    http: Http,
    routing_key: LateSecret,
    node: String,
}

impl Pagerduty {
    pub(super) fn new(receiver: &Receiver, means: &Means) -> Result<Self, String> {
        Ok(Self {
            http: Http::new(&receiver.endpoint())?,
            routing_key: means.secret(receiver),
            node: means.node.clone(),
        })
    }

    fn event(&self, routing_key: &str, alert: &Alert, tell: Tell) -> Value {
        let action = match tell {
            Tell::Fired | Tell::Again | Tell::Still => "trigger",
            Tell::Acknowledged => "acknowledge",
            Tell::Resolved => "resolve",
        };
        let mut event = json!({
            "routing_key": routing_key,
            "event_action": action,
            "dedup_key": alert.dedup_key,
        });
        if action == "trigger" {
            event["client"] = "AESP".into();
            event["payload"] = json!({
                // At most 1,024 characters.
                "summary": alert.summary().chars().take(1_024).collect::<String>(),
                "source": format!("aesp:{}", self.node),
                "severity": severity(alert.severity),
                "timestamp": rfc3339(alert.began),
                "component": alert.labels.get("tenant"),
                "group": alert.rule,
                "class": alert.rule,
                "custom_details": {
                    "labels": alert.labels,
                    "annotations": alert.annotations,
                    "value": alert.value,
                    "alert": alert.id.to_string(),
                    "events": alert.events.iter().map(ToString::to_string).collect::<Vec<_>>(),
                },
            });
        }
        event
    }
}

/// Returns one of PagerDuty's four.
fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Informational | Severity::Low => "info",
        Severity::Medium => "warning",
        Severity::High => "error",
        Severity::Critical => "critical",
    }
}

#[async_trait]
impl Transport for Pagerduty {
    async fn deliver(&self, message: &Message) -> Result<(), Failure> {
        let url = self.http.below("v2/enqueue").map_err(|why| Failure::new(Cause::Refused, why))?;
        let routing_key = self.routing_key.needed().await?;
        for (alert, tell) in &message.alerts {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            let body = serde_json::to_vec(&self.event(routing_key.expose(), alert, *tell)).expect("texts");
            self.http.post(url.clone(), headers, body.into()).await?.success()?;
        }
        Ok(())
    }
}
