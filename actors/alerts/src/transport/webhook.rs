use std::sync::Arc;

use aesp_outbound::{Cause, Failure, Http, LateSecret, sign_webhook, url};
use aesp_proto::Clock;
use async_trait::async_trait;
use data_encoding::HEXLOWER;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Means, Message, Transport, rfc3339};
use crate::{Alert, config::Receiver, note::Tell};

/// POSTs `{"tenant":…,"group":…,"alerts":[…]}`, signed as the Standard Webhooks specification has it. The id is made of what is told, so that
/// it is the same when the same is sent again.
pub(super) struct Webhook {
    http: Http,
    target: String,
    secret: LateSecret,
    clock: Arc<dyn Clock>,
}

impl Webhook {
    pub(super) fn new(receiver: &Receiver, means: &Means) -> Result<Self, String> {
        Ok(Self {
            http: Http::new(&receiver.endpoint())?,
            target: receiver.target.clone(),
            secret: means.secret(receiver),
            clock: Arc::clone(&means.clock),
        })
    }
}

/// Returns an alert as it is told.
pub(super) fn told(alert: &Alert, tell: Tell) -> Value {
    json!({
        "id": alert.id.to_string(),
        "dedup_key": alert.dedup_key,
        "told": tell.name(),
        "status": if alert.is_firing() { "firing" } else { "resolved" },
        "rule": alert.rule,
        "severity": alert.severity.name(),
        "labels": alert.labels,
        "annotations": alert.annotations,
        "value": alert.value,
        "began": rfc3339(alert.began),
        "ended": alert.ended.map(rfc3339),
        "ended_because": alert.ended_because,
        "acknowledged_by": alert.acknowledged.as_ref().map(|by| by.by.to_string()),
        "events": alert.events.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

#[async_trait]
impl Transport for Webhook {
    async fn deliver(&self, message: &Message) -> Result<(), Failure> {
        let alerts: Vec<Value> = message.alerts.iter().map(|(alert, tell)| told(alert, *tell)).collect();
        let body = json!({ "tenant": message.tenant.to_string(), "group": message.group, "alerts": alerts });
        let body = serde_json::to_vec(&body).expect("texts");
        let id = format!("aesp_{}", HEXLOWER.encode(&Sha256::digest(&body)[..16]));
        let seconds = self.clock.now().0.div_euclid(1_000);
        let headers = sign_webhook(self.secret.needed().await?.expose(), &id, seconds, &body)?;
        let url = url(&self.target)
            .ok_or_else(|| Failure::new(Cause::Refused, "target is no address that may be used"))?;
        self.http.post(url, headers, body.into()).await?.success()?;
        Ok(())
    }
}
