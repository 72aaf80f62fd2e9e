use std::{collections::HashMap, sync::Arc, time::Duration};

use aesp_proto::{Entropy, TenantId};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};
use tracing::warn;

use crate::{Error, Refused, queues::Queues, refused::Refusals, unit::Events};

/// Events of one unit.
const UNIT_EVENTS: usize = 256;

/// Writes the counts of refusals before authentication, and takes back what could not be written.
pub(crate) struct Flusher {
    pub(crate) queues: Arc<Queues>,
    pub(crate) refusals: Arc<Refusals>,
    pub(crate) entropy: Entropy,
    pub(crate) every: Duration,
    pub(crate) closed: watch::Receiver<bool>,
}

impl Flusher {
    /// Runs until the writers are told to stop, or nobody is left who could tell.
    pub(crate) async fn run(mut self) {
        let mut ticks = interval(self.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let stop = tokio::select! {
                _ = ticks.tick() => false,
                // The sender goes with the duty, but the recorder may live on without it.
                Ok(()) = self.closed.changed() => true,
            };
            let stopped = self.flush().await;
            if stop || stopped {
                break;
            }
        }
        self.queues.close();
        let lost: u64 = self.refusals.take().values().sum();
        if lost > 0 {
            warn!(lost, "refusals before authentication could not be recorded before the stop");
        }
    }

    /// Tells whether the queues are closed.
    async fn flush(&self) -> bool {
        let mut by_tenant: HashMap<TenantId, Vec<(Refused, u64)>> = HashMap::new();
        for (refusal, count) in self.refusals.take() {
            by_tenant.entry(refusal.tenant.unwrap_or(TenantId::PLATFORM)).or_default().push((refusal, count));
        }
        let mut stopped = false;
        for (tenant, refusals) in by_tenant {
            for part in refusals.chunks(UNIT_EVENTS) {
                stopped |= self.write(tenant, part).await;
            }
        }
        stopped
    }

    async fn write(&self, tenant: TenantId, refusals: &[(Refused, u64)]) -> bool {
        let event = |(refusal, count): &(Refused, u64)| refusal.event(&self.entropy, tenant, *count);
        let (change, outcome) = Events::new(refusals.iter().map(event).collect());
        let outcome = match self.queues.push(tenant, Arc::new(change)) {
            Ok(()) => outcome.await.unwrap_or(Err(Error::Lost)).map(drop),
            Err(error) => Err(error),
        };
        let Err(error) = outcome else { return false };
        // A tenant without keys has no log to write to; the platform's takes its part.
        let keyless = matches!(error, Error::Store(_));
        for (refusal, count) in refusals {
            let tenant = refusal.tenant.filter(|_| !keyless);
            self.refusals.add(Refused { tenant, ..refusal.clone() }, *count);
        }
        matches!(error, Error::Stopped)
    }
}
