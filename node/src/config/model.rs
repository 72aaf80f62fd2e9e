use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use aesp_cluster::Locality;
use serde::{Deserialize, Serialize};

use super::{Audit, Backup, Cluster, Fdb, Keys};

/// The validated configuration of a node. Paths are absolute or relative to the working directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Who the node is.
    pub node: Node,
    /// Where its data are.
    pub store: Store,
    /// What protects them.
    pub keys: Keys,
    /// Where it listens.
    pub listen: Listen,
    /// What it proves and asks for on connections.
    pub tls: Tls,
    /// The cluster that it belongs to, if it is not alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Cluster>,
    /// Where the store is backed up to, if it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup: Option<Backup>,
    /// What becomes of audit events beside the log.
    #[serde(skip_serializing_if = "Audit::is_empty")]
    pub audit: Audit,
    /// Who is told of alerts.
    #[serde(skip_serializing_if = "aesp_alerts::Config::is_empty")]
    pub alerts: aesp_alerts::Config,
    /// The access tokens that it issues.
    pub tokens: Tokens,
    /// What bounds strangers and friends.
    pub limits: Limits,
    /// What it tells.
    pub log: Log,
}

/// Who the node is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Node {
    /// Shown in logs and audit records, and what the node's certificate names: `spiffe://<trust domain>/node/<name>`.
    pub name: String,
    /// Where `aesp init` puts what it makes.
    pub data_dir: PathBuf,
    /// The data centre or region that it runs in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub datacenter: Option<String>,
    /// The part of the data centre that fails as one: a rack, a hall, an availability zone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
}

impl Node {
    /// Returns where the node runs, as far as it was told.
    #[must_use]
    pub fn locality(&self) -> Locality {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        Locality { datacenter: text(&self.datacenter), zone: text(&self.zone) }
    }
}

impl Default for Node {
    fn default() -> Self {
        Self { name: "node-1".into(), data_dir: "aesp-data".into(), datacenter: None, zone: None }
    }
}

/// Where the data are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Store {
    /// `lmdb:PATH`, `fdb:CLUSTER_FILE` or `memory`.
    pub path: String,
    /// The size of the memory map, which is the largest that the store can grow to. Fixed when it is created; lmdb only.
    pub map_size_gib: u32,
    /// How FoundationDB is reached; fdb only.
    pub fdb: Fdb,
}

impl Default for Store {
    fn default() -> Self {
        Self { path: "lmdb:aesp-data/store".into(), map_size_gib: 64, fdb: Fdb::default() }
    }
}

/// A storage engine with what it needs to be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Engine {
    /// Files of this folder.
    Lmdb(PathBuf),
    /// The FoundationDB cluster of this cluster file.
    Fdb(PathBuf),
    /// Gone when the process ends. For trials.
    Memory,
}

impl Store {
    /// Returns the engine that `path` names, if it names one.
    #[must_use]
    pub fn engine(&self) -> Option<Engine> {
        match self.path.split_once(':') {
            None if self.path == "memory" => Some(Engine::Memory),
            Some(("lmdb", path)) if !path.is_empty() => Some(Engine::Lmdb(Path::new(path).into())),
            Some(("fdb", path)) if !path.is_empty() => Some(Engine::Fdb(Path::new(path).into())),
            _ => None,
        }
    }
}

/// Where the node listens. Port 0 takes a free one, which the log names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Listen {
    /// gRPC for agents, Runtimes and administrators.
    pub grpc: SocketAddr,
    /// HTTPS: public keys, health.
    pub https: SocketAddr,
    /// Metrics and probes in plain HTTP; loopback unless the network in front of it is trusted.
    pub metrics: SocketAddr,
    /// Other nodes, where there is a `[cluster]`: links over TCP, gossip over UDP, on the same port.
    pub peers: SocketAddr,
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            grpc: (Ipv4Addr::LOCALHOST, 9443).into(),
            https: (Ipv4Addr::LOCALHOST, 8443).into(),
            metrics: (Ipv4Addr::LOCALHOST, 9100).into(),
            peers: (Ipv4Addr::LOCALHOST, 9444).into(),
        }
    }
}

/// What the node proves and asks for on connections. Every file is read again when it changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// The node's certificate chain, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// The authorities whose client certificates are believed, PEM.
    pub client_ca: PathBuf,
    /// Their revocation lists, PEM. With any, a certificate whose issuer has no current list is refused.
    pub crls: Vec<PathBuf>,
}

impl Default for Tls {
    fn default() -> Self {
        Self {
            certificate: "aesp-data/pki/server.pem".into(),
            key: "aesp-data/pki/server.key".into(),
            client_ca: "aesp-data/pki/ca.pem".into(),
            crls: Vec::new(),
        }
    }
}

/// The access tokens that the node issues.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tokens {
    /// The `iss` claim.
    pub issuer: String,
    /// The `aud` claim.
    pub audience: String,
    /// How long an access token lives, 60 to 3,600 s.
    pub access_ttl_seconds: u32,
    /// How long a refresh token may wait for its use, 60 s to 90 days.
    pub refresh_ttl_seconds: u32,
}

impl Default for Tokens {
    fn default() -> Self {
        Self {
            issuer: "https://localhost:8443".into(),
            audience: "aesp".into(),
            access_ttl_seconds: 600,
            refresh_ttl_seconds: 86_400,
        }
    }
}

/// What bounds strangers and friends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections at once on each TLS listener, those in their handshake included.
    pub connections: u32,
    /// How long a handshake may take.
    pub handshake_timeout_ms: u32,
    /// The largest message taken from a client or Runtime, 64 kB to 64 MiB.
    pub message_bytes: u32,
    /// Calls and streams at once on one connection.
    pub streams_per_connection: u32,
    /// After this long a connection is asked to be made anew; its running calls and streams go on.
    pub connection_age_seconds: u32,
    /// Tool calls at once on the node.
    pub calls_in_flight: u32,
    /// How long an orderly shutdown waits for running calls.
    pub drain_seconds: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 20_000,
            handshake_timeout_ms: 5_000,
            message_bytes: 4 << 20,
            streams_per_connection: 4_096,
            connection_age_seconds: 24 * 3_600,
            calls_in_flight: 20_000,
            drain_seconds: 30,
        }
    }
}

impl Limits {
    /// Returns how long a handshake may take.
    #[must_use]
    pub fn handshake_timeout(&self) -> Duration {
        Duration::from_millis(self.handshake_timeout_ms.into())
    }
}

/// What the node tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// A `tracing` filter: `info`, or `info,aesp_session=debug`.
    pub level: String,
    /// `json` for programs, `text` for people.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::Json }
    }
}

/// The shape of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}
