use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use aesp_proto::{Entropy, Incarnation};
use bytes::Bytes;
use futures::{StreamExt, future::BoxFuture};
use tokio::{
    sync::{oneshot, watch},
    time::sleep,
};

use super::gate::Gate;
use crate::{
    Cluster,
    gossip::Announcement,
    peer::{NotSent, PeerError, Topic},
    wire::Wire,
};

/// How long a link takes at most to find out that it is cut.
const SILENCE: Duration = Duration::from_secs(2);

/// The network between nodes: late, lossy, sometimes twice, and cut in one direction or both.
#[derive(Clone)]
pub(super) struct Net {
    pub(super) entropy: Entropy,
    pub(super) rough: watch::Sender<bool>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// From whom nothing comes to whom.
    cut: BTreeSet<(String, String)>,
    ports: BTreeMap<Incarnation, Port>,
}

#[derive(Clone)]
struct Port {
    name: String,
    cluster: Cluster,
    gate: Gate,
}

impl Net {
    pub(super) fn new(entropy: Entropy, rough: watch::Sender<bool>) -> Self {
        Self { entropy, rough, state: Arc::default() }
    }

    pub(super) fn listen(&self, name: &str, cluster: &Cluster, gate: &Gate) {
        let port = Port { name: name.to_owned(), cluster: cluster.clone(), gate: gate.clone() };
        self.state.lock().unwrap().ports.insert(cluster.own(), port);
    }

    pub(super) fn close(&self, name: &str) {
        self.state.lock().unwrap().ports.retain(|_, port| port.name != name);
    }

    pub(super) fn cut(&self, from: &str, to: &str) {
        self.state.lock().unwrap().cut.insert((from.to_owned(), to.to_owned()));
    }

    pub(super) fn heal(&self) {
        self.state.lock().unwrap().cut.clear();
    }

    fn is_cut(&self, from: &str, to: &str) -> bool {
        self.state.lock().unwrap().cut.contains(&(from.to_owned(), to.to_owned()))
    }

    fn port(&self, node: Incarnation) -> Option<Port> {
        self.state.lock().unwrap().ports.get(&node).cloned()
    }

    fn one_in(&self, n: u64) -> bool {
        *self.rough.borrow() && self.entropy.below(n) == 0
    }

    /// A reset is heard at once, silence is not.
    async fn find_out(&self) {
        sleep(SILENCE * u32::try_from(self.entropy.below(100)).unwrap() / 100).await;
    }

    async fn travel(&self) {
        let most = if self.one_in(20) { 400_000 } else { 3_000 };
        sleep(Duration::from_micros(self.entropy.below(most))).await;
    }
}

/// One node's place in the network.
pub(super) struct SimWire {
    pub(super) net: Net,
    pub(super) name: String,
    pub(super) own: Incarnation,
}

impl Wire for SimWire {
    fn ask(
        &self,
        to: Incarnation,
        topic: Topic,
        payload: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, PeerError>> {
        let (net, name, own) = (self.net.clone(), self.name.clone(), self.own);
        Box::pin(async move {
            let port = net.port(to).ok_or(NotSent::NoLink)?;
            net.travel().await;
            if net.is_cut(&name, &port.name) || net.one_in(20) {
                net.find_out().await;
                return Err(PeerError::Lost);
            }
            let (answered, answer) = oneshot::channel();
            let (cluster, again) = (port.cluster.clone(), payload.clone());
            port.gate.spawn(Box::pin(async move {
                let answer = cluster.asked(own, topic, payload).next().await;
                answered.send(answer).ok();
            }));
            if net.one_in(20) {
                let cluster = port.cluster.clone();
                port.gate.spawn(Box::pin(async move {
                    cluster.asked(own, topic, again).next().await;
                }));
            }
            let answer = answer.await.map_err(|_| PeerError::Lost)?;
            net.travel().await;
            if net.is_cut(&port.name, &name) || net.one_in(20) {
                net.find_out().await;
                return Err(PeerError::Lost);
            }
            answer.ok_or(PeerError::Lost)?.map_err(PeerError::Refused)
        })
    }

    fn tell_all(&self, topic: Topic, payload: Bytes) {
        let ports: Vec<Port> = self.net.state.lock().unwrap().ports.values().cloned().collect();
        for port in ports.into_iter().filter(|port| port.name != self.name) {
            let (net, name, own, payload) = (self.net.clone(), self.name.clone(), self.own, payload.clone());
            tokio::spawn(async move {
                net.travel().await;
                if net.is_cut(&name, &port.name) || net.one_in(10) {
                    return;
                }
                let cluster = port.cluster.clone();
                port.gate.spawn(Box::pin(async move { cluster.told(own, topic, payload) }));
            });
        }
    }

    fn announce(&self, _: Announcement) {}

    fn heard(&self) -> BTreeMap<Incarnation, bool> {
        let state = self.net.state.lock().unwrap();
        state.ports.keys().map(|node| (*node, true)).collect()
    }

    fn connected(&self) -> Vec<Incarnation> {
        let state = self.net.state.lock().unwrap();
        let linked = |name: &str| {
            let (there, back) = ((self.name.clone(), name.to_owned()), (name.to_owned(), self.name.clone()));
            !state.cut.contains(&there) && !state.cut.contains(&back)
        };
        state.ports.iter().filter(|(_, port)| linked(&port.name)).map(|(node, _)| *node).collect()
    }

    fn spoken(&self) -> BTreeMap<Incarnation, u32> {
        let newest = *crate::peer::spoken_protocols().end();
        self.connected().into_iter().map(|node| (node, newest)).collect()
    }
}
