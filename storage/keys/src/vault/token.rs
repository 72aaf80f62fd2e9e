use std::time::Duration;

use reqwest::{Method, header::HeaderValue};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{client::Client, failure::Failure};

/// What a login brought.
pub(super) struct Token {
    pub(super) header: HeaderValue,
    made: Instant,
    /// Since when the lease is counted, and how long it is; nothing if it has no end.
    lease: Option<(Instant, Duration)>,
    renewable: bool,
}

impl Token {
    /// # Errors
    /// If the text can't be a token.
    pub(super) fn new(
        text: &str,
        lease_seconds: u64,
        renewable: bool,
        asked: Instant,
    ) -> Result<Self, Failure> {
        let header = HeaderValue::from_str(text);
        let mut header =
            header.map_err(|_| Failure::Denied("the token has characters that no token has".into()))?;
        header.set_sensitive(true);
        let lease = (lease_seconds > 0).then(|| (asked, Duration::from_secs(lease_seconds)));
        Ok(Self { header, made: asked, lease, renewable })
    }

    /// Reads the `auth` of a login's answer.
    pub(super) fn of(answer: &Value, asked: Instant) -> Result<Self, Failure> {
        let auth = &answer["auth"];
        let text = auth["client_token"].as_str();
        let text = text.ok_or_else(|| Failure::Away("the answer to the login has no token".into()))?;
        let lease = auth["lease_duration"].as_u64().unwrap_or_default();
        Self::new(text, lease, auth["renewable"].as_bool().unwrap_or_default(), asked)
    }

    pub(super) fn age(&self) -> Duration {
        self.made.elapsed()
    }

    /// Tells whether two thirds of its lease are over.
    pub(super) fn is_due(&self) -> bool {
        self.lease.is_some_and(|(since, lease)| since.elapsed() > lease * 2 / 3)
    }

    pub(super) fn still_lives(&self) -> bool {
        self.lease.is_none_or(|(since, lease)| since.elapsed() < lease)
    }
}

impl Client {
    /// Prolongs the token's lease.
    ///
    /// A lease that can't be prolonged far enough (its longest life is near) is left to end: then comes a login.
    pub(super) async fn renew(&self, token: &mut Token) -> Result<(), Failure> {
        if !token.renewable {
            return Ok(());
        }
        let asked = Instant::now();
        let answer =
            self.send(Method::POST, "auth/token/renew-self", Some(&json!({})), Some(&token.header)).await?;
        let seconds = answer["auth"]["lease_duration"].as_u64().unwrap_or_default();
        if seconds > 0 {
            token.lease = Some((asked, Duration::from_secs(seconds)));
        }
        Ok(())
    }
}
