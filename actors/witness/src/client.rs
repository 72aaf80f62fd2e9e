//! One witness over HTTPS.

use aesp_merkle::witness::AddCheckpoint;
use aesp_outbound::{Endpoint, Http};
use reqwest::{
    StatusCode, Url,
    header::{CONTENT_TYPE, HeaderMap, HeaderValue},
};

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
        let endpoint = Endpoint {
            name: config.name.clone(),
            target: url.to_string(),
            ca: config.ca.clone(),
            certificate: None,
            certificate_key: None,
            timeout: config.timeout(),
        };
        Ok(Self { url, http: Http::new(&endpoint)?.bounded(ANSWER_BYTES) })
    }

    /// Sends a checkpoint and reads the answer.
    pub(crate) async fn add(&self, asked: &AddCheckpoint) -> Result<Answer, Trouble> {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("text/plain"))]);
        let answer = self.http.post(self.url.clone(), headers, asked.text().into()).await;
        let answer = answer.map_err(|failure| Trouble::new(failure.cause.name(), failure.why))?;
        read(answer.status, answer.content_type == SIZE_TYPE, &String::from_utf8_lossy(&answer.body))
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
