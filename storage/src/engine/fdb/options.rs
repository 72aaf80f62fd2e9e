use std::{path::PathBuf, time::Duration};

/// How a FoundationDB cluster is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FdbOptions {
    /// The cluster file. The client library writes to it when the coordinators change.
    pub cluster_file: PathBuf,
    /// The client library; absent to let the system find `libfdb_c.so`. One a process.
    pub library: Option<PathBuf>,
    /// What every key starts with, 1 to 32 printable ASCII characters, so that several systems can share a FoundationDB cluster.
    pub prefix: String,
    /// The data centre whose storage servers are asked first, as the servers' `locality-dcid` names it.
    pub datacenter: Option<String>,
    /// What the process proves and asks for on connections to servers, if the cluster file says `tls`. One a process.
    pub tls: Option<FdbTls>,
    /// How long the cluster may take to answer for the first time.
    pub connect_timeout: Duration,
}

/// Files and rules for TLS to a FoundationDB cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FdbTls {
    /// The certificate chain that is shown, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// The authorities that servers' certificates must come from, PEM.
    pub ca: PathBuf,
    /// What else a server's certificate must say, for example `Check.Valid=1,S.O=Example`; absent for FoundationDB's default.
    ///
    /// Source: FoundationDB's documentation, "Transport Layer Security", peer verification.
    pub verify_peers: Option<String>,
}

impl Default for FdbOptions {
    fn default() -> Self {
        Self {
            cluster_file: "/etc/foundationdb/fdb.cluster".into(),
            library: None,
            prefix: "aesp".into(),
            datacenter: None,
            tls: None,
            connect_timeout: Duration::from_secs(10),
        }
    }
}
