use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use aesp_proto::{Clock, Entropy, Incarnation};
use bytes::Bytes;
use tokio::{net::TcpListener, sync::watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Answer, LiveTls, Metrics, NotSent, Options, Peer, PeerError, PeerService, Topic,
    dialler::Dialler,
    link::Link,
    listener,
    registry::Registry,
    secured::{Dial, TlsDial},
};
use crate::{ObserveRefusals, Surface, refusal::Refusals};

/// What peer links are given from outside.
#[derive(Clone)]
pub struct Context {
    /// Ends certificates.
    pub clock: Arc<dyn Clock>,
    /// Jitters pauses.
    pub entropy: Entropy,
    /// Counts.
    pub metrics: Metrics,
    /// Hears of refused connections.
    pub refused: Arc<dyn ObserveRefusals>,
}

/// The links of this node to the other nodes of its cluster, one a peer. Cheap to clone.
///
/// Of a pair the younger incarnation dials: a node that joins knows everybody from the rows, and nobody needs to hear of it
/// first.
#[derive(Clone)]
pub struct Peers(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) options: Arc<Options>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Entropy,
    pub(super) metrics: Metrics,
    pub(super) refusals: Refusals,
    pub(super) registry: Registry,
    pub(super) service: Arc<dyn PeerService>,
    pub(super) nodes: watch::Receiver<Arc<[Peer]>>,
    pub(super) tls: Option<LiveTls>,
    pub(super) attempts: AtomicU64,
    pub(super) stop: CancellationToken,
    pub(super) tasks: TaskTracker,
}

impl Peers {
    /// Starts to keep links to `nodes`, which are the living nodes as the store knows them; this node may be among them. A link
    /// to an incarnation that is no longer among them ends.
    #[must_use]
    pub fn start(
        context: Context,
        options: Options,
        tls: LiveTls,
        nodes: watch::Receiver<Arc<[Peer]>>,
        service: Arc<dyn PeerService>,
    ) -> Self {
        let dial = TlsDial { tls: tls.clone(), trust_domain: options.trust_domain.clone() };
        Self::start_over(context, options, Some(tls), nodes, service, Arc::new(dial))
    }

    pub(super) fn start_over(
        context: Context,
        options: Options,
        tls: Option<LiveTls>,
        nodes: watch::Receiver<Arc<[Peer]>>,
        service: Arc<dyn PeerService>,
        dial: Arc<dyn Dial>,
    ) -> Self {
        let refusals = Refusals::new(Surface::Peer, context.metrics.refused.clone(), context.refused);
        let inner = Inner {
            options: Arc::new(options),
            clock: context.clock,
            entropy: context.entropy,
            metrics: context.metrics,
            refusals,
            registry: Registry::new(),
            service,
            nodes,
            tls,
            attempts: AtomicU64::new(0),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        let peers = Self(Arc::new(inner));
        peers.0.tasks.spawn(peers.clone().keep(dial));
        peers
    }

    /// Serves the peers that dial this node, until [`Peers::stop`] or an error of the listener.
    ///
    /// # Errors
    /// When the server ends by itself.
    pub async fn serve(&self, listener: TcpListener) -> Result<(), tonic::transport::Error> {
        listener::serve_tcp(self, listener).await
    }

    /// Sends a request; its answer comes as a stream, which cancels the request at the other side when it is dropped.
    ///
    /// # Errors
    /// [`PeerError::NotSent`]. What happens later comes with the answer.
    pub fn request(&self, to: Incarnation, topic: Topic, payload: Bytes) -> Result<Answer, PeerError> {
        let answer = self.link(to).and_then(|link| link.request(topic, payload));
        self.count(topic, answer.as_ref().err());
        Ok(answer?)
    }

    /// Sends something that needs no answer: at most once, in order with the requests over the same link.
    ///
    /// # Errors
    /// [`PeerError::NotSent`]; without an error it may still be lost with the link.
    pub fn tell(&self, to: Incarnation, topic: Topic, payload: Bytes) -> Result<(), PeerError> {
        let told = self.link(to).and_then(|link| link.tell(topic, payload));
        self.count(topic, told.as_ref().err());
        Ok(told?)
    }

    /// Tells everybody that is connected and not overloaded.
    pub fn tell_all(&self, topic: Topic, payload: Bytes) {
        for link in self.0.registry.all() {
            let told = link.tell(topic, payload.clone());
            self.count(topic, told.as_ref().err());
        }
    }

    /// Returns the peers that a link is open to, and follows them.
    #[must_use]
    pub fn connected(&self) -> watch::Receiver<Arc<[Incarnation]>> {
        self.0.registry.connected()
    }

    /// Returns the protocol of each open link.
    #[must_use]
    pub fn spoken(&self) -> BTreeMap<Incarnation, u32> {
        let links = self.0.registry.all();
        links.iter().filter_map(|link| Some((link.peer, link.protocol()?))).collect()
    }

    /// Ends all links and the listener, and returns when the service has heard of it.
    pub async fn stop(&self) {
        self.0.stop.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    fn link(&self, to: Incarnation) -> Result<Arc<Link>, NotSent> {
        self.0.registry.get(to).ok_or(NotSent::NoLink)
    }

    fn count(&self, topic: Topic, error: Option<&NotSent>) {
        let outcome = match error {
            None => "sent",
            Some(NotSent::NoLink) => "no_link",
            Some(NotSent::LinkEnded) => "link_ended",
            Some(NotSent::Overloaded) => "overloaded",
            Some(NotSent::TooLarge) => "too_large",
        };
        self.0.metrics.requests.with_label_values(&[topic.name(), outcome]).inc();
    }

    pub(super) fn next_attempt(&self) -> u64 {
        self.0.attempts.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Keeps one dialler for each older node, and ends links to nodes that are gone.
    async fn keep(self, dial: Arc<dyn Dial>) {
        let mut nodes = self.0.nodes.clone();
        let mut ticks = tokio::time::interval(self.0.options.timing.heartbeat);
        let mut diallers: HashMap<Incarnation, (Peer, CancellationToken)> = HashMap::new();
        loop {
            let wanted = nodes.borrow_and_update().clone();
            let own = self.0.options.own;
            diallers.retain(|_, (peer, stop)| {
                let stays = wanted.contains(peer);
                if !stays {
                    stop.cancel();
                }
                stays
            });
            for peer in wanted.iter().filter(|peer| peer.incarnation < own) {
                diallers.entry(peer.incarnation).or_insert_with(|| {
                    let stop = self.0.stop.child_token();
                    let dialler = Dialler::new(self.clone(), dial.clone(), peer.clone());
                    self.0.tasks.spawn(dialler.run(stop.clone()));
                    (peer.clone(), stop)
                });
            }
            for link in self.0.registry.all() {
                if !wanted.iter().any(|peer| peer.incarnation == link.peer) {
                    link.close();
                }
            }
            loop {
                tokio::select! {
                    () = self.0.stop.cancelled() => return,
                    changed = nodes.changed() => {
                        if changed.is_err() {
                            // Whoever tells of nodes is gone: what is there stays, until the stop.
                            return self.0.stop.cancelled().await;
                        }
                        break;
                    }
                    _ = ticks.tick() => self.0.refusals.flush(),
                }
            }
        }
    }
}
