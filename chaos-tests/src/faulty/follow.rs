use std::{path::PathBuf, sync::Arc, time::Duration};

use aesp_proto::Entropy;
use aesp_storage::{Error, FaultEngine, Faults, Turbulence, UnknownCommit};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, warn};

use super::{Orders, StoreFault, crash::Crashing};

const LOOK: Duration = Duration::from_millis(20);
/// After so many looks commits that are late arrive.
const LATE: u32 = 8;

/// Reads the orders again and again, and steers the faults by them.
pub(super) struct Follower {
    file: PathBuf,
    engine: Arc<FaultEngine>,
    faults: Faults,
    crashing: Arc<Crashing>,
    orders: Orders,
    random: Entropy,
}

impl Follower {
    pub(super) fn new(
        file: PathBuf,
        engine: Arc<FaultEngine>,
        faults: Faults,
        crashing: Arc<Crashing>,
    ) -> Self {
        let orders = Orders::default();
        Self { file, engine, faults, crashing, orders, random: Entropy::from_seed(0) }
    }

    pub(super) async fn run(mut self) {
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut looks = 0_u32;
        loop {
            ticks.tick().await;
            match Orders::read(&self.file) {
                Ok(orders) if orders != self.orders => self.obey(orders),
                Ok(_) => {}
                Err(error) => {
                    error!(%error, file = %self.file.display(), "orders can't be read; the last hold")
                }
            }
            if let StoreFault::Unknown { late_percent, .. } = self.orders.store
                && self.random.below(100) < late_percent
            {
                self.faults.unknown(UnknownCommit::Late);
            }
            looks = looks.wrapping_add(1);
            if looks.is_multiple_of(LATE) {
                self.deliver().await;
            }
        }
    }

    /// Lets late commits arrive; most find that their request was given up.
    async fn deliver(&self) {
        for end in self.engine.deliver_late().await {
            match end {
                Ok(_) | Err(Error::Conflict) => {}
                Err(error) => warn!(%error, "a late commit could not be delivered"),
            }
        }
    }

    fn obey(&mut self, orders: Orders) {
        warn!(?orders, "new orders to break");
        self.faults.stall(orders.store == StoreFault::Stalled);
        let away = (orders.store == StoreFault::Unavailable).then(|| Error::unavailable("as ordered"));
        self.faults.fail(away);
        self.faults.turbulence(turbulence(&orders));
        self.crashing.order(orders.crash.clone(), orders.seed);
        self.random = Entropy::from_seed(orders.seed);
        self.orders = orders;
    }
}

fn turbulence(orders: &Orders) -> Option<Turbulence> {
    let calm = Turbulence {
        read: Duration::ZERO,
        commit: Duration::ZERO,
        spurious_conflict_one_in: 0,
        unknown_commit_one_in: 0,
        seed: orders.seed,
    };
    match orders.store {
        StoreFault::None | StoreFault::Unavailable | StoreFault::Stalled => None,
        StoreFault::Slow { read_ms, commit_ms } => Some(Turbulence {
            read: Duration::from_millis(read_ms),
            commit: Duration::from_millis(commit_ms),
            ..calm
        }),
        StoreFault::Unknown { one_in, .. } => {
            Some(Turbulence { spurious_conflict_one_in: 10, unknown_commit_one_in: one_in, ..calm })
        }
    }
}
