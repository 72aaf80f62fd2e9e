use std::net::IpAddr;

/// Who is at the other end of a connection, as its verified certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The SPIFFE ids and DNS names among the certificate's subject alternative names.
    pub identities: Vec<String>,
    /// The address that it connects from.
    pub address: Option<IpAddr>,
}

impl PeerIdentity {
    /// Tells whether the certificate carries `identity`.
    #[must_use]
    pub fn is(&self, identity: &str) -> bool {
        self.identities.iter().any(|own| own == identity)
    }
}
