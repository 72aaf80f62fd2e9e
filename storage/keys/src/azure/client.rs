use std::time::Duration;

use aesp_storage::Error;
use reqwest::{Method, RequestBuilder, header::HeaderValue};
use serde_json::Value;
use tokio::time::{Instant, timeout};

use super::{AzureConfig, failure::Failure, login::Token};
use crate::http;

/// How long a question may take, logging in included. Below the time of a transaction.
const WITHIN: Duration = Duration::from_secs(3);
/// Source: Azure Key Vault REST API reference, version 7.4.
const VERSION: &str = "api-version=7.4";
/// A token that was refused is not replaced again so soon: then it is the right that is missing.
const FRESH: Duration = Duration::from_secs(1);

/// A logged-in client.
pub(super) struct Client {
    pub(super) config: AzureConfig,
    http: reqwest::Client,
    pub(super) logins: reqwest::Client,
    token: tokio::sync::Mutex<Option<Token>>,
}

impl Client {
    pub(super) fn new(config: AzureConfig) -> Result<Self, Error> {
        let http = http::client(&config.address, None, None)?;
        let logins = match config.login {
            super::AzureLogin::ManagedIdentity => http::link_local(&config.metadata)?,
            super::AzureLogin::ClientCredentials => http::client(&config.authority, None, None)?,
        };
        Ok(Self { config, http, logins, token: tokio::sync::Mutex::default() })
    }

    /// Asks as the node, in bounded time.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        match timeout(WITHIN, self.ask_again(method, path, body)).await {
            Ok(answer) => answer,
            Err(_) => Err(Failure::Away(format!("no answer within {} s", WITHIN.as_secs()))),
        }
    }

    async fn ask_again(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let header = self.token(None).await?;
        match self.send(method.clone(), path, body, &header).await {
            Err(Failure::Denied(why)) => {
                let fresh = self.token(Some(&header)).await?;
                if fresh == header {
                    Err(Failure::Denied(why))
                } else {
                    self.send(method, path, body, &fresh).await
                }
            }
            answer => answer,
        }
    }

    async fn token(&self, refused: Option<&HeaderValue>) -> Result<HeaderValue, Failure> {
        let mut held = self.token.lock().await;
        if let Some(token) = held.as_ref() {
            let usable =
                refused.is_none_or(|refused| *refused != token.header || token.made.elapsed() < FRESH);
            if usable && Instant::now() < token.until {
                return Ok(token.header.clone());
            }
        }
        let token = self.login().await?;
        Ok(held.insert(token).header.clone())
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        token: &HeaderValue,
    ) -> Result<Value, Failure> {
        let address = self.config.address.trim_end_matches('/');
        let mut request = self.http.request(method, format!("{address}/{path}?{VERSION}"));
        request = request.header("Authorization", token);
        if let Some(body) = body {
            request = request.json(body);
        }
        read(request).await
    }
}

/// Sends a request and reads its answer.
pub(super) async fn read(request: RequestBuilder) -> Result<Value, Failure> {
    let away = |error| Failure::Away(http::chain_of(error));
    let answer = request.send().await.map_err(away)?;
    let status = answer.status();
    let bytes = zeroize::Zeroizing::new(Vec::from(answer.bytes().await.map_err(away)?));
    let value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    if status.is_success() { Ok(value) } else { Err(Failure::of(status.as_u16(), &value)) }
}
