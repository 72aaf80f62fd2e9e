use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use aesp_identity::Sweep;
use aesp_proto::{Error, TenantId};
use aesp_supervision::{Escalation, Supervisor};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::services::Context;

/// How often what has ended by itself is cleared away.
const TIDY: Duration = Duration::from_secs(60);
/// Request ids are looked for within the transaction's retries, seconds after they were written.
const REQUESTS_KEPT: Duration = Duration::from_secs(3600);

/// Starts the node's own duties: following changes that other processes commit, and clearing away what has ended.
pub(crate) fn start(context: &Context, closing: CancellationToken) {
    let following = context.clone();
    let closed = closing.clone();
    tokio::spawn(async move {
        let mut refreshed = following.views.subscribe_all();
        while let Some(Ok(())) = closed.run_until_cancelled(refreshed.changed()).await {
            for view in following.views.loaded() {
                following.tenants.refresh(&view.tenant);
            }
            following.runtimes.recheck(None).await;
        }
    });
    let tidying = context.clone();
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(TIDY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while closing.run_until_cancelled(ticks.tick()).await.is_some() {
            if let Err(error) = tidy(&tidying).await {
                warn!(%error, "what has ended was not cleared away; tried again later");
            }
        }
    });
}

async fn tidy(context: &Context) -> Result<(), Error> {
    context.store.expire_requests(REQUESTS_KEPT).await?;
    let now = context.clock.now();
    for view in context.views.loaded() {
        let tenant: TenantId = view.tenant.id();
        let mut step = Some(Sweep::default());
        while let Some(from) = step {
            let swept = context
                .store
                .run(move |tx| Box::pin(async move { aesp_identity::sweep(tx, tenant, from, now).await }));
            step = swept.await?;
        }
    }
    Ok(())
}

/// Returns a probe that fails from the moment that the actors have given up.
pub(crate) fn escalation(root: Supervisor) -> impl Fn() -> Result<(), String> + Send + Sync + 'static {
    let seen: Arc<OnceLock<Escalation>> = Arc::default();
    let noted = Arc::clone(&seen);
    tokio::spawn(async move {
        let escalation = root.escalated().await;
        error!(%escalation, "actors crashed beyond their intensity");
        // The first one is what the probe shows.
        let _ = noted.set(escalation);
    });
    move || seen.get().map_or(Ok(()), |escalation| Err(escalation.to_string()))
}
