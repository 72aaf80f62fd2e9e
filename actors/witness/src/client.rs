//! One witness over HTTPS: TLS 1.3, no redirects, no proxies of the environment, bounded times and answers.

use std::{fs, sync::Arc};

use aesp_merkle::witness::AddCheckpoint;
use reqwest::{Client as Http, StatusCode, Url, header, redirect::Policy};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject},
    version::TLS13,
};
use rustls_platform_verifier::BuilderVerifierExt;

use crate::Config;

/// The most bytes of an answer that are read.
const ANSWER_BYTES: usize = 16 << 10;
/// The content type of an answer that says which size the witness saw last.
pub(crate) const SIZE_TYPE: &str = "text/x.tlog.size";

/// What a witness answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Lines of signatures, not checked.
    Cosigned(String),
    /// It saw this size last.
    Saw(u64),
    /// It saw another root of the size, or says no more than that something is in conflict.
    Conflict,
    /// It believes the proof not.
    Inconsistent,
    /// It does not know the log, or not its key.
    Unknown(&'static str),
}

/// Why there is no answer to go by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// A label of metrics.
    pub(crate) cause: &'static str,
    pub(crate) why: String,
}

impl Trouble {
    pub(crate) fn new(cause: &'static str, why: impl Into<String>) -> Self {
        Self { cause, why: why.into() }
    }
}

/// Sends checkpoints to one witness.
pub(crate) struct Client {
    url: Url,
    http: Http,
}

impl Client {
    /// Reads the authorities.
    ///
    /// # Errors
    /// What can't be used, and why.
    pub(crate) fn new(config: &Config) -> Result<Self, String> {
        let url = config.add_checkpoint().ok_or("url is no address that may be used")?;
        let http = Http::builder()
            .no_proxy()
            .redirect(Policy::none())
            .https_only(url.scheme() == "https")
            .connect_timeout(config.timeout())
            .timeout(config.timeout())
            .user_agent(concat!("aesp/", env!("CARGO_PKG_VERSION")))
            .tls_backend_preconfigured(tls(config)?)
            .build()
            .map_err(|error| format!("no HTTPS client can be made: {error}"))?;
        Ok(Self { url, http })
    }

    /// Sends a checkpoint and reads the answer.
    pub(crate) async fn add(&self, asked: &AddCheckpoint) -> Result<Answer, Trouble> {
        let request = self.http.post(self.url.clone()).header(header::CONTENT_TYPE, "text/plain");
        let mut answer = request.body(asked.text()).send().await.map_err(failed)?;
        let status = answer.status();
        let sized = answer.headers().get(header::CONTENT_TYPE).is_some_and(|value| value == SIZE_TYPE);
        let mut body = Vec::new();
        while let Some(part) = answer.chunk().await.map_err(failed)? {
            if body.len() + part.len() > ANSWER_BYTES {
                return Err(Trouble::new(
                    "garbled",
                    format!("its answer has more than {ANSWER_BYTES} bytes"),
                ));
            }
            body.extend_from_slice(&part);
        }
        read(status, sized, &String::from_utf8_lossy(&body))
    }
}

fn read(status: StatusCode, sized: bool, body: &str) -> Result<Answer, Trouble> {
    match status {
        StatusCode::OK => Ok(Answer::Cosigned(body.to_owned())),
        StatusCode::CONFLICT if sized => {
            let number = body.strip_suffix('\n').unwrap_or(body);
            let size = number.parse::<u64>().ok().filter(|size| size.to_string() == number);
            size.map(Answer::Saw).ok_or_else(|| Trouble::new("garbled", "its answer 409 names no size"))
        }
        StatusCode::CONFLICT => Ok(Answer::Conflict),
        StatusCode::UNPROCESSABLE_ENTITY => Ok(Answer::Inconsistent),
        StatusCode::NOT_FOUND => {
            Ok(Answer::Unknown("it does not know this log: its operator adds the origin"))
        }
        StatusCode::FORBIDDEN => {
            Ok(Answer::Unknown("it does not know the key of this log: its operator adds the key"))
        }
        status => Err(Trouble::new("refused", format!("it answered {status}"))),
    }
}

fn failed(error: reqwest::Error) -> Trouble {
    use std::error::Error as _;
    let cause = if error.is_timeout() { "slow" } else { "unreachable" };
    let error = error.without_url();
    let mut why = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        why = format!("{why}: {error}");
        source = error.source();
    }
    Trouble::new(cause, why)
}

fn tls(config: &Config) -> Result<ClientConfig, String> {
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| format!("TLS 1.3 can't be used: {error}"))?;
    let builder = match &config.ca {
        None => builder
            .with_platform_verifier()
            .map_err(|error| format!("the system's authorities can't be used: {error}"))?,
        Some(path) => {
            let pem = fs::read(path).map_err(|error| format!("{} can't be read: {error}", path.display()))?;
            let mut roots = RootCertStore::empty();
            for authority in CertificateDer::pem_slice_iter(&pem) {
                let authority = authority.map_err(|error| format!("ca is not PEM: {error}"))?;
                roots
                    .add(authority)
                    .map_err(|error| format!("ca has a certificate that can't be used: {error}"))?;
            }
            if roots.is_empty() {
                return Err("ca holds no certificate".into());
            }
            builder.with_root_certificates(roots)
        }
    };
    let mut tls = builder.with_no_client_auth();
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(tls)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_as_the_specification_has_them() {
        let read = |status: u16, sized, body| read(StatusCode::from_u16(status).unwrap(), sized, body);
        assert_eq!(read(200, false, "x\n"), Ok(Answer::Cosigned("x\n".into())));
        assert_eq!(read(409, true, "17\n"), Ok(Answer::Saw(17)));
        for body in ["", "017\n", "17\n\n", "-1", "x"] {
            assert_eq!(read(409, true, body).unwrap_err().cause, "garbled", "{body}");
        }
        assert_eq!(read(409, false, "17\n"), Ok(Answer::Conflict));
        assert_eq!(read(422, false, ""), Ok(Answer::Inconsistent));
        assert!(matches!(read(404, false, ""), Ok(Answer::Unknown(_))));
        assert!(matches!(read(403, false, ""), Ok(Answer::Unknown(_))));
        assert_eq!(read(500, false, "").unwrap_err().cause, "refused");
        assert_eq!(read(301, false, "").unwrap_err().cause, "refused");
    }
}
