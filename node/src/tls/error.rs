use std::path::PathBuf;

/// Why certificates, keys or revocation lists can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file can't be read.
    #[error("can't read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file doesn't hold what it should.
    #[error("{} holds no {expected}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What it should hold, in PEM.
        expected: &'static str,
    },
    /// The certificate and the key don't belong together, or the key is of an unknown kind.
    #[error("the certificate {} and the key {} can't be used together", certificate.display(), key.display())]
    Pair {
        /// The certificate file.
        certificate: PathBuf,
        /// The key file.
        key: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// The client authorities or their lists can't be used.
    #[error("the authorities in {} or their revocation lists can't be used", client_ca.display())]
    Authorities {
        /// The authorities' file.
        client_ca: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The certificate that a node shows to other nodes names somebody else.
    #[error("the certificate {} names {found} and must name {identity}: make one with `aesp pki node {node}`", certificate.display())]
    OtherNode {
        /// The certificate file.
        certificate: PathBuf,
        /// Whom it names.
        found: String,
        /// Whom it must name.
        identity: String,
        /// The node's name.
        node: String,
    },
    /// A certificate that is valid in itself but names nobody.
    #[error("the certificate names nobody: {0}")]
    Nameless(&'static str),
}
