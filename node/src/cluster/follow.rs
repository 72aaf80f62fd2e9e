use std::{path::PathBuf, sync::Arc, time::Duration};

use aesp_cluster::{gossip::Gossip, peer::LiveTls};
use aesp_proto::Clock;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use super::read_secrets;
use crate::{config, tls};

const INTERVAL: Duration = Duration::from_secs(1);

/// Follows the files of the links between nodes: new certificates and lists hold for the links that are open, too, and a new
/// secret seals the next datagram.
pub(super) struct Follow {
    pub(super) tls: config::Tls,
    pub(super) secret: PathBuf,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) live: LiveTls,
    pub(super) gossip: Arc<Gossip>,
}

impl Follow {
    /// Runs until `closing`.
    pub(super) async fn run(self, closing: CancellationToken) {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let follow = Arc::new(self);
        let mut seen = follow.stamps();
        while closing.run_until_cancelled(ticks.tick()).await.is_some() {
            let (step, before) = (Arc::clone(&follow), seen.clone());
            // Reads files: nothing for a thread that serves.
            seen = tokio::task::spawn_blocking(move || step.step(&before)).await.unwrap_or(seen);
        }
    }

    fn stamps(&self) -> (tls::Stamps, tls::Stamps) {
        (tls::stamps(&self.tls), vec![tls::stamp(&self.secret)])
    }

    fn step(&self, seen: &(tls::Stamps, tls::Stamps)) -> (tls::Stamps, tls::Stamps) {
        // Before the files are read: a change during the read is seen the next time.
        let stamps = self.stamps();
        if stamps.0 != seen.0 {
            match tls::peers(&self.tls, &self.clock) {
                Ok(material) => {
                    self.live.replace(material);
                    info!("certificates of the links between nodes loaded");
                }
                // What was loaded before stays in force; the next change of a file is the next attempt.
                Err(error) => error!(
                    error = &error as &dyn std::error::Error,
                    "certificates of the links between nodes can't be loaded; the previous ones stay"
                ),
            }
        }
        if stamps.1 != seen.1 {
            match read_secrets(&self.secret) {
                Ok(secrets) => {
                    self.gossip.rotate(&secrets);
                    info!("secrets of the gossip loaded");
                }
                Err(error) => error!(
                    error = &error as &dyn std::error::Error,
                    "secrets of the gossip can't be loaded; the previous ones stay"
                ),
            }
        }
        stamps
    }
}
