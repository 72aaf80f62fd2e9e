use std::{fmt, time::Duration};

use aesp_proto::{
    Entropy, Error, ErrorCode,
    v1::{
        CreateSessionRequest, access_report_service_client::AccessReportServiceClient,
        agent_service_client::AgentServiceClient, alert_service_client::AlertServiceClient,
        audit_sink_service_client::AuditSinkServiceClient, backup_service_client::BackupServiceClient,
        catalog_service_client::CatalogServiceClient, cluster_service_client::ClusterServiceClient,
        enterprise_audit_service_client::EnterpriseAuditServiceClient,
        enterprise_authentication_service_client::EnterpriseAuthenticationServiceClient,
        enterprise_authorization_service_client::EnterpriseAuthorizationServiceClient,
        enterprise_configuration_service_client::EnterpriseConfigurationServiceClient,
        enterprise_identity_service_client::EnterpriseIdentityServiceClient,
        enterprise_policy_service_client::EnterprisePolicyServiceClient,
        key_service_client::KeyServiceClient, platform_log_service_client::PlatformLogServiceClient,
        retention_service_client::RetentionServiceClient,
        runtime_registry_service_client::RuntimeRegistryServiceClient,
        tenant_service_client::TenantServiceClient,
    },
};
use tokio::time::sleep;
use tonic::{Response, Status};

use crate::{
    channel::Channel,
    credentials::{Authenticator, Credentials},
    endpoint::Endpoint,
    pool::Pool,
    retry::{Retry, worth_repeating},
    session::Session,
    tls::Tls,
};

const MAX_MESSAGE_BYTES: usize = 32 << 20;

/// A client of the Host: sessions and calls for agents, every other service for administrators. Cheap to clone.
///
/// Nothing is sent before the first request.
#[derive(Clone)]
pub struct Client {
    channel: Channel,
    retry: Retry,
    entropy: Entropy,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

/// Describes a [`Client`].
#[derive(Clone, Debug)]
pub struct ClientBuilder {
    tls: Tls,
    endpoints: Vec<Endpoint>,
    credentials: Credentials,
    connect_timeout: Duration,
    retry: Retry,
    entropy: Option<Entropy>,
}

impl ClientBuilder {
    /// Adds a node. Several are tried in turn; the one that answered last is kept.
    #[must_use]
    pub fn endpoint(mut self, endpoint: Endpoint) -> Self {
        self.endpoints.push(endpoint);
        self
    }

    /// Adds several nodes.
    #[must_use]
    pub fn endpoints(mut self, endpoints: impl IntoIterator<Item = Endpoint>) -> Self {
        self.endpoints.extend(endpoints);
        self
    }

    /// Says how the client proves who it is; by its certificate unless said otherwise.
    #[must_use]
    pub fn credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = credentials;
        self
    }

    /// Bounds one attempt to connect to one node; 5 seconds unless said otherwise.
    #[must_use]
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = limit;
        self
    }

    /// Says how sessions and calls are repeated.
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// Gives the source of invocation ids and jitter; the operating system's unless said otherwise.
    #[must_use]
    pub fn entropy(mut self, entropy: Entropy) -> Self {
        self.entropy = Some(entropy);
        self
    }

    /// Makes the client, without connecting yet.
    ///
    /// # Errors
    /// `CONFIGURATION_ERROR` if no endpoint is given, or if it should show a certificate that it does not have.
    pub fn build(self) -> Result<Client, Error> {
        if matches!(self.credentials, Credentials::Certificate) && !self.tls.has_identity() {
            return Err(Error::new(ErrorCode::ConfigurationError, "no credentials are given")
                .remedy("give an API key, an access token or a client certificate"));
        }
        let pool = Pool::new(self.endpoints, self.tls, self.connect_timeout)?;
        Ok(Client {
            channel: Channel::new(pool, Authenticator::new(self.credentials)?),
            retry: self.retry,
            entropy: self.entropy.unwrap_or_else(Entropy::from_system),
        })
    }
}

