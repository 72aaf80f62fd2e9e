use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use aesp_proto::{Clock, Entropy, Error, ShardId, Timestamp};
use aesp_storage::Store;
use async_trait::async_trait;
use prometheus::Registry;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use super::{
    engine::{NoKeys, SimEngine},
    gate::{Gate, Panics},
    model::{Model, TENANTS, counter, right, tenant},
    net::{Net, SimWire},
};
use crate::{
    Changed, Cluster, Context, Duties, Held, Load, Metrics, Notice, ObserveNotices, Options, Ownership,
    cluster::Seams, steady::Steady,
};

/// A clock that runs a little fast or slow, as quartz does, only more.
#[derive(Debug)]
struct Quartz {
    origin: Instant,
    permille: u32,
}

impl Steady for Quartz {
    fn now(&self) -> Duration {
        Duration::from_secs(1_000) + self.origin.elapsed() * self.permille / 1_000
    }
}

/// A wall clock that can be set wrong.
#[derive(Debug)]
pub(super) struct Wall {
    pub(super) origin: Instant,
    pub(super) off_ms: AtomicI64,
}

impl Clock for Wall {
    fn now(&self) -> Timestamp {
        let off = Timestamp(1_800_000_000_000 + self.off_ms.load(Ordering::SeqCst));
        off.plus(self.origin.elapsed())
    }
}

/// What all nodes of a run have in common.
#[derive(Clone)]
pub(super) struct Common {
    pub(super) entropy: Entropy,
    pub(super) model: Model,
    pub(super) net: Net,
    pub(super) entities: Arc<[[u8; 16]]>,
    pub(super) origin: Instant,
    pub(super) panics: Panics,
}

/// A node's process.
pub(super) struct Process {
    pub(super) name: String,
    pub(super) gate: Gate,
    pub(super) engine: SimEngine,
    pub(super) store: Store,
    pub(super) duties: Arc<SimDuties>,
    /// Set when the node has joined and serves.
    pub(super) cluster: Arc<Mutex<Option<Cluster>>>,
    pub(super) ended: Arc<AtomicBool>,
    pub(super) failure: Arc<Mutex<Option<String>>>,
}

struct Notices(Model);

impl ObserveNotices for Notices {
    fn noticed(&self, notice: Notice) {
        self.0.noticed(notice.name());
    }
}

impl Process {
    pub(super) fn start(
        common: &Common,
        name: &str,
        engine: SimEngine,
        wall: Arc<Wall>,
        options: Options,
    ) -> Self {
        let gate = Gate::new(&common.panics);
        let clock: Arc<dyn Clock> = Arc::clone(&wall) as Arc<dyn Clock>;
        let store = Store::new(
            Arc::new(engine.clone()),
            Arc::new(NoKeys),
            Arc::clone(&clock),
            common.entropy.clone(),
        );
        let duties =
            Arc::new(SimDuties::new(store.clone(), common.entropy.clone(), Arc::clone(&common.panics)));
        let process = Self {
            name: name.to_owned(),
            gate: gate.clone(),
            engine,
            store: store.clone(),
            duties: Arc::clone(&duties),
            cluster: Arc::default(),
            ended: Arc::default(),
            failure: Arc::default(),
        };
        let (slot, ended, failure) =
            (Arc::clone(&process.cluster), Arc::clone(&process.ended), Arc::clone(&process.failure));
        let context = Context {
            store,
            clock,
            entropy: common.entropy.clone(),
            metrics: Metrics::register(&Registry::new()).unwrap(),
            notices: Arc::new(Notices(common.model.clone())),
        };
        let permille = 930 + u32::try_from(common.entropy.below(140)).unwrap();
        let seams =
            Seams { steady: Arc::new(Quartz { origin: common.origin, permille }), spawn: gate.spawner() };
        let (common, inner) = (common.clone(), gate.clone());
        gate.spawn(Box::pin(async move {
            if let Err(error) = live(common, context, options, seams, &inner, &duties, &slot).await {
                *failure.lock().unwrap() = Some(error);
            }
            ended.store(true, Ordering::SeqCst);
        }));
        process
    }

