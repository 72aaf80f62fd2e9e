//! How the components of the node are, for health checks.

use std::{sync::Arc, time::Duration};

use aesp_storage::Store;
use aesp_supervision::Supervisor;
use arc_swap::ArcSwapOption;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::{Component, ReadinessProbe, duties, keys::Watch, services::Context};

/// How often the store is asked whether it answers.
const INTERVAL: Duration = Duration::from_secs(1);
/// After how long a store that is silent is away.
const PATIENCE: Duration = Duration::from_secs(2);

/// Returns what health checks ask; looks at the store until `closing`.
pub(crate) fn probe(
    context: &Context,
    keys: Watch,
    root: Supervisor,
    closing: CancellationToken,
) -> ReadinessProbe {
    let not_escalated = duties::escalation(root);
    let store = look_at_store(context.store.clone(), closing);
    let (recorder, cluster, others) =
        (context.recorder.clone(), context.cluster.clone(), context.others.clone());
    let backups = context.backups.clone();
    Arc::new(move || {
        let needed = |name, state| Component { name, state, needed: true };
        let mut components = vec![
            needed("store", store.load().as_deref().map_or(Ok(()), |why| Err(why.clone()))),
            needed("audit", audit(recorder.is_parked())),
            needed("actors", not_escalated()),
            needed("cluster", cluster.ready()),
            keys.component(),
        ];
        // A node without links serves on by the store; requests for others' sessions fail.
        if let Some(peers) = others.peers() {
            let nodes = cluster.nodes().borrow().len();
            let state = links(nodes.saturating_sub(1), peers.connected().borrow().len());
            components.push(Component { name: "peers", state, needed: false });
        }
        // Nor does one whose backups fail stop serving.
        if let Some(state) = backups.state() {
            components.push(Component { name: "backup", state, needed: false });
        }
        components
    })
}

fn audit(parked: bool) -> Result<(), String> {
    if parked { Err("the store did not take the last records".into()) } else { Ok(()) }
}

fn links(others: usize, linked: usize) -> Result<(), String> {
    if linked >= others {
        return Ok(());
    }
    Err(format!("links to {linked} of {others} other nodes"))
}

/// Keeps asking the store; returns why it can't be used, while it can't.
fn look_at_store(store: Store, closing: CancellationToken) -> Arc<ArcSwapOption<String>> {
    let trouble = Arc::<ArcSwapOption<String>>::default();
    let told = Arc::clone(&trouble);
    tokio::spawn(async move {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while closing.run_until_cancelled(ticks.tick()).await.is_some() {
            let look = store.run(|tx| Box::pin(async move { tx.glance_rights_position().await }));
            let seen = match timeout(PATIENCE, look).await {
                Ok(Ok(_)) => None,
                Ok(Err(error)) => Some(Arc::new(error.to_string())),
                Err(_) => Some(Arc::new(format!("no answer within {} s", PATIENCE.as_secs()))),
            };
            told.store(seen);
        }
    });
    trouble
}
