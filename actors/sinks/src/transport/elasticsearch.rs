use std::sync::Arc;

use aesp_outbound::{Cause, Failure, Http, credential};
use aesp_proto::v1::AuditEvent;
use async_trait::async_trait;
use bytes::Bytes;
use data_encoding::BASE64;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroizing;

use super::{Means, Transport};
use crate::{Config, delivery::Receipt, format, parcel::Parcel};

/// The bulk API of Elasticsearch and OpenSearch. Events are created under their own ids, so that one that is sent again is known already;
/// `create` serves indexes and data streams alike.
///
/// Source: Elasticsearch reference, "Bulk API".
pub(super) struct Elasticsearch {
    http: Http,
    config: Config,
    means: Means,
}

#[derive(Debug, Deserialize)]
struct Answered {
    items: Vec<Item>,
}

#[derive(Debug, Deserialize)]
struct Item {
    create: Created,
}

#[derive(Debug, Deserialize)]
struct Created {
    #[serde(rename = "_id")]
    id: Option<String>,
    status: u16,
    error: Option<Wrong>,
}

#[derive(Debug, Default, Deserialize)]
struct Wrong {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    reason: String,
}

impl Elasticsearch {
    pub(super) fn new(config: &Config, means: Means) -> Result<Self, String> {
        Ok(Self { http: Http::new(&config.endpoint())?, config: config.clone(), means })
    }

    async fn headers(&self) -> Result<HeaderMap, Failure> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
        if let Some(secret) = self.means.secret.newest().await? {
            let value = if self.config.user.is_empty() {
                credential("ApiKey", secret.expose())?
            } else {
                let pair = Zeroizing::new(format!("{}:{}", self.config.user, secret.expose()));
                credential("Basic", &Zeroizing::new(BASE64.encode(pair.as_bytes())))?
            };
            headers.insert(AUTHORIZATION, value);
        }
        Ok(headers)
    }
}

/// Reads what became of each event: they are settled up to the first that may be taken later.
fn receipt(parcels: &[Arc<Parcel>], answered: Answered) -> Result<Receipt, Failure> {
    if answered.items.len() != parcels.len() {
        let why = format!("it was sent {} events and tells of {}", parcels.len(), answered.items.len());
        return Err(Failure::new(Cause::Garbled, why));
    }
    let mut receipt = Receipt::default();
    for (at, (parcel, Item { create })) in parcels.iter().zip(answered.items).enumerate() {
        if create.id.is_some_and(|id| id != parcel.event.to_string()) {
            return Err(Failure::new(Cause::Garbled, "it tells of other events than it was sent"));
        }
        let wrong = create.error.unwrap_or_default();
        let why = format!("status {}, {}: {}", create.status, wrong.kind, wrong.reason);
        match create.status {
            // 409: it was taken before.
            200 | 201 | 409 => {}
            400 | 413 | 422 => receipt.refused.push((at, why)),
            status => {
                // Among them 403, the block of an index on a full disk, and 404, an index that may not be made.
                let cause = if matches!(status, 408 | 429 | 500..) { Cause::Busy } else { Cause::Refused };
                receipt.rest = Some(Failure::new(cause, why));
                return Ok(receipt);
            }
        }
        receipt.settled = at + 1;
    }
    Ok(receipt)
}

#[async_trait]
impl Transport for Elasticsearch {
    fn encode(&self, event: &AuditEvent) -> Bytes {
        let action = json!({ "create": { "_index": self.config.index, "_id": event.event_id } });
        let mut document = format::value(event);
        // What data streams and their tools take as the time.
        document["@timestamp"] = event.timestamp_ms.into();
        format!("{action}\n{document}\n").into()
    }

    async fn deliver(&self, parcels: &[Arc<Parcel>]) -> Result<Receipt, Failure> {
        let url = self.http.below("_bulk").map_err(|why| Failure::new(Cause::Refused, why))?;
        let body: Vec<&[u8]> = parcels.iter().map(|parcel| parcel.bytes.as_ref()).collect();
        let answer = self.http.post(url, self.headers().await?, body.concat().into()).await?.success()?;
        let answered = serde_json::from_slice(&answer).map_err(|error| {
            Failure::new(Cause::Garbled, format!("its answer is not that of a bulk request: {error}"))
        })?;
        receipt(parcels, answered)
    }
}

#[cfg(test)]
mod tests {
    use aesp_proto::{EventId, TenantId, Timestamp};

    use super::*;

    fn parcels() -> Vec<Arc<Parcel>> {
        let parcel = |n: u8| Parcel {
            tenant: TenantId::PLATFORM,
            position: [n; 16],
            event: EventId::from_bytes([n; 16]),
            at: Timestamp(0),
            bytes: Bytes::new(),
            about_sinks: false,
        };
        (1..=4).map(|n| Arc::new(parcel(n))).collect()
    }

    fn answered(statuses: &[u16]) -> Answered {
        let item =
            |status: &u16| json!({ "create": { "status": status, "error": { "type": "t", "reason": "r" } } });
        let items: Vec<_> = statuses.iter().map(item).collect();
        serde_json::from_value(json!({ "took": 1, "errors": true, "items": items })).unwrap()
    }

    #[test]
    fn each_event_has_its_own_answer() {
        let all = receipt(&parcels(), answered(&[201, 409, 400, 201])).unwrap();
        assert_eq!((all.settled, all.refused.len(), all.refused[0].0, all.rest), (4, 1, 2, None));
        let busy = receipt(&parcels(), answered(&[201, 400, 429, 400])).unwrap();
        assert_eq!((busy.settled, busy.refused.len()), (2, 1), "what is behind a pause is sent again");
        assert_eq!(busy.rest.unwrap().cause, Cause::Busy);
        let full = receipt(&parcels(), answered(&[403, 403, 403, 403])).unwrap();
        assert_eq!((full.settled, full.rest.unwrap().cause), (0, Cause::Refused));
        assert_eq!(receipt(&parcels(), answered(&[201])).unwrap_err().cause, Cause::Garbled);
    }
}
