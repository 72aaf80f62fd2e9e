use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use aesp_audit::{Event, Recorder};
use aesp_cluster::Fence;
use aesp_keys::Secrets;
use aesp_outbound::LateSecret;
use aesp_proto::{
    Clock, Entropy, Incarnation, TenantId,
    v1::{EventType, Outcome},
};
use aesp_storage::{Blind, Scan, Store};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Config, Error, Metrics, Report, SinkRow, Start,
    lane::{Inbox, Lane, Seen, Totals},
    read::Reader,
    rows,
    transport::{self, Means, Transport},
};

/// What sinks need from their neighbours.
pub struct Wiring {
    /// The store of the logs and cursors.
    pub store: Store,
    /// Where what befalls sinks is recorded.
    pub recorder: Recorder,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// For jitter and ids.
    pub entropy: Entropy,
    /// Where their secrets lie.
    pub secrets: Secrets,
    /// What they count.
    pub metrics: Metrics,
    /// This node's life, in whose name it reports.
    pub node: Incarnation,
    /// This node's name, which stands in events.
    pub name: String,
    /// Ends them.
    pub closing: CancellationToken,
}

/// The sinks of this node. Cheap to clone.
#[derive(Clone)]
pub struct Sinks {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) store: Store,
    recorder: Recorder,
    entropy: Entropy,
    /// Names the node in events.
    name: String,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) sinks: Vec<Sink>,
    node: Incarnation,
    metrics: Metrics,
    /// The tenants whose home this node is or was, for a lane that begins anew.
    homes: Mutex<HashMap<TenantId, Fence>>,
}

/// One sink at this node.
pub(crate) struct Sink {
    pub(crate) config: Config,
    pub(crate) id: Blind,
    /// For what an operator orders; lanes have their own.
    pub(crate) transport: Arc<dyn Transport>,
    lanes: Vec<(Arc<Inbox>, watch::Receiver<Seen>)>,
    totals: Arc<Totals>,
}

/// How often it is told how sinks fare: to metrics, and to the store.
const LOOK: Duration = Duration::from_secs(1);
const REPORT: Duration = Duration::from_secs(10);
/// A report that is older is of a node that is gone.
const OLD: Duration = Duration::from_secs(60);
/// From when on a sink is said to lag behind, and no more.
const LAGS: Duration = Duration::from_secs(60);
const CAUGHT_UP: Duration = Duration::from_secs(10);
/// The pause after a lane has crashed.
const RESTART: Duration = Duration::from_secs(1);

impl Sinks {
    /// Makes the sinks of the configuration and begins to serve them: nothing is sent before [`news`](Self::news) comes.
    ///
    /// # Errors
    /// [`Error::Setup`] if a file that a sink's configuration names can't be used, or the store's.
    pub async fn start(configs: &[Config], wiring: Wiring) -> Result<Self, Error> {
        let mut sinks = Vec::with_capacity(configs.len());
        let mut lanes = Vec::new();
        for config in configs {
            let (sink, own) = prepare(config, &wiring).await?;
            sinks.push(sink);
            lanes.push(own);
        }
        let inner = Arc::new(Inner {
            store: wiring.store.clone(),
            recorder: wiring.recorder.clone(),
            entropy: wiring.entropy.clone(),
            name: wiring.name.clone(),
            clock: Arc::clone(&wiring.clock),
            sinks,
            node: wiring.node,
            metrics: wiring.metrics.clone(),
            homes: Mutex::default(),
        });
        for (at, lanes) in lanes.into_iter().enumerate() {
            for (number, lane) in lanes.into_iter().enumerate() {
                let supervised = supervise(Arc::clone(&inner), at, number, Arc::new(lane));
                let closing = wiring.closing.clone();
                tokio::spawn(async move { closing.run_until_cancelled(supervised).await });
            }
        }
        let looking = look(Arc::clone(&inner));
        tokio::spawn(async move { wiring.closing.run_until_cancelled(looking).await });
        Ok(Self { inner })
    }

    /// Says that the tenant's log has grown, or that this node has become its home, as the fence proves. Never waits.
    pub fn news(&self, tenant: TenantId, fence: Fence) {
        if self.inner.sinks.is_empty() {
            return;
        }
        self.inner.homes.lock().unwrap_or_else(PoisonError::into_inner).insert(tenant, fence);
        for sink in &self.inner.sinks {
            sink.lane_of(tenant).put(tenant, fence);
        }
    }

