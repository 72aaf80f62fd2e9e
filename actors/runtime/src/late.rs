use std::{sync::Arc, time::Duration};

use aesp_proto::{DispatchId, v1::ToolResult};
use async_trait::async_trait;
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep, timeout},
};
use tracing::warn;

use crate::{link::Link, shared::Shared};

/// What became of a result that nobody waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// It is recorded durably, now or before.
    Recorded,
    /// Nobody knows the dispatch, or it was settled otherwise; the Runtime may forget it.
    Unwanted,
    /// It could not be decided at the moment; the Runtime keeps it and delivers it again after its next reconnect.
    Later,
}

/// Settles calls whose outcome is unknown, from what Runtimes tell after the fact.
#[async_trait]
pub trait LateResults: Send + Sync + 'static {
    /// A Runtime with this certificate identity delivers the result of a dispatch that no [`crate::Attempt`] waits for. Its
    /// form and size are not checked.
    async fn settle(&self, identity: &str, dispatch: DispatchId, result: ToolResult) -> Settled;

    /// The very Runtime process that `dispatch` was sent to reports that it never saw it: it had no effect.
    async fn never_received(&self, identity: &str, dispatch: DispatchId);
}

/// How long one settlement may take.
const SETTLE: Duration = Duration::from_secs(30);
/// How long a caller who lost its Runtime may take to record that.
const RECORDING: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Offers a late result, and acknowledges it unless it is to be delivered again. Holds `place` meanwhile.
pub(crate) async fn settle(
    shared: Arc<Shared>,
    link: Arc<Link>,
    dispatch: DispatchId,
    result: ToolResult,
    place: OwnedSemaphorePermit,
) {
    let Some(identity) = link.identity.get() else { return };
    if !recorded(&shared, dispatch).await {
        return;
    }
    let Ok(_turn) = shared.settling.acquire().await else { return };
    let settled = timeout(SETTLE, shared.wiring.late.settle(identity, dispatch, result)).await;
    let kind = match settled {
        Ok(Settled::Recorded) => "late",
        Ok(Settled::Unwanted) => "unknown",
        Ok(Settled::Later) | Err(_) => {
            warn!(%dispatch, "late result could not be settled; the runtime keeps it");
            "unsettled"
        }
    };
    shared.wiring.metrics.results.with_label_values(&[kind]).inc();
    if kind != "unsettled" {
        shared.acknowledge(&link, dispatch);
    }
    drop(place);
}

/// Tells that the Runtime never received the dispatches.
pub(crate) async fn never_received(shared: Arc<Shared>, identity: Arc<str>, dispatches: Vec<DispatchId>) {
    for dispatch in dispatches {
        if !recorded(&shared, dispatch).await {
            continue;
        }
        let Ok(_turn) = shared.settling.acquire().await else { return };
        if timeout(SETTLE, shared.wiring.late.never_received(&identity, dispatch)).await.is_err() {
            warn!(%dispatch, "a dispatch that its runtime never received could not be settled");
        }
    }
}

/// Waits until the caller who lost the dispatch has recorded what it knows; otherwise there is nothing to settle yet.
async fn recorded(shared: &Shared, dispatch: DispatchId) -> bool {
    let until = Instant::now() + RECORDING;
    while shared.is_held(dispatch) {
        if Instant::now() >= until {
            return false;
        }
        sleep(LOOK_AGAIN).await;
    }
    true
}
