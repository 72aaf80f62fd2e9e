use aws_lc_rs::hmac;
use data_encoding::BASE64;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use zeroize::Zeroizing;

use crate::{Cause, Failure};

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
/// What secrets in base 64 begin with.
const ENCODED: &str = "whsec_";

/// Returns the headers of a POST of JSON, signed as the Standard Webhooks specification has it: `webhook-id`, `webhook-timestamp` and
/// `webhook-signature: v1,BASE64(HMAC-SHA-256(secret, id.timestamp.body))`. The id is to be the same when the same is sent again.
///
/// # Errors
/// [`Cause::Refused`] if the secret, or the id, can't be used.
///
/// Source: Standard Webhooks, "Signature scheme".
pub fn sign_webhook(secret: &str, id: &str, seconds: i64, body: &[u8]) -> Result<HeaderMap, Failure> {
    let wrong = |what: &str| Failure::new(Cause::Refused, what);
    let key = key(secret).ok_or_else(|| wrong("the secret after whsec_ is not base 64"))?;
    let signature = format!("v1,{}", sign(&key, id, seconds, body));
    let value = |text: &str| HeaderValue::from_str(text).map_err(|_| wrong("a header can't be written"));
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ID, value(id)?);
    headers.insert(TIMESTAMP, HeaderValue::from(seconds));
    headers.insert(SIGNATURE, value(&signature)?);
    Ok(headers)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the Standard Webhooks specification's own libraries.
    #[test]
    fn a_signature_is_that_of_the_specification() {
        let body = br#"{"test": 2432232314}"#;
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        let headers =
            sign_webhook("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", id, 1_614_265_330, body).unwrap();
        assert_eq!(headers["webhook-signature"], "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert_eq!(
            (&headers["webhook-id"], &headers["webhook-timestamp"]),
            (&HeaderValue::from_static(id), &HeaderValue::from_static("1614265330"))
        );
    }

    #[test]
    fn a_secret_is_text_unless_it_says_otherwise() {
        assert_eq!(key("hunter2").unwrap().as_slice(), b"hunter2");
        assert!(key("whsec_%").is_none());
        assert_eq!(sign_webhook("whsec_%", "a", 0, b"").unwrap_err().cause, Cause::Refused);
    }
}
