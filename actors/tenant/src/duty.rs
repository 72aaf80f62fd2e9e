use std::{sync::Arc, time::Duration};

use aesp_supervision::{Restart, Supervisor};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::time::{Instant, sleep};

use crate::{
    Error, Tenants,
    exchange::of,
    tenant::{Seat, Tenant},
};

/// How often the duty may crash.
const RESTART: Restart = Restart { intensity: 5, within: Duration::from_secs(60) };
/// How often homes hear that time passes.
const TICK: Duration = Duration::from_millis(100);
/// Every how many ticks a node looks for what it does not use.
const LOOK: u32 = 10;

/// Lets time pass for homes, and gives back what is not used.
struct Duty;

struct Tick;

pub(crate) async fn start(supervisor: &Supervisor, tenants: Tenants) -> Result<(), Error> {
    supervisor.start("tenant-duty", RESTART, move || (Duty, tenants.clone())).await?;
    Ok(())
}

impl Actor for Duty {
    type Msg = Tick;
    type State = (Tenants, u32);
    type Arguments = Tenants;

    async fn pre_start(
        &self,
        myself: ActorRef<Tick>,
        tenants: Tenants,
    ) -> Result<(Tenants, u32), ActorProcessingErr> {
        let _timer = myself.send_after(TICK, || Tick);
        Ok((tenants, 0))
    }

    async fn handle(
        &self,
        myself: ActorRef<Tick>,
        _: Tick,
        (tenants, ticks): &mut (Tenants, u32),
    ) -> Result<(), ActorProcessingErr> {
        *ticks = (*ticks + 1) % LOOK;
        tenants.tick(*ticks == 0);
        let _timer = myself.send_after(TICK, || Tick);
        Ok(())
    }
}

/// How long a node that leaves waits for the store.
const LEAVES: Duration = Duration::from_secs(1);

impl Tenants {
    /// Gives back everything, so that nothing stays reserved when this node is gone. What runs must have ended.
    pub async fn leave(&self) {
        let all: Vec<Arc<Tenant>> = self.0.tenants.iter().map(|tenant| tenant.clone()).collect();
        for tenant in &all {
            let report = tenant.holder().leave(&tenant.gate);
            self.report(tenant, report);
        }
        let until = Instant::now() + LEAVES;
        loop {
            let mut settled = true;
            for tenant in &all {
                let effects = match &mut *tenant.seat() {
                    Seat::Taken(home) => {
                        let effects = of(home.term(), home.settle_up());
                        settled &= home.is_settled();
                        effects
                    }
                    Seat::Empty | Seat::Loading(..) => Vec::new(),
                };
                self.carry_out(tenant, effects);
            }
            if settled || Instant::now() >= until {
                return;
            }
            sleep(LEAVES / 100).await;
        }
    }

    fn tick(&self, look: bool) {
        let living = (self.0.wiring.living)();
        let all: Vec<Arc<Tenant>> = self.0.tenants.iter().map(|tenant| tenant.clone()).collect();
        let mut homes = 0;
        for tenant in all {
            let now = self.time();
            let effects = {
                let mut seat = tenant.seat();
                let standing = self.standing(tenant.id);
                match &mut *seat {
                    Seat::Taken(home)
                        if standing.is_some_and(|fence| fence.epoch().0 == home.term().epoch) =>
                    {
                        homes += 1;
                        let effects = of(home.term(), home.tick(&living, now));
                        if effects.is_empty() && home.is_idle() {
                            *seat = Seat::Empty;
                        }
                        effects
                    }
                    // Of an epoch that is over.
                    Seat::Taken(_) => {
                        *seat = Seat::Empty;
                        Vec::new()
                    }
                    Seat::Empty | Seat::Loading(..) => Vec::new(),
                }
            };
            self.carry_out(&tenant, effects);
            if look {
                let report = tenant.holder().look(&tenant.gate);
                if let Some(report) = report {
                    self.report(&tenant, report);
                }
            }
        }
        self.0.wiring.metrics.homes.set(homes);
    }
}
