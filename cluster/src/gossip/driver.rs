use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, atomic::AtomicU64},
    time::Duration,
};

use aesp_proto::{Clock, Incarnation};
use arc_swap::ArcSwap;
use chitchat::{
    Chitchat, ChitchatConfig, ChitchatHandle, ChitchatId, FailureDetectorConfig, NodeState, spawn_chitchat,
};
use tokio::{sync::watch, task::JoinHandle, time::interval};
use tokio_util::sync::CancellationToken;

use super::{
    Announcement, Hint, Metrics, Options, Secrets,
    socket::{Bind, Seal, SealedTransport, Udp},
    window::Windows,
};
use crate::{ObserveRefusals, Surface, refusal::Refusals};

/// Respawns that one incarnation can have are told apart by the low bits of chitchat's generation.
const LIFE_BITS: u32 = 16;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long chitchat remembers a dead node; its incarnation never comes back.
const DEAD_GRACE: Duration = Duration::from_secs(60);
const FLUSH: Duration = Duration::from_secs(1);

/// What gossip is given from outside.
#[derive(Clone)]
pub struct Context {
    /// Stamps datagrams.
    pub clock: Arc<dyn Clock>,
    /// Counts.
    pub metrics: Metrics,
    /// Hears of refused datagrams.
    pub refused: Arc<dyn ObserveRefusals>,
}

/// Why gossip can't begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address can't be used.
    #[error("can't listen on {at} (UDP) for gossip")]
    Listen {
        /// The address.
        at: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The incarnation is beyond what a generation holds, which a counter never reaches.
    #[error("incarnation {0} is not one that a store counted")]
    Incarnation(Incarnation),
}

/// The membership of a cluster as this node hears of it. Ends when it is stopped or dropped.
pub struct Gossip {
    at: SocketAddr,
    seal: Arc<Seal>,
    own: watch::Sender<Announcement>,
    hints: watch::Receiver<Arc<[Hint]>>,
    stop: CancellationToken,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Gossip {
    /// Listens, and begins to gossip with the seeds and whomever they know.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(context: Context, options: Options, first: Announcement) -> Result<Self, StartError> {
        Self::start_over(context, options, first, Arc::new(Udp)).await
    }

    pub(super) async fn start_over(
        context: Context,
        options: Options,
        first: Announcement,
        bind: Arc<dyn Bind>,
    ) -> Result<Self, StartError> {
        if options.incarnation.0 >> (u64::BITS - LIFE_BITS) != 0 {
            return Err(StartError::Incarnation(options.incarnation));
        }
        let listen = options.listen;
        let bound = bind.bind(listen).await.map_err(|source| StartError::Listen { at: listen, source })?;
        let (datagrams, at) = bound;
        let Context { clock, metrics, refused } = context;
        let refusals = Refusals::new(Surface::Gossip, metrics.rejected.clone(), refused);
        let seal = Arc::new(Seal {
            own: options.incarnation,
            cluster: options.cluster.clone(),
            keys: ArcSwap::from_pointee(options.secrets.keys(&options.cluster)),
            sequence: AtomicU64::new(0),
            windows: Mutex::new(Windows::default()),
            clock,
            metrics,
            refusals,
        });
        let (own, announced) = watch::channel(first);
        let (hints_out, hints) = watch::channel(Arc::from([]));
        let stop = CancellationToken::new();
        let transport = SealedTransport { bind, seal: seal.clone(), first: Mutex::new(Some(datagrams)) };
        let driver = Driver { options, at, transport, announced, hints: hints_out, seal: seal.clone() };
        let task = tokio::spawn(driver.run(stop.clone()));
        Ok(Self { at, seal, own, hints, stop, task: Mutex::new(Some(task)) })
    }

    /// Returns where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.at
    }

    /// Returns what is heard of the other nodes, and follows it.
    #[must_use]
    pub fn hints(&self) -> watch::Receiver<Arc<[Hint]>> {
        self.hints.clone()
    }

    /// Changes what this node tells.
    pub fn announce(&self, announcement: Announcement) {
        self.own.send_if_modified(|own| {
            let changed = *own != announcement;
            *own = announcement;
            changed
        });
    }

    /// Replaces the secrets; the newest seals from now on.
    pub fn rotate(&self, secrets: &Secrets) {
        self.seal.keys.store(Arc::new(secrets.keys(&self.seal.cluster)));
    }

    /// Ends the gossip, and returns when the socket is closed.
    pub async fn stop(&self) {
        self.stop.cancel();
        let task = self.task.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        if let Some(task) = task
            && let Err(error) = task.await
        {
            tracing::error!(%error, "gossip ended in a panic");
        }
    }
}

