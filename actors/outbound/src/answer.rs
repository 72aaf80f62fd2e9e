//! What an answer of HTTP means to the one who sent something.

use std::time::Duration;

use reqwest::{
    StatusCode,
    header::{HeaderMap, RETRY_AFTER},
};

use crate::{Cause, Failure};

/// What was answered.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// When they want to be asked again.
    pub retry_after: Option<Duration>,
    /// What the body is said to be; empty if nothing is said.
    pub content_type: String,
    /// The body, bounded.
    pub body: Vec<u8>,
}

impl Answer {
    /// Returns the body of a success.
    ///
    /// # Errors
    /// What any other status means. That a content was refused is told apart from that this Host was.
    pub fn success(self) -> Result<Vec<u8>, Failure> {
        let status = self.status;
        if status.is_success() {
            return Ok(self.body);
        }
        Err(self.failure())
    }

    /// Returns what a status that is no success means.
    #[must_use]
    pub fn failure(self) -> Failure {
        let status = self.status;
        let words = String::from_utf8_lossy(&self.body);
        let words = words.trim();
        let why = if words.is_empty() || status.is_redirection() {
            format!("HTTP status {}", status.as_u16())
        } else {
            format!("HTTP status {}: {words}", status.as_u16())
        };
        Failure::new(cause(status), why).after(self.retry_after)
    }
}

fn cause(status: StatusCode) -> Cause {
    match status.as_u16() {
        300..=399 => Cause::Redirected,
        400 | 413 | 422 => Cause::Content,
        408 | 425 | 429 | 500.. => Cause::Busy,
        _ => Cause::Refused,
    }
}

/// Reads when they want to be asked again: RFC 9110 §10.2.3, in seconds. Its other form, a date, is not needed by anybody here.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_say_who_is_to_act() {
        for (status, expected) in [
            (301, Cause::Redirected),
            (307, Cause::Redirected),
            (400, Cause::Content),
            (413, Cause::Content),
            (401, Cause::Refused),
            (403, Cause::Refused),
            (404, Cause::Refused),
            (410, Cause::Refused),
            (429, Cause::Busy),
            (500, Cause::Busy),
            (503, Cause::Busy),
            (507, Cause::Busy),
            (999, Cause::Busy),
        ] {
            assert_eq!(cause(StatusCode::from_u16(status).unwrap()), expected, "{status}");
        }
    }

    #[test]
    fn a_pause_that_is_asked_for_is_read() {
        let after = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            retry_after(&headers)
        };
        assert_eq!(after("7"), Some(Duration::from_secs(7)));
        assert_eq!(after("Fri, 31 Dec 1999 23:59:59 GMT"), None);
        assert_eq!(after("-1"), None);
    }
}
