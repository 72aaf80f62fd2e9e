use std::{fmt, sync::Arc, time::Duration};

use aesp_proto::{
    Clock, Entropy, Error, ErrorCode, RequestId, SystemClock,
    v1::{AnnounceRuntime, ComplianceLevel, DeploymentEnvironment},
};
use serde_json::Value;

use crate::{
    client::Client,
    endpoint::Endpoint,
    runtime::{
        Pace, Runtime,
        chunks::Chunks,
        context::CallContext,
        ledger::{Bounds, Ledger},
        shared::{Limits, Parts, Shared},
        tool::{Outcome, Tool},
    },
    tls::Tls,
};

const PROTOCOL_VERSION: &str = "1.0";
const FEATURES: [&str; 3] = ["streaming", "redelivery", "drain"];
const MAX_CONCURRENCY: u32 = 4096;
const HELD_RESULTS: usize = 4096;
const HELD_RESULT_BYTES: usize = 64 << 20;

/// Describes a [`Runtime`].
pub struct RuntimeBuilder {
    tls: Tls,
    endpoints: Vec<Endpoint>,
    tools: Vec<Tool>,
    announcement: AnnounceRuntime,
    limits: Limits,
    pace: Pace,
    clock: Arc<dyn Clock>,
    entropy: Option<Entropy>,
    client: Option<Client>,
}

impl fmt::Debug for RuntimeBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RuntimeBuilder").field("id", &self.announcement.runtime_id).finish_non_exhaustive()
    }
}

impl RuntimeBuilder {
    pub(crate) fn new(runtime_id: String, tls: Tls) -> Self {
        let announcement = AnnounceRuntime {
            runtime_id,
            language: "rust".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            compliance_level: ComplianceLevel::Level3Enterprise.into(),
            optional_features: FEATURES.map(str::to_owned).to_vec(),
            protocol_version: PROTOCOL_VERSION.to_owned(),
            supported_versions: vec![PROTOCOL_VERSION.to_owned()],
            ..AnnounceRuntime::default()
        };
        Self {
            tls,
            endpoints: Vec::new(),
            tools: Vec::new(),
            announcement,
            limits: Limits { concurrency: 64, max_result_bytes: 1 << 20 },
            pace: Pace {
                connect_timeout: Duration::from_secs(5),
                reconnect_base: Duration::from_millis(100),
                reconnect_longest: Duration::from_secs(10),
                drain_limit: Duration::from_secs(30),
            },
            clock: Arc::new(SystemClock),
            entropy: None,
            client: None,
        }
    }

    /// Adds a node to connect to. Any one of them is enough.
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

    /// Offers a tool. `name` is the contract's name for its active version, or `name@version`. See [`Tool::new`].
    #[must_use]
    pub fn tool<F, Fut>(self, name: impl Into<String>, handler: F) -> Self
    where
        F: Fn(CallContext, Value) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Outcome> + Send + 'static,
    {
        self.tools([Tool::new(name, handler)])
    }

    /// Offers a tool that answers in chunks, and then with its result. See [`Tool::streaming`].
    #[must_use]
    pub fn streaming_tool<F, Fut>(self, name: impl Into<String>, handler: F) -> Self
    where
        F: Fn(CallContext, Value, Chunks) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Outcome> + Send + 'static,
    {
        self.tools([Tool::streaming(name, handler)])
    }

    /// Offers several tools.
    #[must_use]
    pub fn tools(mut self, tools: impl IntoIterator<Item = Tool>) -> Self {
        self.tools.extend(tools);
        self
    }