    pub(super) fn cluster(&self) -> Option<Cluster> {
        self.cluster.lock().unwrap().clone()
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }
}

/// The life of a node: joins, serves, acts as often as it may, and ends when its lease is lost for ever.
async fn live(
    common: Common,
    context: Context,
    options: Options,
    seams: Seams,
    gate: &Gate,
    duties: &Arc<SimDuties>,
    slot: &Mutex<Option<Cluster>>,
) -> Result<(), String> {
    let (name, alone) = (options.name.clone(), options.endpoint.is_empty());
    let cluster = Cluster::join_on(context, options, seams).await.map_err(|error| format!("{error:?}"))?;
    let own = cluster.own();
    common.net.listen(&name, &cluster, gate);
    duties.load_rights().await.map_err(|error| error.to_string())?;
    // Rights change between their load and the first act, too.
    let rough = *common.net.rough.borrow();
    if rough && common.entropy.below(2) == 0 {
        sleep(Duration::from_millis(common.entropy.below(1_000))).await;
    }
    duties.dawdling.subscribe().wait_for(|dawdling| !dawdling).await.ok();
    let wire = SimWire { net: common.net.clone(), name, own };
    duties.ownership.lock().unwrap().replace(cluster.ownership());
    let wire = (!alone).then(|| Arc::new(wire) as Arc<dyn crate::wire::Wire>);
    cluster.serve_over(Arc::clone(duties) as Arc<dyn Duties>, wire);
    *slot.lock().unwrap() = Some(cluster.clone());
    let lease = cluster.lease();
    loop {
        tokio::select! {
            biased;
            () = lease.lost() => return Err("lost its lease".into()),
            () = sleep(Duration::from_millis(10 + common.entropy.below(60))) => {}
        }
        for _ in 0..4 {
            let entity = common.entities[usize::try_from(common.entropy.below(256)).unwrap()];
            if let Ok(fence) = cluster.ownership().fence(&entity) {
                common.model.act(own, fence.shard, fence.epoch);
                if common.entropy.below(8) == 0 {
                    let (store, model) = (duties.store.clone(), common.model.clone());
                    gate.spawn(Box::pin(write(store, model, fence)));
                }
            }
        }
        if lease.is_held() || duties.hasty.load(Ordering::SeqCst) {
            let versions = duties.rights.lock().unwrap().clone();
            for (tenant, version) in versions {
                common.model.use_right(own, tenant, version);
            }
        }
    }
}

/// Counts one up in a shard, as its owner.
async fn write(store: Store, model: Model, fence: crate::Fence) {
    let shard = fence.shard;
    model.begin_write(shard);
    let written = store
        .run(move |tx| {
            Box::pin(async move {
                fence.check(tx).await?;
                let key = counter(shard);
                let count = tx.get_raw(&key).await?;
                let count = count.map_or(0, |count| u64::from_be_bytes(count.as_ref().try_into().unwrap()));
                tx.set_raw(&key, &(count + 1).to_be_bytes())
            })
        })
        .await;
    match written {
        Ok(()) => model.end_write(shard, true),
        // It may have landed.
        Err(aesp_storage::Error::CommitUnknown) => {}
        Err(_) => model.end_write(shard, false),
    }
}

/// A panic that is meant.
const BROKEN: &str = "broken on purpose";

/// What a node does for its cluster, with the contract of [`Duties`] checked.
pub(super) struct SimDuties {
    store: Store,
    entropy: Entropy,
    pub(super) rights: Mutex<BTreeMap<u8, u64>>,
    ownership: Mutex<Option<Ownership>>,
    busy: Mutex<BTreeSet<ShardId>>,
    panics: Panics,
    pub(super) leaving: AtomicUsize,
    pub(super) most_leaving: AtomicUsize,
    /// How often shards were lost, however many at once.
    pub(super) losses: AtomicUsize,
    /// The node waits with its rights loaded before it serves.
    pub(super) dawdling: watch::Sender<bool>,
    /// Rights can't be applied.
    pub(super) stuck: AtomicBool,
    /// Applying rights panics.
    pub(super) broken: AtomicBool,
    /// A planted fault: the node acts on its rights as soon as it has them, whether it is admitted yet or not.
    pub(super) hasty: AtomicBool,
}

