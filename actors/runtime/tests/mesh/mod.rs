//! Links between nodes in memory: in order, at most once, and cut when the test says so.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use aesp_proto::{Entropy, Incarnation};
use aesp_runtime::{LinkError, PeerAnswer, Peers, Runtimes};
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

type Parts = mpsc::UnboundedSender<Result<Bytes, LinkError>>;

enum Item {
    Tell(Bytes),
    Request(Bytes, Parts),
}

/// One direction of a link.
#[derive(Clone)]
struct Way {
    queue: mpsc::UnboundedSender<Item>,
    cut: CancellationToken,
}

/// What happens to tells.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weather {
    Fair,
    /// A third are lost, come twice, or come late.
    Foul,
}

pub(crate) struct Mesh {
    nodes: Mutex<BTreeMap<Incarnation, Runtimes>>,
    ways: Mutex<BTreeMap<(Incarnation, Incarnation), Way>>,
    weather: Mutex<Weather>,
    entropy: Entropy,
}

struct MeshPeers {
    own: Incarnation,
    mesh: Arc<Mesh>,
}

impl Mesh {
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self {
            nodes: Mutex::default(),
            ways: Mutex::default(),
            weather: Mutex::new(Weather::Fair),
            entropy: Entropy::from_seed(seed),
        })
    }

    /// Adds a node with links to all others.
    pub(crate) fn join(self: &Arc<Self>, own: Incarnation, runtimes: &Runtimes) {
        runtimes.join(own, Arc::new(MeshPeers { own, mesh: Arc::clone(self) }));
        let others: Vec<_> = self.nodes.lock().unwrap().keys().copied().collect();
        self.nodes.lock().unwrap().insert(own, runtimes.clone());
        for other in others {
            self.connect(own, other);
        }
    }

    pub(crate) fn weather(&self, weather: Weather) {
        *self.weather.lock().unwrap() = weather;
    }

    pub(crate) fn connect(self: &Arc<Self>, a: Incarnation, b: Incarnation) {
        for (from, to) in [(a, b), (b, a)] {
            let (queue, items) = mpsc::unbounded_channel();
            let way = Way { queue, cut: CancellationToken::new() };
            tokio::spawn(Arc::clone(self).carry(from, self.node(to), items, way.cut.clone()));
            self.ways.lock().unwrap().insert((from, to), way);
        }
        self.node(a).peer_up(b);
        self.node(b).peer_up(a);
    }

    pub(crate) fn cut(&self, a: Incarnation, b: Incarnation) {
        for pair in [(a, b), (b, a)] {
            if let Some(way) = self.ways.lock().unwrap().remove(&pair) {
                way.cut.cancel();
            }
        }
        self.node(a).peer_down(b);
        self.node(b).peer_down(a);
    }

    fn node(&self, incarnation: Incarnation) -> Runtimes {
        self.nodes.lock().unwrap()[&incarnation].clone()
    }

    async fn carry(
        self: Arc<Self>,
        from: Incarnation,
        to: Runtimes,
        mut items: mpsc::UnboundedReceiver<Item>,
        cut: CancellationToken,
    ) {
        let mut late = Vec::new();
        while let Some(Some(item)) = cut.run_until_cancelled(items.recv()).await {
            match item {
                Item::Tell(payload) => {
                    let foul = *self.weather.lock().unwrap() == Weather::Foul;
                    match self.entropy.below(9) {
                        0 if foul => {}
                        1 if foul => late.push(payload),
                        luck => {
                            to.told(from, payload.clone());
                            late.drain(..).for_each(|payload| to.told(from, payload));
                            if foul && luck == 2 {
                                to.told(from, payload);
                            }
                        }
                    }
                }
                Item::Request(payload, parts) => {
                    let answer = to.asked(from, payload);
                    tokio::spawn(answered(answer, parts, cut.clone()));
                }
            }
        }
        items.close();
        while let Ok(item) = items.try_recv() {
            if let Item::Request(_, parts) = item {
                drop(parts.send(Err(LinkError::NotSent)));
            }
        }
    }
}

/// Carries an answer until it ends, nobody wants it any more, or the link is cut.
async fn answered(
    mut answer: stream::BoxStream<'static, Result<Bytes, aesp_proto::Error>>,
    parts: Parts,
    cut: CancellationToken,
) {
    loop {
        let part = tokio::select! {
            part = answer.next() => part,
            () = parts.closed() => return,
            () = cut.cancelled() => {
                drop(parts.send(Err(LinkError::Lost)));
                return;
            }
        };
        let Some(part) = part else { return };
        if parts.send(part.map_err(LinkError::Refused)).is_err() {
            return;
        }
    }
}

impl Peers for MeshPeers {
    fn request(&self, to: Incarnation, payload: Bytes) -> Result<PeerAnswer, LinkError> {
        let way = self.mesh.ways.lock().unwrap().get(&(self.own, to)).cloned();
        let (parts, received) = mpsc::unbounded_channel();
        let way = way.ok_or(LinkError::NotSent)?;
        way.queue.send(Item::Request(payload, parts)).map_err(|_| LinkError::NotSent)?;
        let answer = stream::unfold(received, |mut received| async move {
            let part = received.recv().await?;
            Some((part, received))
        });
        Ok(answer.boxed())
    }

    fn tell(&self, to: Incarnation, payload: Bytes) {
        let way = self.mesh.ways.lock().unwrap().get(&(self.own, to)).cloned();
        if let Some(way) = way {
            drop(way.queue.send(Item::Tell(payload)));
        }
    }

    fn tell_all(&self, payload: Bytes) {
        for ((from, _), way) in self.mesh.ways.lock().unwrap().iter() {
            if *from == self.own {
                drop(way.queue.send(Item::Tell(payload.clone())));
            }
        }
    }
}
