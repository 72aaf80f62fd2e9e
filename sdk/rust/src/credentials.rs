//! Who the client is, and the access token that says so.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use aesp_proto::{
    Error, ErrorCode,
    v1::{
        AuthenticateServiceAccountRequest, RefreshTokenRequest, TokenResponse,
        enterprise_authentication_service_client::EnterpriseAuthenticationServiceClient,
    },
};
use arc_swap::ArcSwapOption;
use http::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};
use tonic::{Code, Status, transport::Channel};
use tracing::{debug, warn};

use crate::{flight::Failure, pool::Pool};

const LOGIN_TIMEOUT: Duration = Duration::from_secs(10);
const PAUSE_AFTER_FAILED_RENEWAL: Duration = Duration::from_secs(1);

/// How a client proves who it is.
#[derive(Clone)]
pub enum Credentials {
    /// By the certificate of its connection.
    Certificate,
    /// By an access token that somebody else obtained. It is not renewed.
    Token(SecretString),
    /// By a service account's API key, which is exchanged for access tokens that are renewed before they end.
    ApiKey(SecretString),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Certificate => "Certificate",
            Self::Token(_) => "Token",
            Self::ApiKey(_) => "ApiKey",
        })
    }
}

/// Keeps a valid access token. Renewals are single-flight; while the old token still holds, nobody waits for one.
#[derive(Debug)]
pub(crate) struct Authenticator {
    kind: Kind,
    rejections: AtomicU64,
}

#[derive(Debug)]
enum Kind {
    Certificate,
    Token(HeaderValue),
    ApiKey(Box<ApiKey>),
}

#[derive(Debug)]
struct ApiKey {
    key: SecretString,
    access: ArcSwapOption<Access>,
    refresh: Mutex<Refresh>,
}

#[derive(Debug)]
struct Access {
    header: HeaderValue,
    renew_at: Instant,
    expires_at: Instant,
}

#[derive(Debug, Default)]
struct Refresh {
    token: Option<SecretString>,
    failure: Option<Failure>,
}

impl Refresh {
    fn failed_since(&self, then: Option<Instant>) -> bool {
        self.failure.as_ref().is_some_and(|failure| then.is_none_or(|then| failure.at >= then))
    }
}

impl Authenticator {
    pub(crate) fn new(credentials: Credentials) -> Result<Self, Error> {
        let kind = match credentials {
            Credentials::Certificate => Kind::Certificate,
            Credentials::Token(token) => Kind::Token(bearer(token.expose_secret())?),
            Credentials::ApiKey(key) => Kind::ApiKey(Box::new(ApiKey {
                key,
                access: ArcSwapOption::empty(),
                refresh: Mutex::default(),
            })),
        };
        Ok(Self { kind, rejections: AtomicU64::new(0) })
    }

    /// Returns the `authorization` header to send, if any.
    pub(crate) async fn header(&self, pool: &Pool) -> Result<Option<HeaderValue>, Error> {
        match &self.kind {
            Kind::Certificate => Ok(None),
            Kind::Token(header) => Ok(Some(header.clone())),
            Kind::ApiKey(key) => key.header(pool).await.map(Some),
        }
    }

