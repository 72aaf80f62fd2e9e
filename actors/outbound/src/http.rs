//! Bounded HTTP: TLS 1.3, no redirects, no proxies of the environment, bounded times and answers.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use aesp_proto::chain;
use bytes::Bytes;
use reqwest::{
    Client, Url,
    header::{CONTENT_TYPE, HeaderMap, HeaderValue},
    redirect::Policy,
};
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::{Answer, Cause, Endpoint, Failure, Material, answer::retry_after, endpoint::url};

/// The most bytes of an answer that are read, unless [less is wanted](Http::bounded).
const ANSWER_BYTES: usize = 4 << 20;
/// How often it is looked whether the files of certificates changed.
const LOOK: Duration = Duration::from_secs(30);

/// A client of one of the others.
pub struct Http {
    endpoint: Endpoint,
    answer_bytes: usize,
    held: Mutex<Held>,
}

struct Held {
    looked: Instant,
    fingerprint: [u8; 32],
    client: Client,
}

impl Http {
    /// Reads the files of the configuration.
    ///
    /// # Errors
    /// What can't be used, and why.
    pub fn new(endpoint: &Endpoint) -> Result<Self, String> {
        let material = Material::read(endpoint)?;
        let client = client(endpoint, &material)?;
        let held = Held { looked: Instant::now(), fingerprint: material.fingerprint(), client };
        Ok(Self { endpoint: endpoint.clone(), answer_bytes: ANSWER_BYTES, held: Mutex::new(held) })
    }

    /// Reads no answer of more than so many bytes.
    #[must_use]
    pub fn bounded(self, answer_bytes: usize) -> Self {
        Self { answer_bytes, ..self }
    }

    /// Returns the address with its path replaced by one below it.
    ///
    /// # Errors
    /// If it is no address that may be used.
    pub fn below(&self, path: &str) -> Result<Url, String> {
        let mut url = url(&self.endpoint.target).ok_or("target is no address that may be used")?;
        let base = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{base}/{path}"));
        Ok(url)
    }

    /// Returns the client; a new one if a certificate was replaced. What can't be read any more stays as it was.
    fn client(&self) -> Client {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.looked.elapsed() >= LOOK {
            held.looked = Instant::now();
            let read = Material::read(&self.endpoint).and_then(|material| {
                let fingerprint = material.fingerprint();
                if fingerprint == held.fingerprint {
                    return Ok(None);
                }
                Ok(Some((fingerprint, client(&self.endpoint, &material)?)))
            });
            match read {
                Ok(Some((fingerprint, client))) => {
                    tracing::info!(
                        endpoint = self.endpoint.name,
                        "a certificate for connections to others was replaced"
                    );
                    (held.fingerprint, held.client) = (fingerprint, client);
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(endpoint = self.endpoint.name, error, "certificates stay as they were");
                }
            }
        }
        held.client.clone()
    }

    /// Posts a body and reads the answer, in the time that there is.
    ///
    /// # Errors
    /// That there was no whole answer. A status that is no success is an answer.
    pub async fn post(&self, url: Url, headers: HeaderMap, body: Bytes) -> Result<Answer, Failure> {
        let request = self.client().post(url).headers(headers).body(body);
        let mut answer = request.send().await.map_err(|error| failed(&self.endpoint, error))?;
        let status = answer.status();
        let retry_after = retry_after(answer.headers());
        let content_type = answer.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let content_type = content_type.unwrap_or_default().to_owned();
        let mut body = Vec::new();
        while let Some(part) = answer.chunk().await.map_err(|error| failed(&self.endpoint, error))? {
            if body.len() + part.len() > self.answer_bytes {
                return Err(Failure::new(
                    Cause::Garbled,
                    format!("its answer has more than {} bytes", self.answer_bytes),
                ));
            }
            body.extend_from_slice(&part);
        }
        Ok(Answer { status, retry_after, content_type, body })
    }
}

fn client(endpoint: &Endpoint, material: &Material) -> Result<Client, String> {
    let mut tls = material.client()?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let encrypted = url(&endpoint.target).is_some_and(|url| url.scheme() == "https");
    Client::builder()
        .no_proxy()
        .redirect(Policy::none())
        .https_only(encrypted)
        .connect_timeout(endpoint.timeout)
        .timeout(endpoint.timeout)
        .user_agent(concat!("aesp/", env!("CARGO_PKG_VERSION")))
        .tls_backend_preconfigured(tls)
        .build()
        .map_err(|error| format!("no HTTPS client can be made: {error}"))
}

fn failed(endpoint: &Endpoint, error: reqwest::Error) -> Failure {
    if error.is_timeout() {
        return Failure::new(
            Cause::Slow,
            format!("no whole answer within {} ms", endpoint.timeout.as_millis()),
        );
    }
    // Without the address, whose query may hold a secret.
    Failure::new(Cause::Unreachable, chain(&error.without_url()))
}

/// Returns what stands in an `authorization` header.
///
/// # Errors
/// [`Cause::Refused`] if the secret has characters that no header can have.
pub fn credential(scheme: &str, secret: &str) -> Result<HeaderValue, Failure> {
    let text = Zeroizing::new(format!("{scheme} {secret}"));
    let mut value = HeaderValue::from_str(&text)
        .map_err(|_| Failure::new(Cause::Refused, "its secret has characters that no header can have"))?;
    value.set_sensitive(true);
    Ok(value)
}
