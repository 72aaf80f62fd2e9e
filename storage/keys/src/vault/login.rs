use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{client::Client, config::Login, failure::Failure, token::Token};
use crate::{SecretRef, SecretText};

impl Client {
    /// Logs in as it is configured. What the login needs is read now, so that what was replaced is taken.
    pub(super) async fn login(&self) -> Result<Token, Failure> {
        let config = &self.config;
        let role = &config.role;
        let answer = match config.login {
            Login::Token => return self.given().await,
            Login::AppRole => {
                let secret_id = read(config.secret_id.as_ref())?;
                self.enter("approle", json!({ "role_id": role, "secret_id": secret_id.expose() })).await
            }
            Login::Kubernetes => {
                let jwt = read(Some(&SecretRef::File(config.jwt_file.clone())))?;
                self.enter("kubernetes", json!({ "role": role, "jwt": jwt.expose() })).await
            }
            Login::Certificate => {
                self.reconnect()?;
                let body = if role.is_empty() { json!({}) } else { json!({ "name": role }) };
                self.enter("cert", body).await
            }
        };
        answer.map_err(|failure| match failure {
            // A login that makes no sense is one that is refused.
            Failure::Refused(why) | Failure::Denied(why) => Failure::Denied(format!("login refused: {why}")),
            Failure::NotFound(why) => {
                Failure::Denied(format!("login refused, there is no such method: {why}"))
            }
            other => other,
        })
    }

    async fn enter(&self, usual: &str, body: Value) -> Result<Token, Failure> {
        let mount = match self.config.login_mount.trim_matches('/') {
            "" => usual,
            mount => mount,
        };
        let asked = Instant::now();
        let answer = self.send(Method::POST, &format!("auth/{mount}/login"), Some(&body), None).await?;
        Token::of(&answer, asked)
    }

    /// Takes the token that somebody else made, and asks how long it lives.
    async fn given(&self) -> Result<Token, Failure> {
        let text = read(self.config.token.as_ref())?;
        let asked = Instant::now();
        let token = Token::new(text.expose(), 0, false, asked)?;
        match self.send(Method::GET, "auth/token/lookup-self", None, Some(&token.header)).await {
            Ok(answer) => {
                let data = &answer["data"];
                let seconds = data["ttl"].as_u64().unwrap_or_default();
                Token::new(text.expose(), seconds, data["renewable"].as_bool().unwrap_or_default(), asked)
            }
            Err(Failure::Denied(why)) => Err(Failure::Denied(format!(
                "{why} for the token of {}: make a new one",
                self.config.token.as_ref().map(SecretRef::to_string).unwrap_or_default(),
            ))),
            Err(other) => Err(other),
        }
    }
}

fn read(reference: Option<&SecretRef>) -> Result<SecretText, Failure> {
    let Some(reference) = reference else {
        return Err(Failure::Denied("the login has no secret: see [keys.vault]".into()));
    };
    reference.read_here().map_err(|error| Failure::Denied(error.to_string()))
}
