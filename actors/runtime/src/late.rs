use std::{sync::Arc, time::Duration};

use aesp_proto::{DispatchId, Incarnation, v1::ToolResult};
use async_trait::async_trait;
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep, timeout},
};
use tracing::warn;

use crate::{cluster, link::Link, shared::Shared};

/// What became of a result that nobody waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// It is recorded durably, now or before.
    Recorded,
    /// Nobody knows the dispatch, or it was settled otherwise; the Runtime may forget it.
    Unwanted,
    /// It could not be decided at the moment; the Runtime keeps it and delivers it again after its next reconnect.
    Later,
    /// The session is another node's, which must decide.
    Elsewhere(Incarnation),
}

/// Settles calls whose outcome is unknown, from what Runtimes tell after the fact.
#[async_trait]
pub trait LateResults: Send + Sync + 'static {
    /// A Runtime with this certificate identity delivers the result of a dispatch that no [`crate::Attempt`] waits for. Its
    /// form and size are not checked.
    async fn settle(&self, identity: &str, dispatch: DispatchId, result: ToolResult) -> Settled;

    /// The very Runtime process that `dispatch` was sent to reports that it never saw it: it had no effect.
    async fn never_received(&self, identity: &str, dispatch: DispatchId) -> Settled;
}

/// How long one settlement may take, wherever it is made.
const SETTLE: Duration = Duration::from_secs(30);
/// Before the owner of a session is looked for and asked again.
const ASK_AGAIN: Duration = Duration::from_millis(250);
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
    let kind = match settle_anywhere(&shared, identity, dispatch, Some(result)).await {
        Settled::Recorded => "late",
        Settled::Unwanted => "unknown",
        Settled::Later | Settled::Elsewhere(_) => {
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
        let settled = settle_anywhere(&shared, &identity, dispatch, None).await;
        if matches!(settled, Settled::Later | Settled::Elsewhere(_)) {
            warn!(%dispatch, "a dispatch that its runtime never received could not be settled");
        }
    }
}

/// Settles at the node that owns the session. While that can't be reached, or ownership moves, it is looked for again.
async fn settle_anywhere(
    shared: &Shared,
    identity: &str,
    dispatch: DispatchId,
    result: Option<ToolResult>,
) -> Settled {
    let until = Instant::now() + SETTLE;
    loop {
        let owner = match settle_here(shared, identity, dispatch, result.clone()).await {
            Settled::Elsewhere(owner) => owner,
            settled => return settled,
        };
        let left = until.saturating_duration_since(Instant::now());
        let asked = cluster::ask_late(shared, owner, identity, dispatch, result.clone());
        match timeout(left, asked).await {
            Ok(Settled::Later | Settled::Elsewhere(_)) if Instant::now() + ASK_AGAIN < until => {
                sleep(ASK_AGAIN).await;
            }
            Ok(settled) => return settled,
            Err(_) => return Settled::Later,
        }
    }
}

/// Settles at this node, if it owns the session.
pub(crate) async fn settle_here(
    shared: &Shared,
    identity: &str,
    dispatch: DispatchId,
    result: Option<ToolResult>,
) -> Settled {
    if !recorded(shared, dispatch).await {
        return Settled::Later;
    }
    let Ok(_turn) = shared.settling.acquire().await else { return Settled::Later };
    let late = &shared.wiring.late;
    let settled = match result {
        Some(result) => timeout(SETTLE, late.settle(identity, dispatch, result)).await,
        None => timeout(SETTLE, late.never_received(identity, dispatch)).await,
    };
    settled.unwrap_or(Settled::Later)
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
