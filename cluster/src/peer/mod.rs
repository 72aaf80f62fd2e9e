//! Links between the nodes of a cluster: one long-lived stream a pair over mutually authenticated TLS, on which requests with
//! streamed answers and one-way messages travel in batches.

mod answer;
mod backoff;
mod dialler;
mod error;
mod hello;
mod identity;
mod link;
mod listener;
mod metrics;
mod options;
mod peers;
mod registry;
mod secured;
mod server_check;
mod service;
mod session;
mod state;
#[cfg(test)]
mod tests;
mod tls;
mod topic;
mod version;

pub use answer::Answer;
pub use error::{NotSent, PeerError};
pub use metrics::Metrics;
pub use options::{Limits, Options, Peer, Timing};
pub use peers::{Context, Peers};
pub use server_check::ServerCheck;
pub use service::PeerService;
pub use tls::{LiveTls, Tls};
pub use topic::Topic;
pub use version::{held_down as protocols_held_down, spoken as spoken_protocols};
