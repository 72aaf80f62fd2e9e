//! The Runtime: a process that dials in to the Host and runs tools.

mod builder;
mod chunks;
mod context;
mod handle;
mod lease;
mod ledger;
mod link;
mod serve;
mod shared;
mod status;
mod tool;

use std::{sync::Arc, time::Duration};

use aesp_proto::{Error, ErrorCode};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    endpoint::Endpoint,
    failure::ToolFailure,
    retry::backoff,
    runtime::{
        link::{AskedToLeave, End, Link},
        shared::{Shared, lock},
    },
    tls::Tls,
    transport::Connection,
};

pub use builder::RuntimeBuilder;
pub use chunks::Chunks;
pub use context::CallContext;
pub use handle::RuntimeHandle;
pub use status::{RuntimeState, RuntimeStatus};
pub use tool::Tool;

/// A Runtime that is described and not running yet.
///
/// It keeps one connection, to whichever of the nodes answers; while it moves from a node that goes away to another one, it
/// keeps both. Results are kept until the Host acknowledges them and delivered again over the next connection.
#[derive(Debug)]
pub struct Runtime {
    shared: Arc<Shared>,
    endpoints: Vec<Endpoint>,
    tls: Tls,
    pace: Pace,
}

/// How patiently a Runtime connects and leaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) connect_timeout: Duration,
    pub(crate) reconnect_base: Duration,
    pub(crate) reconnect_longest: Duration,
    pub(crate) drain_limit: Duration,
}

/// What became of a connection, by its number.
type Ended = (u64, End);

/// The state of the loop that keeps one connection.
struct Keeper {
    links: JoinSet<Ended>,
    asked: mpsc::UnboundedReceiver<AskedToLeave>,
    asking: mpsc::UnboundedSender<AskedToLeave>,
    generation: u64,
    endpoint: usize,
    /// The connections that were asked to leave and serve until another one does.
    departing: Vec<CancellationToken>,
    failures: u32,
    /// How many nodes in a row have refused for good.
    refusals: usize,
}

impl Runtime {
    /// Starts the description of a Runtime that announces itself as `runtime_id` with the client certificate in `tls`.
    #[must_use]
    pub fn builder(runtime_id: impl Into<String>, tls: Tls) -> RuntimeBuilder {
        RuntimeBuilder::new(runtime_id.into(), tls)
    }

    /// Returns the handle that drains it, changes its tools and tells where it stands.
    #[must_use]
    pub fn handle(&self) -> RuntimeHandle {
        RuntimeHandle::new(Arc::clone(&self.shared))
    }

    /// Serves until it is drained. Connections that break are made again, for as long as it takes. When the returned future
    /// is dropped, every call is cancelled.
    ///
    /// # Errors
    /// The Host's refusal, if every node refuses the Runtime for a reason that time does not cure before one has accepted it.
    pub async fn run(self) -> Result<(), Error> {
        let guard = StopOnDrop(Arc::clone(&self.shared));
        let (asking, asked) = mpsc::unbounded_channel();
        let mut keeper = Keeper {
            links: JoinSet::new(),
            asked,
            asking,
            generation: 0,
            endpoint: 0,
            departing: Vec::new(),
            failures: 0,
            refusals: 0,
        };
        let drain = self.shared.drain.clone();
        let outcome = tokio::select! {
            outcome = self.keep_connected(&mut keeper) => outcome,
            () = drain.cancelled() => Ok(()),
        };
        if outcome.is_ok() {
            self.leave(&mut keeper).await;
        }
        drop(guard);
        self.shared.calls.close();
        self.shared.calls.wait().await;
        self.shared.status.send_modify(|status| {
            status.state = RuntimeState::Stopped;
            status.endpoint = None;
        });
        outcome
    }

    /// Returns only with the Host's refusal of a Runtime that was never accepted.
    async fn keep_connected(&self, keeper: &mut Keeper) -> Result<(), Error> {
        loop {
            let endpoint = &self.endpoints[keeper.endpoint % self.endpoints.len()];
            match self.connect(endpoint, keeper).await {
                Ok(()) => {
                    let connected_at = Instant::now();
                    self.watch(keeper).await;
                    // A node that accepts and ends connections at once is no success.
                    keeper.failures = match connected_at.elapsed() >= self.pace.reconnect_longest {
                        true => 0,
                        false => keeper.failures + 1,
                    };
                    self.pause_before_reconnect(keeper).await;
                }
                Err(refusal) => {
                    self.failed(endpoint, &refusal);
                    keeper.endpoint += 1;
                    keeper.failures += 1;
                    keeper.refusals = if is_final(&refusal) { keeper.refusals + 1 } else { 0 };
                    if keeper.generation == 0 && keeper.refusals >= self.endpoints.len() {
                        return Err(refusal);
                    }
                    self.pause_before_reconnect(keeper).await;
                }
            }
        }
    }

