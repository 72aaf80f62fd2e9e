use std::sync::Arc;

use aesp_proto::v1::AuditEvent;
use async_trait::async_trait;
use aws_lc_rs::hmac;
use bytes::Bytes;
use data_encoding::{BASE64, HEXLOWER};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use zeroize::Zeroizing;

use super::{Means, Transport, http::Http};
use crate::{Cause, Config, delivery::Receipt, failure::Failure, format, parcel::Parcel};

/// POSTs `{"events":[…]}`, signed as the Standard Webhooks specification has it: `webhook-id`, `webhook-timestamp` and
/// `webhook-signature: v1,BASE64(HMAC-SHA-256(secret, id.timestamp.body))`. The id is made of the events, so that it is the same when the
/// same batch is sent again.
///
/// Source: Standard Webhooks, "Signature scheme".
pub(super) struct Webhook {
    http: Http,
    config: Config,
    means: Means,
}

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
/// What secrets in base 64 begin with.
const ENCODED: &str = "whsec_";

impl Webhook {
    pub(super) fn new(config: &Config, means: Means) -> Result<Self, String> {
        Ok(Self { http: Http::new(config)?, config: config.clone(), means })
    }

    async fn headers(&self, id: &str, body: &[u8]) -> Result<HeaderMap, Failure> {
        let wrong = |what: &str| Failure::new(Cause::Refused, what);
        let secret = self.means.secret.needed().await?;
        let key = key(secret.expose()).ok_or_else(|| wrong("the secret after whsec_ is not base 64"))?;
        let seconds = self.means.clock.now().0.div_euclid(1_000);
        let signature = format!("v1,{}", sign(&key, id, seconds, body));
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let value = |text: &str| HeaderValue::from_str(text).map_err(|_| wrong("a header can't be written"));
        headers.insert(ID, value(id)?);
        headers.insert(TIMESTAMP, HeaderValue::from(seconds));
        headers.insert(SIGNATURE, value(&signature)?);
        Ok(headers)
    }
}

/// Reads a secret: the bytes of the text, or what is encoded behind `whsec_`.
fn key(secret: &str) -> Option<Zeroizing<Vec<u8>>> {
    match secret.strip_prefix(ENCODED) {
        Some(encoded) => BASE64.decode(encoded.as_bytes()).ok().map(Zeroizing::new),
        None => Some(Zeroizing::new(secret.as_bytes().to_vec())),
    }
}

fn sign(key: &[u8], id: &str, seconds: i64, body: &[u8]) -> String {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    context.update(format!("{id}.{seconds}.").as_bytes());
    context.update(body);
    BASE64.encode(context.sign().as_ref())
}

#[async_trait]
impl Transport for Webhook {
    fn encode(&self, event: &AuditEvent) -> Bytes {
        format::json(event)
    }

    async fn deliver(&self, parcels: &[Arc<Parcel>]) -> Result<Receipt, Failure> {
        let parts: Vec<&[u8]> = parcels.iter().map(|parcel| parcel.bytes.as_ref()).collect();
        let body = [b"{\"events\":[", parts.join(&b","[..]).as_slice(), b"]}"].concat();
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &body);
        let id = format!("aesp_{}", HEXLOWER.encode(&digest.as_ref()[..16]));
        let headers = self.headers(&id, &body).await?;
        let url = self
            .config
            .url()
            .ok_or_else(|| Failure::new(Cause::Refused, "target is no address that may be used"))?;
        self.http.post(url, headers, body.into()).await?.success()?;
        Ok(Receipt::all(parcels.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the Standard Webhooks specification's own libraries.
    #[test]
    fn a_signature_is_that_of_the_specification() {
        let key = key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature = sign(&key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_secret_is_text_unless_it_says_otherwise() {
        assert_eq!(key("hunter2").unwrap().as_slice(), b"hunter2");
        assert!(key("whsec_%").is_none());
    }
}
