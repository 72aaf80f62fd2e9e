use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aesp_audit::Recorder;
use aesp_cluster::{Fence, Ownership};
use aesp_keys::Secrets;
use aesp_proto::{Clock, Entropy, TenantId};
use aesp_storage::{Store, Transaction};
use aesp_transparency::{
    Error as LogError,
    platform::{Grower, Options, PlatformLog, Status},
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::{
    Anchor, AnchorRow, Anchors, Config, Error, Metrics, WitnessRow,
    client::Client,
    lane::{Lane, Shared, Standing, Standings},
    teller::Teller,
};

const PLATFORM: TenantId = TenantId::PLATFORM;
/// How often it is looked whether heads wait.
const LOOK: Duration = Duration::from_millis(250);
/// How often it is looked whose turn it is, and how the witnesses stand.
const TURN: Duration = Duration::from_secs(1);
/// How long a witness may have a checkpoint before it is missed.
const LATE: Duration = Duration::from_secs(15);

/// What the duty needs.
pub struct Wiring {
    /// The store.
    pub store: Store,
    /// Whose shards are this node's.
    pub ownership: Ownership,
    /// Hears of what happens.
    pub recorder: Recorder,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Random ids.
    pub entropy: Entropy,
    /// Where the secret of the anchors' store lies.
    pub secrets: Secrets,
    /// What is counted.
    pub metrics: Metrics,
}

/// The platform log, its witnesses and its anchors, as this node is configured. Cheap to clone.
#[derive(Clone)]
pub struct Witnessing(Arc<Inner>);

struct Inner {
    wiring: Wiring,
    log: PlatformLog,
    configs: Vec<Config>,
    quorum: usize,
    anchor: Option<Anchor>,
    /// Whether too few witnesses cosign, as far as this node, while it is the home, has told.
    missing: Mutex<bool>,
}

impl Witnessing {
    /// Takes a configuration that was checked.
    #[must_use]
    pub fn new(configs: Vec<Config>, quorum: usize, anchor: Option<Anchor>, wiring: Wiring) -> Self {
        let log = PlatformLog::new(wiring.store.clone(), Arc::clone(&wiring.clock));
        Self(Arc::new(Inner { wiring, log, configs, quorum, anchor, missing: Mutex::new(false) }))
    }

    /// Returns the platform log, to be read.
    #[must_use]
    pub fn log(&self) -> &PlatformLog {
        &self.0.log
    }

    /// Returns the configured witnesses and how many of them must cosign.
    #[must_use]
    pub fn configured(&self) -> (&[Config], usize) {
        (&self.0.configs, self.0.quorum)
    }

    /// Returns what is known of each configured witness, in their order, and the last anchor.
    ///
    /// # Errors
    /// The store's.
    pub async fn known(&self) -> Result<(Vec<WitnessRow>, Option<AnchorRow>), Error> {
        let configs = &self.0.configs;
        let read = self.0.wiring.store.run_borrowing(|tx| {
            Box::pin(async move {
                let mut rows = Vec::new();
                for config in configs {
                    rows.push(WitnessRow::of(tx, &config.name).await?);
                }
                Ok::<_, aesp_storage::Error>((rows, tx.get::<AnchorRow>(PLATFORM, &()).await?))
            })
        });
        Ok(read.await?)
    }

    /// Forgets what a witness cosigned and what is held against it, within a transaction: it is asked anew.
    ///
    /// # Errors
    /// [`Error::Unknown`] or the store's.
    pub async fn reset(&self, tx: &Transaction, name: &str) -> Result<(), Error> {
        if !self.0.configs.iter().any(|config| config.name == name) {
            return Err(Error::Unknown(name.to_owned()));
        }
        Ok(WitnessRow { name: name.to_owned(), ..WitnessRow::default() }.put(tx).await?)
    }

    /// Begins the duty, until `closing`: whenever this node is the home of the platform's shard it looks after the log.
    pub fn start(&self, closing: CancellationToken) {
        let own = self.clone();
        tokio::spawn(closing.run_until_cancelled_owned(async move {
            let mut ticks = interval(TURN);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                if let Ok(fence) = own.fence() {
                    own.lead(fence).await;
                    own.0.wiring.metrics.step_down();
                }
            }
        }));
    }

    fn fence(&self) -> Result<Fence, aesp_cluster::Error> {
        self.0.wiring.ownership.fence(PLATFORM.as_bytes())
    }

    /// Looks after the log for as long as this node is the home.
    async fn lead(&self, fence: Fence) {
        let Inner { wiring, log, .. } = &*self.0;
        let teller = Teller { recorder: wiring.recorder.clone(), entropy: wiring.entropy.clone() };
        let (heads, heard) = watch::channel(0);
        let standing = Standings::default();
        let mut work = JoinSet::new();
        for lane in self.lanes(&teller, &standing) {
            work.spawn(lane.run(fence, heard.clone()));
        }
        let grower = Grower::new(
            wiring.store.clone(),
            Arc::clone(&wiring.clock),
            wiring.entropy.clone(),
            Options::default(),
        );
        let (metrics, telling) = (wiring.metrics.clone(), teller.clone());
        work.spawn(async move { grow(grower, fence, heads, metrics, telling).await });
        let anchors = self.0.anchor.clone().map(|config| Anchors {
            config,
            secrets: wiring.secrets.clone(),
            store: wiring.store.clone(),
            clock: Arc::clone(&wiring.clock),
            teller: teller.clone(),
            metrics: wiring.metrics.clone(),
            failing: None,
        });
        let (reads, quorum) = (log.clone(), self.0.quorum > 0);
        work.spawn(async move { anchor(anchors, reads, fence, quorum).await });
        let mut ticks = interval(TURN);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                // Nothing ends by itself while this node leads, unless it panicked: it begins anew.
                _ = work.join_next() => return,
            }
            if self.fence().ok() != Some(fence) {
                return;
            }
            self.count(&standing.all(), &teller).await;
        }
    }

    fn lanes(&self, teller: &Teller, standing: &Standings) -> Vec<Lane> {
        let Inner { wiring, log, configs, quorum, .. } = &*self.0;
        let shared = Shared {
            store: wiring.store.clone(),
            log: log.clone(),
            clock: Arc::clone(&wiring.clock),
            entropy: wiring.entropy.clone(),
            teller: teller.clone(),
            metrics: wiring.metrics.clone(),
            cosigners: configs.iter().filter_map(Config::cosigner).collect(),
            quorum: *quorum,
            standing: standing.clone(),
        };
        let lane = |config: &Config| match (config.cosigner(), Client::new(config)) {
            (Some(cosigner), Ok(client)) => {
                Some(Lane { config: config.clone(), cosigner, client, shared: shared.clone() })
            }
            (_, client) => {
                let why = client.err();
                error!(witness = config.name, why, "a witness can't be reached as it is configured");
                standing.note(&config.name, |stands| stands.behind_since = Some(wiring.clock.now()));
                None
            }
        };
        configs.iter().filter_map(lane).collect()
    }

    /// Shows how the witnesses stand, and tells when too few cosign, or enough again.
    async fn count(&self, standing: &[(String, Standing)], teller: &Teller) {
        let Inner { wiring, configs, quorum, missing, .. } = &*self.0;
        let now = wiring.clock.now();
        let mut well = configs.len();
        for config in configs {
            let found = standing.iter().find(|(name, _)| *name == config.name).map(|(_, standing)| *standing);
            let stands = found.unwrap_or_default();
            let lag = stands.behind_since.map(|since| now.since(since)).unwrap_or_default();
            let name = [config.name.as_str()];
            wiring.metrics.lag.with_label_values(&name).set(lag.as_secs_f64());
            wiring.metrics.contradicts.with_label_values(&name).set(stands.contradicts.into());
            if stands.contradicts || lag > LATE {
                well -= 1;
            }
        }
        let lacks = quorum.saturating_sub(well);
        wiring.metrics.quorum.set(i64::try_from(lacks).unwrap_or(i64::MAX));
        let is_missing = lacks > 0;
        let told = *missing.lock().unwrap_or_else(PoisonError::into_inner);
        if is_missing == told {
            return;
        }
        let fields = [("cosigning", well.to_string()), ("quorum", quorum.to_string())];
        let on_record = if is_missing {
            let why = format!("{well} of {} witnesses cosign, {quorum} must", configs.len());
            warn!(why, "the platform log lacks its quorum of witnesses");
            teller.alert("witness.quorum_lost", "platform-log", &why, &fields).await
        } else {
            teller.well("witness.quorum_regained", "platform-log", &fields).await
        };
        if on_record {
            *missing.lock().unwrap_or_else(PoisonError::into_inner) = is_missing;
        }
    }
}

