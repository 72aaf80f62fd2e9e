use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderValue};
use serde_json::Value;
use tokio::time::Instant;

use super::{
    AzureLogin,
    client::{Client, read},
    failure::Failure,
};

/// What a login brought: a bearer token.
pub(super) struct Token {
    pub(super) header: HeaderValue,
    pub(super) made: Instant,
    pub(super) until: Instant,
}

impl Client {
    /// Source: Microsoft identity platform, "OAuth 2.0 client credentials flow"; Azure Instance Metadata Service, "Get a token using HTTP".
    pub(super) async fn login(&self) -> Result<Token, Failure> {
        let config = &self.config;
        let asked = Instant::now();
        let answer = match config.login {
            AzureLogin::ManagedIdentity => {
                let resource = encoded(&config.resource);
                let mut url = format!(
                    "{}/metadata/identity/oauth2/token?api-version=2018-02-01&resource={resource}",
                    config.metadata.trim_end_matches('/'),
                );
                if !config.client_id.is_empty() {
                    url = format!("{url}&client_id={}", encoded(&config.client_id));
                }
                read(self.logins.get(url).header("Metadata", "true")).await
            }
            AzureLogin::ClientCredentials => {
                let Some(reference) = &config.client_secret else {
                    return Err(Failure::Denied("the login has no client secret".into()));
                };
                let secret = reference.read_here().map_err(|error| Failure::Denied(error.to_string()))?;
                let scope = format!("{}/.default", config.resource.trim_end_matches('/'));
                let form = zeroize::Zeroizing::new(format!(
                    "grant_type=client_credentials&client_id={}&client_secret={}&scope={}",
                    encoded(&config.client_id),
                    encoded(secret.expose()),
                    encoded(&scope),
                ));
                let url = format!(
                    "{}/{}/oauth2/v2.0/token",
                    config.authority.trim_end_matches('/'),
                    config.directory_id,
                );
                let request = self.logins.post(url).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
                read(request.body(form.to_string())).await
            }
        };
        let answer = answer.map_err(|failure| match failure {
            Failure::Denied(why) | Failure::Refused(why) | Failure::NotFound(why) | Failure::Gone(why) => {
                Failure::Denied(format!("login refused: {why}"))
            }
            away @ Failure::Away(_) => away,
        })?;
        token(&answer, asked)
    }
}

fn token(answer: &Value, asked: Instant) -> Result<Token, Failure> {
    let text = answer["access_token"].as_str();
    let text = text.ok_or_else(|| Failure::Away("the answer to the login has no token".into()))?;
    // The metadata service writes the number as a text.
    let seconds = &answer["expires_in"];
    let seconds = seconds.as_u64().or_else(|| seconds.as_str()?.parse().ok()).unwrap_or_default();
    let mut header = HeaderValue::from_str(&format!("Bearer {text}"))
        .map_err(|_| Failure::Away("the token has characters that no token has".into()))?;
    header.set_sensitive(true);
    // Replaced while a fifth of its life is left.
    Ok(Token { header, made: asked, until: asked + Duration::from_secs(seconds) * 4 / 5 })
}

/// Returns a text as it may stand in a form or a query.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(byte.into());
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
