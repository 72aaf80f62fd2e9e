//! What is built behind the audit logs at the tenants' homes.

use std::sync::Arc;

use aesp_follow::{Follower, Following, Metrics, Options};
use aesp_transparency::Sealer;
use anyhow::Context as _;
use tokio_util::sync::CancellationToken;

use crate::{services::Context, sinks::Grown};

/// Begins, until `closing`.
///
/// # Errors
/// If the metrics are registered already, or the key that signs checkpoints can't be made.
pub(crate) async fn start(
    context: &Context,
    registry: &prometheus::Registry,
    closing: CancellationToken,
) -> anyhow::Result<()> {
    let sealer = Sealer::new(
        context.store.clone(),
        context.recorder.clone(),
        Arc::clone(&context.clock),
        context.entropy.clone(),
        aesp_transparency::Metrics::register(registry)?,
        aesp_transparency::Options::default(),
    );
    let sealer = sealer.await.context("no log key")?;
    let followers: Vec<Arc<dyn Follower>> = vec![
        Arc::new(sealer),
        Arc::new(context.index.clone()),
        Arc::new(Grown(context.sinks.clone())),
        Arc::new(context.alerts.clone()),
    ];
    Following::start(
        context.store.clone(),
        context.ownership.clone(),
        context.recorder.commits(),
        Arc::clone(&context.clock),
        followers,
        Metrics::register(registry)?,
        Options::default(),
        closing,
    );
    Ok(())
}
