//! TLS 1.3 without resumption: who is on the other side, decided once a connection and again when files change.

mod acceptor;
mod clock;
mod connection;
mod connections;
mod error;
mod live;
mod material;
mod metrics;
mod peer;
mod peers;
mod pem;
mod refusal;
mod watch;

pub(crate) use acceptor::Acceptor;
pub(crate) use connection::Connection;
pub(crate) use connections::Connections;
pub(crate) use live::{Live, Protocol};
pub(crate) use material::Material;
pub(crate) use metrics::Metrics;
pub(crate) use peers::{names, peers};
pub(crate) use watch::{Stamps, Watch, stamp, stamps};

pub use error::Error;
pub(crate) use peer::serial_text;
pub use peer::{PeerIdentity, PeerInfo};

#[cfg(test)]
mod tests;