    /// Returns the configurations, which hold references to secrets and no secret.
    #[must_use]
    pub fn configs(&self) -> Vec<&Config> {
        self.inner.sinks.iter().map(|sink| &sink.config).collect()
    }

    /// Returns how this node's part of the sink fares.
    ///
    /// # Errors
    /// [`Error::Unknown`].
    pub fn own_report(&self, name: &str) -> Result<Report, Error> {
        Ok(self.find(name)?.report(&*self.inner.clock))
    }

    /// Returns when the sink was first known, and how it fares at each living node, as they last told.
    ///
    /// # Errors
    /// [`Error::Unknown`], or the store's.
    pub async fn reports(&self, name: &str) -> Result<(SinkRow, Vec<(Incarnation, Report)>), Error> {
        let sink = self.find(name)?;
        let (id, now, name) = (sink.id, self.inner.clock.now(), sink.config.name.clone());
        let own = (self.inner.node, sink.report(&*self.inner.clock));
        let found = self.inner.store.run(move |tx| {
            let name = name.clone();
            Box::pin(async move {
                let (_, row) = rows::know(tx, &name, now).await?;
                let scan = Scan { prefix: aesp_storage::encode(&id), ..Scan::default() };
                let reports = tx.scan::<Report>(TenantId::PLATFORM, scan).await?;
                Ok::<_, aesp_storage::Error>((row, reports))
            })
        });
        let (row, reports) = found.await?;
        let others = reports.into_iter().filter_map(|((_, node), report)| {
            (node != own.0 && now.since(report.at) < OLD).then_some((node, report))
        });
        Ok((row, std::iter::once(own.clone()).chain(others).collect()))
    }

    pub(crate) fn find(&self, name: &str) -> Result<&Sink, Error> {
        let found = self.inner.sinks.iter().find(|sink| sink.config.name == name);
        found.ok_or_else(|| Error::Unknown(name.to_owned()))
    }
}

async fn prepare(config: &Config, wiring: &Wiring) -> Result<(Sink, Vec<Lane>), Error> {
    let (name, now) = (config.name.clone(), wiring.clock.now());
    let known = wiring.store.run(move |tx| {
        let name = name.clone();
        Box::pin(async move { rows::know(tx, &name, now).await })
    });
    let (id, row) = known.await?;
    let means = Means {
        secret: Arc::new(LateSecret::new(wiring.secrets.clone(), config.secret.clone())),
        clock: Arc::clone(&wiring.clock),
        entropy: wiring.entropy.clone(),
        node: wiring.name.clone(),
    };
    let since = (config.start == Start::Now).then_some(row.since);
    let totals = Arc::<Totals>::default();
    let mut lanes = Vec::new();
    let mut ends = Vec::new();
    for _ in 0..config.lanes.max(1) {
        let reader = Reader {
            store: wiring.store.clone(),
            sink: id,
            filter: config.filter(since),
            limits: config.limits(),
            transport: transport::open(config, means.clone())?,
        };
        let (seen, receiver) = watch::channel(Seen::default());
        let inbox = Arc::<Inbox>::default();
        ends.push((Arc::clone(&inbox), receiver));
        lanes.push(Lane {
            sink: config.name.clone(),
            id,
            reader: Arc::new(reader),
            recorder: wiring.recorder.clone(),
            clock: Arc::clone(&wiring.clock),
            entropy: wiring.entropy.clone(),
            metrics: wiring.metrics.clone(),
            inbox,
            seen,
            totals: Arc::clone(&totals),
        });
    }
    let sink =
        Sink { config: config.clone(), id, transport: transport::open(config, means)?, lanes: ends, totals };
    Ok((sink, lanes))
}

