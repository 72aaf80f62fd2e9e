use std::{net::SocketAddr, path::PathBuf};

/// Why a node can't take its place in a cluster. All of them are for whoever configures it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The file of the secrets can't be read.
    #[error("can't read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Others may read the secrets.
    #[error("{} must be readable by its owner only: its mode is {mode:04o}, and must be 0600", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A line is no secret.
    #[error("{}:{line}: a secret is at least 32 bytes, as hexadecimal or base64url", path.display())]
    Secret {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// There is none.
    #[error("{} holds no secret", path.display())]
    NoSecret {
        /// The file.
        path: PathBuf,
    },
    /// The peer address can't be used for both protocols.
    #[error("can't listen on {at} (listen.peers)")]
    Listen {
        /// The address.
        at: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}
