use std::{os::unix::fs::MetadataExt, path::Path, sync::Arc, time::Duration};

use aesp_proto::Clock;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{MissedTickBehavior, interval},
};

use super::{Connections, Live, Material, Metrics};
use crate::config;

const INTERVAL: Duration = Duration::from_secs(1);

/// Follows the files: loads them again when one changed, or on SIGHUP, and closes connections that lost their standing.
#[derive(Clone)]
pub(crate) struct Watch {
    files: config::Tls,
    clock: Arc<dyn Clock>,
    live: Arc<Live>,
    connections: Connections,
    metrics: Metrics,
    seen: Stamps,
}

/// What changes when a file does: modification time in nanoseconds, length, inode.
pub(crate) type Stamp = (i64, i64, u64, u64);

/// What changes when one of several files does, or comes or goes.
pub(crate) type Stamps = Vec<Option<Stamp>>;

impl Watch {
    pub(crate) fn new(
        files: config::Tls,
        clock: Arc<dyn Clock>,
        live: Arc<Live>,
        connections: Connections,
        metrics: Metrics,
    ) -> Self {
        metrics.certificate_end.set(live.load().not_after.0 / 1_000);
        let seen = stamps(&files);
        Self { files, clock, live, connections, metrics, seen }
    }

    /// Runs until it is dropped.
    ///
    /// # Errors
    /// When signals can't be listened for.
    pub(crate) async fn run(mut self) -> std::io::Result<()> {
        let mut hang_up = signal(SignalKind::hangup())?;
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let asked = tokio::select! {
                _ = ticks.tick() => false,
                _ = hang_up.recv() => true,
            };
            // Reads files and checks a signature for each connection: nothing for a thread that serves.
            let seen = self.seen.clone();
            let step = self.clone();
            self.seen = tokio::task::spawn_blocking(move || step.step(asked)).await.unwrap_or(seen);
        }
    }

    fn step(&self, asked: bool) -> Stamps {
        // Before the files are read: a change during the read is seen the next time.
        let stamps = stamps(&self.files);
        if asked || stamps != self.seen {
            self.reload();
        }
        self.connections.close_expired(self.clock.now());
        stamps
    }

    fn reload(&self) {
        match Material::load(&self.files, &self.clock) {
            Ok(material) => {
                let material = self.live.store(material);
                self.metrics.certificate_end.set(material.not_after.0 / 1_000);
                self.metrics.reloads.with_label_values(&["succeeded"]).inc();
                tracing::info!(
                    not_after_ms = material.not_after.0,
                    "certificates and revocation lists loaded"
                );
                self.connections.close_refused(&*material.verifier, self.clock.now());
            }
            // What was loaded before stays in force; the next change of a file is the next attempt.
            Err(error) => {
                self.metrics.reloads.with_label_values(&["failed"]).inc();
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "certificates or revocation lists can't be loaded; the previous ones stay"
                );
            }
        }
    }
}

/// Returns what changes when one of the files does.
pub(crate) fn stamps(files: &config::Tls) -> Stamps {
    let fixed = [&files.certificate, &files.key, &files.client_ca];
    fixed.into_iter().chain(&files.crls).map(|path| stamp(path)).collect()
}

/// Returns what changes when the file does; nothing if it can't be looked at.
pub(crate) fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.mtime(), metadata.mtime_nsec(), metadata.len(), metadata.ino()))
}
