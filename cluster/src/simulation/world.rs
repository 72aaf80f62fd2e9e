use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use aesp_proto::{Entropy, Incarnation};
use aesp_storage::{MemoryEngine, MemoryOptions, Store};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use super::{
    engine::{NoKeys, SimEngine, Way},
    gate::Panics,
    model::{Model, Tally, entities, right, tenant},
    net::Net,
    node::{Common, Process, Wall},
};
use crate::{Cluster, Held, Options, look::View, placement::misplaced};

pub(super) const LEASE: Duration = Duration::from_secs(2);
/// Until when a healed cluster must have come to rest.
const REST: Duration = Duration::from_secs(60);

/// A cluster of simulated processes.
pub(super) struct World {
    pub(super) common: Common,
    pub(super) net: Net,
    /// The store without any fault.
    pub(super) truth: Store,
    rough: watch::Sender<bool>,
    names: Vec<String>,
    pub(super) processes: BTreeMap<String, Process>,
    walls: BTreeMap<String, Arc<Wall>>,
}

impl World {
    /// Starts a process for each name. In a rough world the store and the network misbehave a little all the time.
    pub(super) async fn new(seed: u64, names: &[&str], rough: bool) -> Self {
        let mut world = Self::empty(seed, names, rough).await;
        for name in names {
            world.start(name);
        }
        world
    }

    pub(super) async fn empty(seed: u64, names: &[&str], rough: bool) -> Self {
        let entropy = Entropy::from_seed(seed);
        let rough = watch::Sender::new(rough);
        let base = Arc::new(MemoryEngine::new(MemoryOptions::default()));
        let net = Net::new(entropy.clone(), rough.clone());
        let origin = Instant::now();
        let model = Model::new(Arc::clone(&base));
        let common = Common {
            entropy: entropy.clone(),
            model,
            net: net.clone(),
            entities: entities().into(),
            origin,
            panics: Panics::default(),
        };
        let clock = Arc::new(Wall { origin, off_ms: 0.into() });
        let truth = Store::new(base, Arc::new(NoKeys), clock, entropy);
        truth.initialise().await.unwrap();
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Self { common, net, truth, rough, names, processes: BTreeMap::new(), walls: BTreeMap::new() }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.common.origin.elapsed()
    }

    pub(super) fn options(name: &str) -> Options {
        let endpoint = format!("{name}:9444");
        Options { endpoint, lease: LEASE, grace: Duration::from_secs(1), ..Options::new(name) }
    }

    pub(super) fn start(&mut self, name: &str) {
        self.start_as(name, Self::options(name));
    }

    /// Starts a process under a key of its own, as whatever the options say.
    pub(super) fn start_as(&mut self, key: &str, options: Options) {
        let engine = SimEngine::new(
            Arc::clone(&self.common.model.base),
            self.common.entropy.clone(),
            self.rough.clone(),
        );
        let wall = self.wall(key);
        self.processes.insert(key.to_owned(), Process::start(&self.common, key, engine, wall, options));
    }

    pub(super) fn kill(&mut self, name: &str) {
        if let Some(process) = self.processes.remove(name) {
            self.net.close(name);
            process.gate.kill();
        }
    }

    /// Starts again what has ended or was killed, as a supervisor does.
    pub(super) fn restart_ended(&mut self, now: impl Fn() -> bool) {
        for name in self.names.clone() {
            let runs = self.processes.get(&name).is_some_and(|process| !process.has_ended());
            if !runs && now() {
                self.kill(&name);
                self.start(&name);
            }
        }
    }

    pub(super) fn process(&self, name: &str) -> &Process {
        &self.processes[name]
    }

    pub(super) fn cluster(&self, name: &str) -> Cluster {
        self.process(name).cluster().unwrap()
    }

    pub(super) fn own(&self, name: &str) -> Incarnation {
        self.cluster(name).own()
    }

    pub(super) fn freeze(&self, name: &str, how_long: Duration) {
        let Some(process) = self.processes.get(name) else { return };
        let gate = process.gate.clone();
        gate.freeze();
        tokio::spawn(async move {
            sleep(how_long).await;
            gate.thaw();
        });
    }

    pub(super) fn cut_store(&self, name: &str, way: Way, how_long: Duration) {
        let Some(process) = self.processes.get(name) else { return };
        let switch = process.engine.way.clone();
        switch.send_replace(way);
        tokio::spawn(async move {
            sleep(how_long).await;
            switch.send_replace(Way::Open);
        });
    }

    pub(super) fn step_clock(&mut self, name: &str, off_ms: i64) {
        self.wall(name).off_ms.store(off_ms, Ordering::SeqCst);
    }

    fn wall(&mut self, name: &str) -> Arc<Wall> {
        let origin = self.common.origin;
        let wall = self.walls.entry(name.to_owned());
        Arc::clone(wall.or_insert_with(|| Arc::new(Wall { origin, off_ms: 0.into() })))
    }