impl Drop for Gossip {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Keeps one chitchat loop running, and translates.
struct Driver {
    options: Options,
    at: SocketAddr,
    transport: SealedTransport,
    announced: watch::Receiver<Announcement>,
    hints: watch::Sender<Arc<[Hint]>>,
    seal: Arc<Seal>,
}

impl Driver {
    async fn run(mut self, stop: CancellationToken) {
        let mut pause = FIRST_PAUSE;
        let mut life = 0_u16;
        loop {
            match self.spawn(life).await {
                Ok(handle) => {
                    let began = tokio::time::Instant::now();
                    let ended = tokio::select! {
                        () = stop.cancelled() => None,
                        error = self.follow(&handle) => Some(error),
                    };
                    let Some(error) = ended else {
                        if let Err(error) = handle.shutdown().await {
                            tracing::debug!(%error, "gossip loop ended with an error");
                        }
                        return;
                    };
                    tracing::warn!(%error, life, "gossip loop ended; it begins again");
                    if began.elapsed() > LONGEST_PAUSE {
                        pause = FIRST_PAUSE;
                    }
                }
                Err(error) => tracing::warn!(%error, at = %self.at, "gossip loop can't begin"),
            }
            self.seal.metrics.respawns.inc();
            // Peers would take a loop that counts its heartbeats from 1 again for dead, so it comes under a new generation.
            life = life.saturating_add(1);
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            pause = (2 * pause).min(LONGEST_PAUSE);
        }
    }

    async fn spawn(&self, life: u16) -> anyhow::Result<ChitchatHandle> {
        let Options { incarnation, cluster, name, seeds, advertise, timing, .. } = &self.options;
        let generation = incarnation.0 << LIFE_BITS | u64::from(life);
        let config = ChitchatConfig {
            chitchat_id: ChitchatId::new(name.as_str(), generation, advertise.unwrap_or(self.at)),
            cluster_id: cluster.clone(),
            gossip_interval: timing.interval,
            listen_addr: self.at,
            seed_nodes: seeds.clone(),
            failure_detector_config: FailureDetectorConfig {
                phi_threshold: timing.phi,
                sampling_window_size: 1_000,
                max_interval: Duration::from_secs(10),
                initial_interval: timing.initial_interval,
                dead_node_grace_period: DEAD_GRACE,
            },
            marked_for_deletion_grace_period: Duration::from_secs(600),
            catchup_callback: None,
            extra_liveness_predicate: None,
        };
        let pairs = self.announced.borrow().to_pairs();
        spawn_chitchat(config, pairs, &self.transport).await
    }

    /// Carries announcements in and hints out until the loop ends; returns why.
    async fn follow(&mut self, handle: &ChitchatHandle) -> anyhow::Error {
        let mut live = handle.with_chitchat(|chitchat| chitchat.live_nodes_watcher()).await;
        let ended = handle.termination_watcher();
        tokio::pin!(ended);
        let mut ticks = interval(FLUSH);
        loop {
            tokio::select! {
                how = &mut ended => return how.err().unwrap_or_else(|| anyhow::anyhow!("the loop was shut down")),
                Ok(()) = live.changed() => {}
                Ok(()) = self.announced.changed() => {
                    let pairs = self.announced.borrow_and_update().to_pairs();
                    handle.with_chitchat(|chitchat| {
                        for (key, value) in &pairs {
                            chitchat.self_node_state().set(key, value);
                        }
                    }).await;
                    continue;
                }
                _ = ticks.tick() => self.seal.refusals.flush(),
            }
            let hints = handle.with_chitchat(|chitchat| hints(chitchat)).await;
            self.seal
                .metrics
                .alive
                .set(hints.iter().filter(|hint| hint.alive).count().try_into().unwrap_or(i64::MAX));
            self.hints.send_if_modified(|known| {
                let changed = known[..] != hints[..];
                if changed {
                    *known = hints.into();
                }
                changed
            });
        }
    }
}

/// Returns one hint for each other incarnation, of its latest life, in order.
fn hints(chitchat: &Chitchat) -> Vec<Hint> {
    let live: std::collections::HashSet<&ChitchatId> = chitchat.live_nodes().collect();
    let own = incarnation(chitchat.self_chitchat_id());
    let mut latest: BTreeMap<Incarnation, (&ChitchatId, &NodeState)> = BTreeMap::new();
    for (id, node) in chitchat.node_states() {
        let known = latest.entry(incarnation(id)).or_insert((id, node));
        if id.generation_id > known.0.generation_id {
            *known = (id, node);
        }
    }
    latest.remove(&own);
    let hint = |(incarnation, (id, node)): (Incarnation, (&ChitchatId, &NodeState))| Hint {
        incarnation,
        name: id.node_id.to_string(),
        alive: live.contains(id),
        announcement: Announcement::read(node),
    };
    latest.into_iter().map(hint).collect()
}

fn incarnation(id: &ChitchatId) -> Incarnation {
    Incarnation(id.generation_id >> LIFE_BITS)
}