/// Declares accessors of generated clients over the authenticated channel.
macro_rules! services {
    ($($(#[$doc:meta])* $name:ident: $client:ident;)*) => {
        impl Client {
            $($(#[$doc])*
            #[must_use]
            pub fn $name(&self) -> $client<Channel> {
                $client::new(self.channel.clone())
                    .max_decoding_message_size(MAX_MESSAGE_BYTES)
                    .max_encoding_message_size(MAX_MESSAGE_BYTES)
            })*
        }
    };
}

services! {
    /// Returns the generated client of `AgentService`. [`Client::session`] is the comfortable way.
    agent: AgentServiceClient;
    /// Returns the generated client of `TenantService`.
    tenants: TenantServiceClient;
    /// Returns the generated client of `CatalogService`.
    catalog: CatalogServiceClient;
    /// Returns the generated client of `EnterpriseAuthenticationService`.
    authentication: EnterpriseAuthenticationServiceClient;
    /// Returns the generated client of `EnterpriseAuthorizationService`: roles and decisions.
    authorization: EnterpriseAuthorizationServiceClient;
    /// Returns the generated client of `EnterprisePolicyService`.
    policies: EnterprisePolicyServiceClient;
    /// Returns the generated client of `EnterpriseIdentityService`: service accounts and principals.
    identity: EnterpriseIdentityServiceClient;
    /// Returns the generated client of `EnterpriseAuditService`.
    audit: EnterpriseAuditServiceClient;
    /// Returns the generated client of `AlertService`: rules over the audit log, alerts, silences.
    alerts: AlertServiceClient;
    /// Returns the generated client of `AuditSinkService`: where audit events are sent.
    audit_sinks: AuditSinkServiceClient;
    /// Returns the generated client of `PlatformLogService`: the log of all logs' heads, and its witnesses.
    platform_log: PlatformLogServiceClient;
    /// Returns the generated client of `RetentionService`: how long audit events are kept, and what was erased.
    retention: RetentionServiceClient;
    /// Returns the generated client of `AccessReportService`: who could use which tool, and who did.
    access_reports: AccessReportServiceClient;
    /// Returns the generated client of `EnterpriseConfigurationService`.
    configuration: EnterpriseConfigurationServiceClient;
    /// Returns the generated client of `RuntimeRegistryService`: who may be a Runtime, and who is connected.
    runtimes: RuntimeRegistryServiceClient;
    /// Returns the generated client of `ClusterService`: the Host's nodes.
    cluster: ClusterServiceClient;
    /// Returns the generated client of `BackupService`: backups of the store.
    backup: BackupServiceClient;
    /// Returns the generated client of `KeyService`: the keys that protect the data.
    keys: KeyServiceClient;
}

impl Client {
    /// Starts the description of a client that speaks to nodes through `tls`.
    #[must_use]
    pub fn builder(tls: Tls) -> ClientBuilder {
        ClientBuilder {
            tls,
            endpoints: Vec::new(),
            credentials: Credentials::Certificate,
            connect_timeout: Duration::from_secs(5),
            retry: Retry::default(),
            entropy: None,
        }
    }

    /// Creates a session that lives for `ttl` (whole seconds, up to a day) unless it is renewed. If the answer is lost and the
    /// request repeated, an unused session is left until it expires.
    ///
    /// # Errors
    /// The Host's refusal, or `TRANSPORT_ERROR` when no node can be reached.
    pub async fn session(&self, ttl: Duration) -> Result<Session, Error> {
        let request = CreateSessionRequest {
            ttl_seconds: u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX).max(1),
            ..CreateSessionRequest::default()
        };
        let session = self
            .repeated(|| {
                let (mut agent, request) = (self.agent(), request.clone());
                async move { agent.create_session(request).await }
            })
            .await?;
        Ok(Session::new(self.clone(), session))
    }

    /// Continues a session that exists, for example one that an earlier process created.
    ///
    /// # Errors
    /// The Host's refusal, or `TRANSPORT_ERROR` when no node can be reached.
    pub async fn resume(&self, session_id: &str) -> Result<Session, Error> {
        let request = aesp_proto::v1::GetSessionRequest { session_id: session_id.to_owned() };
        let session = self
            .repeated(|| {
                let (mut agent, request) = (self.agent(), request.clone());
                async move { agent.get_session(request).await }
            })
            .await?;
        Ok(Session::new(self.clone(), session))
    }

    /// Returns the authenticated channel, for generated clients of other services.
    #[must_use]
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub(crate) fn entropy(&self) -> &Entropy {
        &self.entropy
    }

    /// Sends a request that may be repeated until it is answered, refused for good, or out of attempts.
    pub(crate) async fn repeated<T, F, Fut>(&self, request: F) -> Result<T, Error>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        let mut attempt = 1;
        let mut logged_in_again = false;
        loop {
            let rejections = self.channel.rejections();
            let status = match request().await {
                Ok(response) => return Ok(response.into_inner()),
                Err(status) => status,
            };
            let error = Error::from_status(&status);
            if self.channel.rejections() > rejections && !logged_in_again {
                logged_in_again = true;
                continue;
            }
            if !worth_repeating(&status, &error) {
                return Err(error);
            }
            let Some(pause) = self.retry.pause(attempt, &error, &self.entropy) else { return Err(error) };
            tracing::debug!(%error, attempt, ?pause, "request will be repeated");
            sleep(pause).await;
            attempt += 1;
        }
    }
}