    /// Lets a node drain, leave and end.
    pub(super) fn leave(&self, name: &str) {
        let Some(process) = self.processes.get(name) else { return };
        let Some(cluster) = process.cluster() else { return };
        let ended = Arc::clone(&process.ended);
        process.gate.spawn(Box::pin(async move {
            cluster.drain().await;
            cluster.leave().await;
            ended.store(true, Ordering::SeqCst);
        }));
    }

    /// Lets a node revoke a right of a tenant: commit, apply here, pass the barrier.
    pub(super) fn revoke(&self, name: &str, number: u8) {
        let Some(process) = self.processes.get(name) else { return };
        let Some(cluster) = process.cluster() else { return };
        let (store, duties, model) =
            (process.store.clone(), Arc::clone(&process.duties), self.common.model.clone());
        process.gate.spawn(Box::pin(async move {
            let version = store
                .run(move |tx| {
                    Box::pin(async move {
                        tx.bump_revision(tenant(number)).await?;
                        let row = tx.get_raw(&right(number)).await?;
                        let last = row.map_or(0, |row| u64::from_be_bytes(row.as_ref().try_into().unwrap()));
                        tx.set_raw(&right(number), &(last + 1).to_be_bytes())?;
                        Ok::<_, aesp_storage::Error>(last + 1)
                    })
                })
                .await;
            let Ok(version) = version else { return };
            if duties.read(vec![number]).await.is_ok() && cluster.barrier().await.is_ok() {
                model.revoked(number, version);
            }
        }));
    }

    /// Waits for something that must come about.
    pub(super) async fn until(&self, what: &str, holds: impl AsyncFn(&Self) -> bool) {
        let begun = self.elapsed();
        while !holds(self).await {
            let waited = self.elapsed() - begun;
            self.check();
            assert!(waited < REST, "{what}: not within {waited:?}; {}", self.describe().await);
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Tells whether these nodes, and no others, live, serve, and have exactly what they should have in their hands.
    pub(super) async fn rests(&self, names: &[&str]) -> bool {
        let view = View::take(&self.truth).await.unwrap();
        let clusters: Vec<_> = names.iter().filter_map(|name| self.processes.get(*name)?.cluster()).collect();
        let owned: BTreeMap<Incarnation, usize> = clusters
            .iter()
            .map(|cluster| {
                let shards = cluster.ownership().shards();
                (cluster.own(), shards.iter().filter(|shard| shard.held == Held::Yes).count())
            })
            .collect();
        let members = view.members(&crate::observer::Observer::default(), Duration::ZERO);
        clusters.len() == names.len()
            && view.nodes.keys().eq(owned.keys())
            && clusters.iter().all(|cluster| cluster.ready().is_ok())
            && misplaced(&members, &view.placed()) == 0
            && owned.values().sum::<usize>() == view.shards.len()
    }

    /// Ends all faults, and waits for the cluster to be as if nothing had been.
    pub(super) async fn come_to_rest(&mut self) {
        self.rough.send_replace(false);
        self.net.heal();
        for process in self.processes.values() {
            process.gate.thaw();
            process.engine.way.send_replace(Way::Open);
        }
        for wall in self.walls.values() {
            wall.off_ms.store(0, Ordering::SeqCst);
        }
        let names = self.names.clone();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let begun = self.elapsed();
        while !self.rests(&names).await {
            self.restart_ended(|| true);
            self.check();
            assert!(self.elapsed() - begun < REST, "no rest: {}", self.describe().await);
            sleep(Duration::from_millis(200)).await;
        }
        for name in names {
            let passed = timeout(Duration::from_secs(2), self.cluster(name).barrier()).await;
            passed.expect("a barrier takes no time in a healthy cluster").unwrap();
        }
    }

    /// Kills everything, waits for what is on its way to the store, and checks what was written.
    pub(super) fn finish(mut self) -> Tally {
        for name in self.processes.keys().cloned().collect::<Vec<_>>() {
            self.kill(&name);
        }
        self.check();
        self.common.model.settle()
    }

    /// Fails if an invariant was broken anywhere.
    pub(super) fn check(&self) {
        let panics = self.common.panics.lock().unwrap();
        assert!(panics.is_empty(), "{:#?}", panics.first());
    }

    pub(super) async fn describe(&self) -> String {
        let view = View::take(&self.truth).await.unwrap();
        let rows: Vec<_> = view.nodes.iter().map(|(node, seen)| format!("{node}: {:?}", seen.row)).collect();
        let processes: Vec<_> = self
            .processes
            .values()
            .map(|process| {
                let cluster = process.cluster();
                let held = cluster.as_ref().map(|cluster| {
                    let shards = cluster.ownership().shards();
                    shards.iter().filter(|shard| shard.held == Held::Yes).count()
                });
                let failure = process.failure.lock().unwrap().clone();
                let ready = cluster.as_ref().map(Cluster::ready);
                format!("{}: held {held:?}, ready {ready:?}, failed {failure:?}", process.name)
            })
            .collect();
        format!("{rows:#?} {processes:#?}")
    }
}
