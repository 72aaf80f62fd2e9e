use std::{collections::BTreeMap, sync::Arc, time::Duration};

use aesp_outbound::{Answer, Cause, Failure, Http, credential};
use aesp_proto::v1::AuditEvent;
use async_trait::async_trait;
use bytes::Bytes;
use data_encoding::HEXLOWER;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::json;

use super::{Means, Transport};
use crate::{Config, delivery::Receipt, format, parcel::Parcel};

/// Splunk's HTTP Event Collector. A batch is settled when the indexer has acknowledged it, not when the collector has taken it: a token
/// without indexer acknowledgement is refused.
///
/// Source: Splunk, "HTTP Event Collector REST API endpoints" and "About HTTP Event Collector Indexer Acknowledgment".
pub(super) struct Splunk {
    http: Http,
    config: Config,
    means: Means,
    /// Identifies this lane to the collector, which keeps its acknowledgements apart.
    channel: HeaderValue,
}

const CHANNEL: HeaderName = HeaderName::from_static("x-splunk-request-channel");
/// How often it is asked whether a batch is acknowledged.
const LOOKS: u32 = 10;

/// The collector's answer to events.
#[derive(Debug, Deserialize)]
struct Taken {
    code: u32,
    #[serde(default)]
    text: String,
    #[serde(rename = "ackId")]
    ack_id: Option<u64>,
    #[serde(rename = "invalid-event-number")]
    invalid_event: Option<usize>,
}

/// The collector's answer to the question what is acknowledged.
#[derive(Debug, Deserialize)]
struct Acknowledged {
    acks: BTreeMap<u64, bool>,
}

impl Splunk {
    pub(super) fn new(config: &Config, means: Means) -> Result<Self, String> {
        let hex = HEXLOWER.encode(&means.entropy.bytes());
        let (a, b, c, d, e) = (&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]);
        let channel = HeaderValue::from_str(&format!("{a}-{b}-{c}-{d}-{e}"));
        let channel = channel.map_err(|error| error.to_string())?;
        Ok(Self { http: Http::new(&config.endpoint())?, config: config.clone(), means, channel })
    }

    async fn post(&self, path: &str, body: Bytes) -> Result<Answer, Failure> {
        let url = self.http.below(path).map_err(|why| Failure::new(Cause::Refused, why))?;
        let authorization = credential("Splunk", self.means.secret.needed().await?.expose())?;
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, authorization);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CHANNEL, self.channel.clone());
        self.http.post(url, headers, body).await
    }

    /// Waits until the indexer has the batch.
    async fn acknowledged(&self, id: u64) -> Result<(), Failure> {
        let pause = self.config.timeout() / LOOKS;
        for look in 0..LOOKS {
            tokio::time::sleep(if look == 0 { pause.min(FIRST_LOOK) } else { pause }).await;
            let asked = json!({ "acks": [id] }).to_string();
            let answer = self.post("services/collector/ack", asked.into()).await?;
            let known: Acknowledged = read(&answer.success()?)?;
            match known.acks.get(&id) {
                Some(true) => return Ok(()),
                Some(false) => {}
                None => {
                    return Err(Failure::new(
                        Cause::Garbled,
                        "it does not say whether the batch is acknowledged",
                    ));
                }
            }
        }
        let why = "it took a batch and its indexer did not acknowledge it in time; the batch is sent again";
        Err(Failure::new(Cause::Unconfirmed, why))
    }
}

/// An indexer that is quick is not waited for longer than that.
const FIRST_LOOK: Duration = Duration::from_millis(200);

fn read<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body)
        .map_err(|error| Failure::new(Cause::Garbled, format!("its answer is not Splunk's: {error}")))
}

/// Tells the codes that are about an event from those that are about the token, the index or the load.
fn refused(answer: Answer, sent: usize) -> Result<Receipt, Failure> {
    let Ok(told) = serde_json::from_slice::<Taken>(&answer.body) else { return Err(answer.failure()) };
    let why = format!("{} (code {})", told.text, told.code);
    match told.code {
        // Invalid format, event missing, event blank, indexed fields.
        6 | 12 | 13 | 15 => match told.invalid_event.filter(|at| *at < sent) {
            // The others are sent again at once: none of them was taken.
            Some(0) => Ok(Receipt { settled: 1, refused: vec![(0, why)], rest: None }),
            // Those before it may have been taken or not.
            _ => Err(Failure::new(Cause::Content, why)),
        },
        // No token, not this token, not this index, no channel, no acknowledgement.
        1..=4 | 7 | 10 | 11 | 14 | 16 => Err(Failure::new(Cause::Refused, why)),
        8 | 9 | 18..=26 => Err(Failure::new(Cause::Busy, why).after(answer.retry_after)),
        _ => Err(answer.failure()),
    }
}

#[async_trait]
impl Transport for Splunk {
    fn encode(&self, event: &AuditEvent) -> Bytes {
        let mut envelope = json!({
            // Seconds with three decimals.
            "time": event.timestamp_ms as f64 / 1_000.0,
            "host": self.means.node,
            "source": "aesp",
            "sourcetype": "aesp:audit",
            "event": format::value(event),
        });
        if !self.config.index.is_empty() {
            envelope["index"] = self.config.index.clone().into();
        }
        envelope.to_string().into()
    }

    async fn deliver(&self, parcels: &[Arc<Parcel>]) -> Result<Receipt, Failure> {
        let body: Vec<&[u8]> = parcels.iter().map(|parcel| parcel.bytes.as_ref()).collect();
        let answer = self.post("services/collector/event", body.concat().into()).await?;
        if !answer.status.is_success() {
            return refused(answer, parcels.len());
        }
        let taken: Taken = read(&answer.body)?;
        if taken.code != 0 {
            return Err(Failure::new(Cause::Garbled, format!("{} (code {})", taken.text, taken.code)));
        }
        let Some(id) = taken.ack_id else {
            let why = "its token has no indexer acknowledgement: enable it for the token";
            return Err(Failure::new(Cause::Refused, why));
        };
        self.acknowledged(id).await?;
        Ok(Receipt::all(parcels.len()))
    }
}

#[cfg(test)]
mod tests {
    use reqwest::StatusCode;

    use super::*;

    fn told(body: &str, sent: usize) -> Result<Receipt, Failure> {
        let answer = Answer {
            status: StatusCode::BAD_REQUEST,
            retry_after: None,
            content_type: String::new(),
            body: body.as_bytes().to_vec(),
        };
        refused(answer, sent)
    }

    #[test]
    fn an_event_that_is_wrong_is_told_from_a_token_that_is() {
        let first =
            told(r#"{"text":"Event field is required","code":12,"invalid-event-number":0}"#, 3).unwrap();
        assert_eq!((first.settled, first.refused.len(), first.rest), (1, 1, None));
        let later =
            told(r#"{"text":"Invalid data format","code":6,"invalid-event-number":2}"#, 3).unwrap_err();
        assert_eq!(later.cause, Cause::Content);
        for (body, cause) in [
            (r#"{"text":"Incorrect index","code":7,"invalid-event-number":1}"#, Cause::Refused),
            (r#"{"text":"ACK is disabled","code":14}"#, Cause::Refused),
            (r#"{"text":"Invalid token","code":4}"#, Cause::Refused),
            (r#"{"text":"Server is busy","code":9}"#, Cause::Busy),
            ("<html>", Cause::Content),
        ] {
            assert_eq!(told(body, 3).unwrap_err().cause, cause, "{body}");
        }
    }
}