/// Runs a lane, and again after a crash, with all the tenants that it had.
async fn supervise(inner: Arc<Inner>, at: usize, number: usize, lane: Arc<Lane>) {
    loop {
        let ended = tokio::spawn(Arc::clone(&lane).run());
        let ended = AbortOnDrop(ended).ended().await;
        let sink = &inner.sinks[at];
        tracing::error!(sink = sink.config.name, error = ended, "a lane of an audit sink has crashed");
        tokio::time::sleep(RESTART).await;
        let homes = inner.homes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (tenant, fence) in homes {
            if sink.place_of(tenant) == number {
                lane.inbox.put(tenant, fence);
            }
        }
    }
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl AbortOnDrop {
    async fn ended(mut self) -> String {
        (&mut self.0).await.err().map_or_else(|| "it ended".to_owned(), |error| error.to_string())
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Sink {
    fn place_of(&self, tenant: TenantId) -> usize {
        usize::from(tenant.as_bytes()[15]) % self.lanes.len()
    }

    fn lane_of(&self, tenant: TenantId) -> &Inbox {
        &self.lanes[self.place_of(tenant)].0
    }

    fn report(&self, clock: &dyn Clock) -> Report {
        let seen: Vec<Seen> = self.lanes.iter().map(|(_, seen)| seen.borrow().clone()).collect();
        let lag = seen.iter().map(|seen| seen.lag).max().unwrap_or_default();
        let trouble = seen.iter().find_map(|seen| seen.trouble.clone());
        Report {
            at: clock.now(),
            pending: seen.iter().map(|seen| seen.pending).sum(),
            lag_ms: u64::try_from(lag.as_millis()).unwrap_or(u64::MAX),
            taken: self.totals.taken.load(Ordering::Relaxed),
            refused: self.totals.refused.load(Ordering::Relaxed),
            cause: trouble.as_ref().map(|trouble| trouble.cause.name().to_owned()).unwrap_or_default(),
            why: trouble.map(|trouble| trouble.why).unwrap_or_default(),
        }
    }
}

/// Tells metrics each second, and the store now and then, how the sinks fare here.
async fn look(inner: Arc<Inner>) {
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut reported: Option<Instant> = None;
    let mut lagging = vec![false; inner.sinks.len()];
    loop {
        ticks.tick().await;
        let reports: Vec<_> = inner.sinks.iter().map(|sink| (sink, sink.report(&*inner.clock))).collect();
        for ((sink, report), lags) in reports.iter().zip(&mut lagging) {
            let lag = Duration::from_millis(report.lag_ms);
            // Between the two it stays what it was said to be.
            if !*lags && lag >= LAGS || *lags && lag <= CAUGHT_UP {
                *lags = !*lags;
                tell_lag(&inner, sink, *lags, lag);
            }
            let label = [sink.config.name.as_str()];
            let metrics = &inner.metrics;
            metrics.lag_seconds.with_label_values(&label).set(report.lag_ms as f64 / 1_000.0);
            metrics.pending.with_label_values(&label).set(i64::try_from(report.pending).unwrap_or(i64::MAX));
            metrics.blocked.with_label_values(&label).set((!report.cause.is_empty()).into());
        }
        if reports.is_empty() || reported.is_some_and(|at| at.elapsed() < REPORT) {
            continue;
        }
        reported = Some(Instant::now());
        let (node, now) = (inner.node, inner.clock.now());
        let told: Vec<_> = reports.into_iter().map(|(sink, report)| (sink.id, report)).collect();
        let written = inner.store.run(move |tx| {
            let told = told.clone();
            Box::pin(async move {
                for (id, report) in &told {
                    rows::report(tx, *id, node, report).await?;
                    rows::clear_old(tx, *id, now).await?;
                }
                Ok::<_, aesp_storage::Error>(())
            })
        });
        if let Err(error) = written.await {
            tracing::debug!(%error, "how audit sinks fare is not reported");
        }
    }
}

/// Puts on record that this node's part of a sink lags behind, or does no more.
fn tell_lag(inner: &Inner, sink: &Sink, lags: bool, lag: Duration) {
    let (action, outcome) =
        if lags { ("sink.lagging", Outcome::Failure) } else { ("sink.caught_up", Outcome::Success) };
    let mut event = Event::new(&inner.entropy, TenantId::PLATFORM, EventType::SystemEvent, action, outcome);
    event.details.resource = format!("audit-sink:{}", sink.config.name);
    event.details.fields =
        vec![("node".into(), inner.name.clone()), ("lag_ms".into(), lag.as_millis().to_string())];
    let recorder = inner.recorder.clone();
    tokio::spawn(async move {
        if let Err(error) = recorder.append(vec![event]).await {
            tracing::warn!(%error, "an event about an audit sink is not on record");
        }
    });
}

impl std::fmt::Debug for Sinks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sinks")
    }
}