    /// Claims to serve one tenant, by id or name, of those that the registration allows; all of them unless said otherwise.
    #[must_use]
    pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
        self.announcement.tenant_id = tenant.into();
        self
    }

    /// Claims a security zone that the registration allows.
    #[must_use]
    pub fn security_zone(mut self, zone: impl Into<String>) -> Self {
        self.announcement.security_zone = zone.into();
        self
    }

    /// Says where it is deployed.
    #[must_use]
    pub fn environment(mut self, environment: DeploymentEnvironment) -> Self {
        self.announcement.deployment_environment = environment.into();
        self
    }

    /// Says which version of the Runtime this is, for people.
    #[must_use]
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.announcement.version = version.into();
        self
    }

    /// Adds an entry for people to the announcement.
    #[must_use]
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.announcement.metadata.insert(key.into(), value.into());
        self
    }

    /// Serves at most so many calls at once, 1 to 4,096; 64 unless said otherwise.
    #[must_use]
    pub fn concurrency(mut self, calls: u32) -> Self {
        self.limits.concurrency = calls;
        self
    }

    /// Fails a call whose result or chunk is larger; 1 MiB unless said otherwise.
    #[must_use]
    pub fn max_result_bytes(mut self, bytes: usize) -> Self {
        self.limits.max_result_bytes = bytes;
        self
    }

    /// Bounds the pauses between attempts to connect; 100 ms, doubled up to 10 s, unless said otherwise.
    #[must_use]
    pub fn reconnect(mut self, base: Duration, longest: Duration) -> Self {
        self.pace.reconnect_base = base;
        self.pace.reconnect_longest = longest;
        self
    }

    /// Bounds one attempt to connect to one node; 5 seconds unless said otherwise.
    #[must_use]
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.pace.connect_timeout = limit;
        self
    }

    /// Cancels the calls that have not ended so long after [`crate::RuntimeHandle::drain`]; 30 seconds unless said otherwise.
    #[must_use]
    pub fn drain_limit(mut self, limit: Duration) -> Self {
        self.pace.drain_limit = limit;
        self
    }

    /// Gives the client by which handlers call other tools; one with the Runtime's own certificate unless said otherwise.
    #[must_use]
    pub fn client(mut self, client: Client) -> Self {
        self.client = Some(client);
        self
    }

    /// Gives the clock of what people read.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Gives the source of ids and jitter; the operating system's unless said otherwise.
    #[must_use]
    pub fn entropy(mut self, entropy: Entropy) -> Self {
        self.entropy = Some(entropy);
        self
    }

    /// Makes the Runtime, without connecting yet.
    ///
    /// # Errors
    /// `CONFIGURATION_ERROR` without an id, an endpoint or a client certificate, or with a concurrency out of range.
    pub fn build(self) -> Result<Runtime, Error> {
        if self.announcement.runtime_id.is_empty() {
            return Err(
                refused("the Runtime has no id").remedy("give the id that an administrator registered")
            );
        }
        if self.endpoints.is_empty() {
            return Err(
                refused("no endpoint is given").remedy("name at least one node, as https://host:port")
            );
        }
        if !self.tls.has_identity() {
            return Err(refused("a Runtime needs a client certificate")
                .remedy("give the certificate that an administrator registered for it"));
        }
        if !(1..=MAX_CONCURRENCY).contains(&self.limits.concurrency) {
            return Err(refused(format!("the concurrency is not within 1 to {MAX_CONCURRENCY}")));
        }
        let entropy = self.entropy.unwrap_or_else(Entropy::from_system);
        let client = match self.client {
            Some(client) => client,
            None => Client::builder(self.tls.clone())
                .endpoints(self.endpoints.iter().cloned())
                .entropy(entropy.clone())
                .connect_timeout(self.pace.connect_timeout)
                .build()?,
        };
        let mut announcement = self.announcement;
        announcement.initial_credits = self.limits.concurrency;
        // Tells this process from an earlier one under the same id: only this one's reports speak for its dispatches.
        announcement.metadata.insert("instance".to_owned(), RequestId::random(&entropy).to_string());
        let ledger = Ledger::new(Bounds {
            running: self.limits.concurrency as usize,
            results: HELD_RESULTS,
            result_bytes: HELD_RESULT_BYTES,
        });
        let shared = Shared::new(Parts {
            announcement,
            limits: self.limits,
            clock: self.clock,
            entropy,
            client,
            tools: self.tools,
            ledger,
        });
        Ok(Runtime { shared: Arc::new(shared), endpoints: self.endpoints, tls: self.tls, pace: self.pace })
    }
}

fn refused(message: impl Into<String>) -> Error {
    Error::new(ErrorCode::ConfigurationError, message)
}
