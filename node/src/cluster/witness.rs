use std::time::Duration;

use aesp_audit::{Event, Recorder};
use aesp_cluster::{Notice, ObserveNotices, ObserveRefusals, Refusal};
use aesp_proto::{
    Entropy, Incarnation, TenantId,
    v1::{EventType, Outcome},
};
use tokio::sync::{mpsc, oneshot};
use tracing::{error, warn};

/// Events that may wait for a store that is away. Refusals come aggregated, and notices are few.
const WAITING: usize = 1_024;
const PAUSE: Duration = Duration::from_secs(1);

/// Writes what happens to the cluster into the log and into the platform's audit log.
pub(crate) struct Witness {
    entropy: Entropy,
    events: mpsc::Sender<Told>,
}

/// What the task that writes is told.
enum Told {
    Event(Box<Event>),
    /// Answer when everything before this is written.
    Settle(oneshot::Sender<()>),
}

impl Witness {
    /// Starts the task that writes; it ends with the recorder, or when nobody can tell it anything any more.
    pub(crate) fn start(recorder: Recorder, entropy: Entropy) -> Self {
        let (events, waiting) = mpsc::channel(WAITING);
        tokio::spawn(write(recorder, waiting));
        Self { entropy, events }
    }

    /// Returns when everything that was seen so far is in the audit log.
    pub(crate) async fn settle(&self) {
        let (settled, done) = oneshot::channel();
        if self.events.send(Told::Settle(settled)).await.is_ok() {
            // Ends also when nothing can be written any more.
            done.await.ok();
        }
    }

    fn record(&self, event: Event) {
        if self.events.try_send(Told::Event(event.into())).is_err() {
            error!("an event of the cluster is not in the audit log: too many wait for the store");
        }
    }
}

async fn write(recorder: Recorder, mut waiting: mpsc::Receiver<Told>) {
    while let Some(told) = waiting.recv().await {
        let event = match told {
            Told::Event(event) => event,
            Told::Settle(settled) => {
                // Whoever asked may have stopped waiting.
                settled.send(()).ok();
                continue;
            }
        };
        loop {
            match recorder.append(vec![(*event).clone()]).await {
                Ok(()) => break,
                Err(aesp_audit::Error::Stopped) => return,
                Err(error) => {
                    warn!(%error, action = event.action, "an event of the cluster waits for the audit log");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

impl ObserveNotices for Witness {
    fn noticed(&self, notice: Notice) {
        let name = notice.name();
        let (outcome, fields) = describe(&notice);
        if outcome != Outcome::Success {
            // All of them are in the log already; these need somebody.
            warn!(?notice, "something is wrong in the cluster");
        }
        let action = format!("cluster.{name}");
        let mut event =
            Event::new(&self.entropy, TenantId::PLATFORM, EventType::SystemEvent, action, outcome);
        event.details.resource = "cluster".into();
        event.details.fields = fields;
        self.record(event);
    }
}

impl ObserveRefusals for Witness {
    fn refused(&self, refusal: Refusal) {
        let action = format!("cluster.{}", refusal.surface.name());
        let kind = EventType::Authentication;
        let mut event = Event::new(&self.entropy, TenantId::PLATFORM, kind, action, Outcome::Denied);
        event.count = refusal.count;
        event.details.source_ip = refusal.from.map(|ip| ip.to_string()).unwrap_or_default();
        event.details.reason = refusal.reason.into();
        self.record(event);
    }
}

/// Returns whether all is well, and what there is to tell.
fn describe(notice: &Notice) -> (Outcome, Vec<(String, String)>) {
    let fields = |fields: &[(&str, String)]| {
        fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
    };
    let node =
        |incarnation: Option<Incarnation>| incarnation.map_or_else(|| "none".into(), |i| i.0.to_string());
    match notice {
        Notice::NodeJoined { node, name } | Notice::NodeLeft { node, name } => {
            (Outcome::Success, fields(&[("node", node.0.to_string()), ("name", name.clone())]))
        }
        Notice::NodeDied { node, name, by } => {
            let told = [("node", node.0.to_string()), ("name", name.clone()), ("by", by.0.to_string())];
            (Outcome::Failure, fields(&told))
        }
        Notice::ShardsTaken { from, count } => {
            (Outcome::Success, fields(&[("from", node(*from)), ("count", count.to_string())]))
        }
        Notice::ShardsHandedOver { to, count } => {
            (Outcome::Success, fields(&[("to", node(*to)), ("count", count.to_string())]))
        }
        Notice::ClockSkewed { skew_ms } => (Outcome::Failure, fields(&[("skew_ms", skew_ms.to_string())])),
        Notice::ClockRight { skew_ms } => (Outcome::Success, fields(&[("skew_ms", skew_ms.to_string())])),
        Notice::LeaseLost { for_ever } => (Outcome::Failure, fields(&[("for_ever", for_ever.to_string())])),
        Notice::LeaseRegained => (Outcome::Success, Vec::new()),
        Notice::RowDamaged { what } => (Outcome::Failure, fields(&[("what", what.clone())])),
        Notice::IdentityContested { name, node }
        | Notice::StoreContested { name, node }
        | Notice::NodeUnreachable { node, name } => {
            (Outcome::Failure, fields(&[("node", node.0.to_string()), ("name", name.clone())]))
        }
        // A notice of a later release of the crate is told by its name.
        _ => (Outcome::Failure, Vec::new()),
    }
}