    /// The Host refused this token: obtain another one next time.
    pub(crate) fn rejected(&self, header: &HeaderValue) {
        if let Kind::ApiKey(key) = &self.kind
            && let Some(held) = key.access.load_full().filter(|a| a.header == *header)
        {
            key.access.compare_and_swap(&held, None);
            self.rejections.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns how many tokens the Host has refused so far.
    pub(crate) fn rejections(&self) -> u64 {
        self.rejections.load(Ordering::Relaxed)
    }
}

impl ApiKey {
    async fn header(&self, pool: &Pool) -> Result<HeaderValue, Error> {
        let now = Instant::now();
        let mut renewal = match self.valid() {
            Some(held) if now < held.renew_at => return Ok(held.header.clone()),
            Some(held) => match self.refresh.try_lock() {
                Ok(renewal) if !renewal.failed_since(now.checked_sub(PAUSE_AFTER_FAILED_RENEWAL)) => renewal,
                _ => return Ok(held.header.clone()),
            },
            None => self.refresh.lock().await,
        };
        // Somebody may have renewed it, or failed to, while this task waited.
        if let Some(held) = self.valid().filter(|held| Instant::now() < held.renew_at) {
            return Ok(held.header.clone());
        }
        if let Some(failure) = renewal.failure.as_ref().filter(|failure| failure.at >= now) {
            return Err(failure.error());
        }
        match obtain(pool, &self.key, renewal.token.take()).await {
            Ok(tokens) => {
                let fresh = Access::new(&tokens)?;
                let header = fresh.header.clone();
                renewal.token = Some(tokens.refresh_token).filter(|t| !t.is_empty()).map(SecretString::from);
                renewal.failure = None;
                self.access.store(Some(fresh.into()));
                Ok(header)
            }
            Err(error) => {
                renewal.failure = Some(Failure::new(&error));
                let Some(held) = self.valid() else { return Err(error) };
                warn!(%error, "access token could not be renewed ahead of its end");
                Ok(held.header.clone())
            }
        }
    }

    fn valid(&self) -> Option<Arc<Access>> {
        self.access.load_full().filter(|held| Instant::now() < held.expires_at)
    }
}

impl Access {
    fn new(tokens: &TokenResponse) -> Result<Self, Error> {
        let life = Duration::from_secs(tokens.expires_in_seconds.into());
        let now = Instant::now();
        Ok(Self {
            header: bearer(&tokens.access_token)?,
            renew_at: now + life * 3 / 4,
            expires_at: now + life,
        })
    }
}

fn bearer(token: &str) -> Result<HeaderValue, Error> {
    let mut header = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| {
        Error::new(ErrorCode::ConfigurationError, "the access token has characters that no token has")
    })?;
    header.set_sensitive(true);
    Ok(header)
}

/// Uses the refresh token once, if there is one; logs in with the API key otherwise.
async fn obtain(
    pool: &Pool,
    key: &SecretString,
    refresh: Option<SecretString>,
) -> Result<TokenResponse, Error> {
    if let Some(refresh) = refresh {
        match attempt(pool, |mut client| {
            let request = RefreshTokenRequest { refresh_token: refresh.expose_secret().to_owned() };
            async move { client.refresh_token(request).await }
        })
        .await
        {
            Ok(tokens) => return Ok(tokens),
            Err(error) => debug!(%error, "refresh token was not accepted, logging in again"),
        }
    }
    for _ in 1..pool.size() {
        match login(pool, key).await {
            Err(error) if error.is_retryable() => debug!(%error, "login failed, trying the next node"),
            outcome => return outcome,
        }
    }
    login(pool, key).await
}

async fn login(pool: &Pool, key: &SecretString) -> Result<TokenResponse, Error> {
    attempt(pool, |mut client| {
        let request = AuthenticateServiceAccountRequest { api_key: key.expose_secret().to_owned() };
        async move { client.authenticate_service_account(request).await }
    })
    .await
}

async fn attempt<F, Fut>(pool: &Pool, request: F) -> Result<TokenResponse, Error>
where
    F: FnOnce(EnterpriseAuthenticationServiceClient<Channel>) -> Fut,
    Fut: Future<Output = Result<tonic::Response<TokenResponse>, Status>>,
{
    let connection = pool.connection().await?;
    let client = EnterpriseAuthenticationServiceClient::new(connection.channel());
    let outcome = match timeout(LOGIN_TIMEOUT, request(client)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Status::unavailable("no answer to the login within 10 seconds")),
    };
    outcome.map(tonic::Response::into_inner).map_err(|status| {
        if status.code() == Code::Unavailable {
            pool.leave(&connection);
        }
        Error::from_status(&status)
    })
}