    async fn connect(&self, endpoint: &Endpoint, keeper: &mut Keeper) -> Result<(), Error> {
        let connection = Connection::open(endpoint, &self.tls, self.pace.connect_timeout).await?;
        keeper.departing.retain(|leave| !leave.is_cancelled());
        let succeeded = keeper.departing.clone();
        let link = Link::open(&self.shared, endpoint, &connection, keeper.generation, succeeded).await?;
        let (generation, asking) = (keeper.generation, keeper.asking.clone());
        keeper.generation += 1;
        keeper.links.spawn(async move { (generation, link.serve(asking).await) });
        Ok(())
    }

    /// Waits until the newest connection ends or is asked to leave, and chooses the node to connect to next.
    async fn watch(&self, keeper: &mut Keeper) {
        let newest = keeper.generation - 1;
        let several = self.endpoints.len() > 1;
        loop {
            tokio::select! {
                Some(asked) = keeper.asked.recv() => {
                    if asked.generation == newest {
                        // Of an older one it says nothing: the newer connection is the reason.
                        let reason = format!("the Host asked the Runtime to leave: {}", asked.reason);
                        self.shared.status.send_modify(|status| status.last_error = Some(reason));
                    }
                    if asked.generation != newest || !several {
                        // There is a newer connection, or nowhere else to go.
                        asked.leave.cancel();
                    } else {
                        keeper.departing.push(asked.leave);
                        keeper.endpoint += 1;
                        return;
                    }
                }
                Some(ended) = keeper.links.join_next() => {
                    let ended = ended.map_err(|e| error!(error = %e, "connection task broke"));
                    let Ok((generation, end)) = ended else { return };
                    if generation == newest {
                        if let End::Lost(reason) = end {
                            self.failed(&self.endpoints[keeper.endpoint % self.endpoints.len()], &reason);
                        }
                        keeper.endpoint += usize::from(several);
                        self.shared.status.send_modify(|status| {
                            status.state = RuntimeState::Connecting;
                            status.endpoint = None;
                        });
                        return;
                    }
                }
            }
        }
    }

    /// Spreads the Runtimes of a lost node over time; backs off once every node has failed.
    async fn pause_before_reconnect(&self, keeper: &Keeper) {
        let Pace { reconnect_base, reconnect_longest, .. } = self.pace;
        let rounds =
            keeper.failures.saturating_sub(1) / u32::try_from(self.endpoints.len()).unwrap_or(u32::MAX);
        sleep(backoff(reconnect_base, reconnect_longest, rounds + 1, &self.shared.entropy)).await;
    }

    fn failed(&self, endpoint: &Endpoint, reason: &Error) {
        let code = reason.code().as_str_name();
        warn!(%endpoint, %reason, code, remedy = reason.remediation(), "not connected to the host");
        self.shared.status.send_modify(|status| {
            status.last_error = Some(reason.to_string());
        });
    }

    /// Waits until every connection has finished its calls. What one that broke leaves behind is delivered over another one.
    async fn finish(&self, keeper: &mut Keeper) {
        loop {
            while keeper.links.join_next().await.is_some() {}
            if self.shared.ledger().is_idle() {
                return;
            }
            let endpoint = &self.endpoints[keeper.endpoint % self.endpoints.len()];
            if let Err(reason) = self.connect(endpoint, keeper).await {
                self.failed(endpoint, &reason);
            }
            keeper.endpoint += 1;
            keeper.failures += 1;
            self.pause_before_reconnect(keeper).await;
        }
    }

    /// Lets every connection finish its calls, and cancels what is left when the time is over.
    async fn leave(&self, keeper: &mut Keeper) {
        let reason = lock(&self.shared.drain_reason).clone();
        info!(reason, running = self.shared.ledger().running(), "runtime drains");
        self.shared.status.send_modify(|status| status.state = RuntimeState::Draining);
        if timeout(self.pace.drain_limit, self.finish(keeper)).await.is_err() {
            warn!(running = self.shared.ledger().running(), "calls did not end in time and are cancelled");
        }
        keeper.links.shutdown().await;
    }
}

/// Tells whether a Runtime that was never accepted should give up: time alone does not cure what the Host said.
fn is_final(refusal: &Error) -> bool {
    !refusal.is_retryable()
        && !matches!(refusal.code(), ErrorCode::InternalError | ErrorCode::DeadlineExceeded)
}

/// Cancels every call when the Runtime's future ends or is dropped.
struct StopOnDrop(Arc<Shared>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        let why = ToolFailure::of_type(ToolFailure::UNAVAILABLE, "the Runtime has left");
        self.0.stop_all(&why);
    }
}
