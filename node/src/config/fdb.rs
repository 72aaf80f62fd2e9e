use std::path::{Path, PathBuf};

use aesp_storage::{FdbOptions, FdbTls};
use serde::{Deserialize, Serialize};

/// How a FoundationDB cluster is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Fdb {
    /// What every key in the cluster starts with, so that several systems can share it. Fixed when the store is made.
    pub prefix: String,
    /// The client library; absent to let the system find `libfdb_c.so`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub library: Option<PathBuf>,
    /// The data centre whose servers are asked first, as their `locality-dcid` names it; absent for `node.datacenter`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub datacenter: Option<String>,
    /// The certificate chain that is shown to servers that speak TLS, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// Its private key, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// The authorities that the servers' certificates must come from, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// What else a server's certificate must say, in FoundationDB's own words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verify_peers: Option<String>,
}

impl Default for Fdb {
    fn default() -> Self {
        Self {
            prefix: FdbOptions::default().prefix,
            library: None,
            datacenter: None,
            certificate: None,
            key: None,
            ca: None,
            verify_peers: None,
        }
    }
}

impl Fdb {
    /// Returns what the engine needs to reach the cluster of this cluster file.
    #[must_use]
    pub fn options(&self, cluster_file: &Path) -> FdbOptions {
        let tls = match (&self.certificate, &self.key, &self.ca) {
            (Some(certificate), Some(key), Some(ca)) => Some(FdbTls {
                certificate: certificate.clone(),
                key: key.clone(),
                ca: ca.clone(),
                verify_peers: self.verify_peers.clone(),
            }),
            _ => None,
        };
        FdbOptions {
            cluster_file: cluster_file.to_owned(),
            library: self.library.clone(),
            prefix: self.prefix.clone(),
            datacenter: self.datacenter.clone(),
            tls,
            ..FdbOptions::default()
        }
    }
}