impl SimDuties {
    fn new(store: Store, entropy: Entropy, panics: Panics) -> Self {
        Self {
            store,
            entropy,
            panics,
            rights: Mutex::default(),
            ownership: Mutex::default(),
            busy: Mutex::default(),
            leaving: AtomicUsize::new(0),
            most_leaving: AtomicUsize::new(0),
            losses: AtomicUsize::new(0),
            dawdling: watch::Sender::new(false),
            stuck: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            hasty: AtomicBool::new(false),
        }
    }

    async fn load_rights(&self) -> Result<(), aesp_storage::Error> {
        self.read((0..TENANTS).collect()).await
    }

    pub(super) async fn read(&self, tenants: Vec<u8>) -> Result<(), aesp_storage::Error> {
        let tenants = &tenants;
        let read = self.store.run_borrowing(|tx| {
            Box::pin(async move {
                let mut out = BTreeMap::new();
                for tenant in tenants {
                    let row = tx.get_raw(&right(*tenant)).await?;
                    let version = row.map_or(0, |row| u64::from_be_bytes(row.as_ref().try_into().unwrap()));
                    out.insert(*tenant, version);
                }
                Ok::<_, aesp_storage::Error>(out)
            })
        });
        let read = read.await?;
        let mut rights = self.rights.lock().unwrap();
        for (tenant, version) in read {
            let known = rights.entry(tenant).or_default();
            *known = version.max(*known);
        }
        Ok(())
    }

    fn held(&self, shard: ShardId) -> Held {
        self.ownership.lock().unwrap().as_ref().unwrap().shards()[usize::from(shard.0)].held
    }

    fn begin(&self, shard: ShardId) {
        let first = self.busy.lock().unwrap().insert(shard);
        self.check(first, || format!("two duties at once for shard {shard}"));
    }

    /// Notes a broken contract: a panic would be caught.
    fn check(&self, holds: bool, what: impl Fn() -> String) {
        if !holds {
            self.panics.lock().unwrap().push(what());
        }
    }

    fn end(&self, shard: ShardId) {
        self.busy.lock().unwrap().remove(&shard);
    }
}

#[async_trait]
impl Duties for SimDuties {
    async fn apply(&self, changed: &Changed) -> Result<(), Error> {
        assert!(!self.broken.load(Ordering::SeqCst), "{BROKEN}");
        if self.stuck.load(Ordering::SeqCst) {
            return Err(Error::internal("stuck"));
        }
        let tenants = (0..TENANTS).filter(|number| match changed {
            Changed::Everything => true,
            Changed::Tenants(tenants) => tenants.contains(&tenant(*number)),
        });
        Ok(self.read(tenants.collect()).await?)
    }

    async fn arrive(&self, shard: ShardId) {
        self.begin(shard);
        sleep(Duration::from_micros(self.entropy.below(20_000))).await;
        self.end(shard);
    }

    async fn hand_over(&self, shard: ShardId, grace: Duration) {
        self.begin(shard);
        self.check(self.held(shard) != Held::Yes, || format!("something may begin in leaving shard {shard}"));
        let now = self.leaving.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_leaving.fetch_max(now, Ordering::SeqCst);
        sleep(Duration::from_micros(self.entropy.below(200_000)).min(grace)).await;
        self.leaving.fetch_sub(1, Ordering::SeqCst);
        self.end(shard);
    }

    fn lose(&self, shards: &[ShardId]) {
        self.losses.fetch_add(1, Ordering::SeqCst);
        for shard in shards {
            self.check(self.held(*shard) != Held::Yes, || format!("lost shard {shard} is held"));
        }
    }

    fn load(&self) -> Load {
        Load::default()
    }
}
