use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::Tls;

/// The cluster that a node belongs to. Without this section it is alone with its store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cluster {
    /// The file with the secrets of the gossip, mode 0600: one a line, the newest first, each at least 32 bytes as hexadecimal
    /// or base64url.
    pub secret_file: PathBuf,
    /// Peer addresses of some other nodes, `host:port`. Nodes that the store knows are found without.
    pub seeds: Vec<String>,
    /// Where others reach this node, `host:port`; empty for where `listen.peers` is bound.
    pub advertise: String,
    /// The SPIFFE trust domain of the nodes' certificates.
    pub trust_domain: String,
    /// The certificate chain that names this node, PEM; absent if that of `[tls]` does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// Its private key, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// For how long the node may act after it last told the store that it lives, 500 to 60,000 ms.
    pub lease_ms: u32,
    /// The newest protocol that the node speaks with other nodes; 0 for the newest that its release knows. Held down during a
    /// rolling upgrade that may have to be taken back.
    pub protocol_max: u32,
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            secret_file: "aesp-data/cluster.secret".into(),
            seeds: Vec::new(),
            advertise: String::new(),
            trust_domain: "aesp.local".into(),
            certificate: None,
            key: None,
            lease_ms: 2_000,
            protocol_max: 0,
        }
    }
}

impl Cluster {
    /// Returns for how long the node may act after it last told the store that it lives.
    #[must_use]
    pub fn lease(&self) -> Duration {
        Duration::from_millis(self.lease_ms.into())
    }

    /// Returns what links between nodes prove and ask for: what clients see, but for a certificate of their own.
    #[must_use]
    pub fn tls(&self, clients: &Tls) -> Tls {
        let mut tls = clients.clone();
        if let (Some(certificate), Some(key)) = (&self.certificate, &self.key) {
            (tls.certificate, tls.key) = (certificate.clone(), key.clone());
        }
        tls
    }
}