/// Appends what waits; lets the lanes know.
async fn grow(grower: Grower, fence: Fence, heads: watch::Sender<u64>, metrics: Metrics, teller: Teller) {
    let mut damaged = false;
    loop {
        match grower.step(fence).await {
            Ok(grown) => {
                damaged = false;
                metrics.leaves.inc_by(grown.leaves);
                metrics.size.set(i64::try_from(grown.size).unwrap_or(i64::MAX));
                heads.send_if_modified(|size| std::mem::replace(size, grown.size) != grown.size);
                if grown.more {
                    continue;
                }
            }
            Err(LogError::Damaged(what)) => {
                metrics.damaged.inc();
                if !damaged {
                    error!(
                        what,
                        "the stored platform log is not what was signed: nothing more is signed of it"
                    );
                    damaged = teller.critical("log.damaged", "platform-log", &what, &[]).await;
                }
                sleep(TURN).await;
            }
            Err(error) => {
                warn!(%error, "the platform log does not grow; tried again until it does");
                sleep(TURN).await;
            }
        }
        sleep(LOOK).await;
    }
}

/// Anchors what is due, if anything is to be anchored.
async fn anchor(anchors: Option<Anchors>, log: PlatformLog, fence: Fence, quorum: bool) {
    let Some(mut anchors) = anchors else { return std::future::pending().await };
    loop {
        sleep(TURN).await;
        let status: Status = match log.status().await {
            Ok(status) => status,
            Err(LogError::Empty) => continue,
            Err(error) => {
                warn!(%error, "the platform log can't be read to be anchored");
                continue;
            }
        };
        anchors.step(fence, &status, quorum).await;
    }
}
