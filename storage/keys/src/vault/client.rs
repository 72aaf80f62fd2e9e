use std::{sync::Mutex, sync::PoisonError, time::Duration};

use aesp_storage::Error;
use reqwest::{Method, header::HeaderValue};
use serde_json::Value;
use tokio::time::timeout;

use super::{VaultConfig, config::Login, failure::Failure, token::Token};
use crate::http;

/// How long a question may take, logging in included. Below the time of a transaction.
const WITHIN: Duration = Duration::from_secs(3);
/// A token that was refused is not replaced again so soon: then it is the right that is missing.
const FRESH: Duration = Duration::from_secs(1);

/// A logged-in client. Logs in when it has to, renews its token in time.
pub(super) struct Client {
    pub(super) config: VaultConfig,
    http: Mutex<reqwest::Client>,
    token: tokio::sync::Mutex<Option<Token>>,
}

impl Client {
    pub(super) fn new(config: VaultConfig) -> Result<Self, Error> {
        let http = Mutex::new(Self::connect(&config)?);
        Ok(Self { config, http, token: tokio::sync::Mutex::default() })
    }

    fn connect(config: &VaultConfig) -> Result<reqwest::Client, Error> {
        let identity = match (config.login, &config.certificate, &config.certificate_key) {
            (Login::Certificate, Some(certificate), Some(key)) => {
                Some((certificate.as_path(), key.as_path()))
            }
            _ => None,
        };
        http::client(&config.address, config.ca.as_deref(), identity)
    }

    /// Reads the client certificate again: it may have been replaced.
    pub(super) fn reconnect(&self) -> Result<(), Failure> {
        let fresh = Self::connect(&self.config).map_err(Failure::Setup)?;
        *self.http.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
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
        match self.send(method.clone(), path, body, Some(&header)).await {
            // A token may have been revoked, or be lost by a restart.
            Err(Failure::Denied(why)) => {
                let fresh = self.token(Some(&header)).await?;
                if fresh == header {
                    Err(Failure::Denied(why))
                } else {
                    self.send(method, path, body, Some(&fresh)).await
                }
            }
            answer => answer,
        }
    }

    /// Returns the token as a header; another one than `refused`, if a login can bring it.
    async fn token(&self, refused: Option<&HeaderValue>) -> Result<HeaderValue, Failure> {
        let mut held = self.token.lock().await;
        if let Some(token) = held.take() {
            let usable = match refused {
                Some(refused) => *refused != token.header || token.age() < FRESH,
                None => true,
            };
            if usable && let Some(token) = self.kept(token).await {
                return Ok(held.insert(token).header.clone());
            }
        }
        let token = self.login().await?;
        Ok(held.insert(token).header.clone())
    }

    /// Returns the token, renewed if it is time; nothing if its time is over.
    async fn kept(&self, mut token: Token) -> Option<Token> {
        if !token.is_due() {
            return Some(token);
        }
        if let Err(failure) = self.renew(&mut token).await {
            tracing::warn!(?failure, "the token of the key manager was not renewed");
        }
        token.still_lives().then_some(token)
    }

    /// Sends one request and reads its answer.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        token: Option<&HeaderValue>,
    ) -> Result<Value, Failure> {
        let http = self.http.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let address = self.config.address.trim_end_matches('/');
        let mut request = http.request(method, format!("{address}/v1/{path}"));
        if !self.config.namespace.is_empty() {
            request = request.header("X-Vault-Namespace", &self.config.namespace);
        }
        if let Some(token) = token {
            request = request.header("X-Vault-Token", token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let away = |error| Failure::Away(http::chain_of(error));
        let answer = request.send().await.map_err(away)?;
        let status = answer.status();
        let bytes = zeroize::Zeroizing::new(Vec::from(answer.bytes().await.map_err(away)?));
        let value: Value = if bytes.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&bytes).unwrap_or(Value::Null)
        };
        if status.is_success() {
            return Ok(value);
        }
        let errors = value["errors"].as_array().into_iter().flatten().filter_map(Value::as_str);
        // Their texts may have line ends.
        let errors = errors.map(|text| text.split_whitespace().collect::<Vec<_>>().join(" "));
        Err(Failure::of(status.as_u16(), errors.collect::<Vec<_>>().join("; ")))
    }
}
