//! Who is probably alive: chitchat over datagrams that are sealed under the cluster's secret.

mod announcement;
mod driver;
mod envelope;
mod metrics;
mod options;
mod secret;
mod socket;
#[cfg(test)]
mod tests;
mod window;

pub use announcement::Announcement;
pub use driver::{Context, Gossip, StartError};
pub use metrics::Metrics;
pub use options::{Hint, Options, Timing};
pub use secret::{SHORTEST_SECRET_BYTES, Secrets};
