use std::sync::Arc;

use aesp_outbound::{Cause, Failure, Http, LateSecret, credential};
use aesp_proto::Clock;
use async_trait::async_trait;
use data_encoding::BASE64;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use serde_json::{Value, json};

use super::{Means, Message, Transport, rfc3339};
use crate::config::{BELIEVED, Receiver};

/// Prometheus' Alertmanager. It groups, silences and routes by itself what it is told, tells by the labels that it knows an alert already, and
/// takes one for over whose `endsAt` is past: so each that lasts is told again, with an end some minutes ahead.
///
/// Source: Alertmanager, "API v2", `POST /api/v2/alerts`.
pub(super) struct Alertmanager {
    http: Http,
    user: String,
    secret: LateSecret,
    clock: Arc<dyn Clock>,
}

impl Alertmanager {
    pub(super) fn new(receiver: &Receiver, means: &Means) -> Result<Self, String> {
        Ok(Self {
            http: Http::new(&receiver.endpoint())?,
            user: receiver.user.clone(),
            secret: means.secret(receiver),
            clock: Arc::clone(&means.clock),
        })
    }

    async fn headers(&self) -> Result<HeaderMap, Failure> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(secret) = self.secret.newest().await? {
            let value = if self.user.is_empty() {
                credential("Bearer", secret.expose())?
            } else {
                let pair = format!("{}:{}", self.user, secret.expose());
                credential("Basic", &BASE64.encode(pair.as_bytes()))?
            };
            headers.insert(AUTHORIZATION, value);
        }
        Ok(headers)
    }

    fn alerts(&self, message: &Message) -> Vec<Value> {
        let believed = self.clock.now().plus(BELIEVED);
        let alerts = message.alerts.iter().map(|(alert, tell)| {
            // Told to have begun, though it has ended already: that is told next.
            let ends = match (alert.ended, tell) {
                (Some(ended), crate::note::Tell::Resolved) => ended,
                _ => believed,
            };
            let mut labels = alert.labels.clone();
            // Empty ones are none there.
            labels.retain(|_, value| !value.is_empty());
            json!({
                "labels": labels,
                "annotations": alert.annotations,
                "startsAt": rfc3339(alert.began),
                "endsAt": rfc3339(ends),
            })
        });
        alerts.collect()
    }
}

#[async_trait]
impl Transport for Alertmanager {
    async fn deliver(&self, message: &Message) -> Result<(), Failure> {
        let url = self.http.below("api/v2/alerts").map_err(|why| Failure::new(Cause::Refused, why))?;
        let body = serde_json::to_vec(&self.alerts(message)).expect("texts");
        self.http.post(url, self.headers().await?, body.into()).await?.success()?;
        Ok(())
    }
}
