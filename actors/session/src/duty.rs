use std::{sync::atomic::Ordering, time::Duration};

use aesp_proto::TenantId;
use aesp_supervision::{Restart, Supervisor, Unavailable};
use ractor::{Actor, ActorProcessingErr, ActorRef};

use crate::{Error, Sessions};

/// How often the duty may crash.
const RESTART: Restart = Restart { intensity: 5, within: Duration::from_secs(60) };

/// Tenants read at once.
const PAGE: usize = 1_000;

/// Expires, purges and passivates sessions.
struct Duty;

/// Time for the next sweep.
struct Tick;

pub(crate) async fn start(supervisor: &Supervisor, sessions: Sessions) -> Result<(), Error> {
    supervisor.start("session-duty", RESTART, move || (Duty, sessions.clone())).await?;
    Ok(())
}

impl Actor for Duty {
    type Msg = Tick;
    type State = Sessions;
    type Arguments = Sessions;

    /// Takes note of the tenants that have sessions from before; those of others announce themselves.
    async fn pre_start(
        &self,
        myself: ActorRef<Tick>,
        sessions: Sessions,
    ) -> Result<Sessions, ActorProcessingErr> {
        sessions.note_tenants().await.map_err(Unavailable::because)?;
        again(&myself, &sessions);
        Ok(sessions)
    }

    async fn handle(
        &self,
        myself: ActorRef<Tick>,
        _: Tick,
        sessions: &mut Sessions,
    ) -> Result<(), ActorProcessingErr> {
        let now = sessions.now();
        sessions.passivate(now);
        if sessions.0.arrived.swap(false, Ordering::AcqRel)
            && let Err(error) = sessions.note_tenants().await
        {
            sessions.0.arrived.store(true, Ordering::Release);
            return Err(Unavailable::because(error));
        }
        let tenants: Vec<TenantId> = sessions.0.tenancies.iter().map(|entry| *entry.key()).collect();
        for tenant in tenants {
            // Sweeping is the whole work of this actor, so it may wait here; an outage of the store parks it.
            sessions.sweep(tenant, now).await.map_err(Unavailable::because)?;
        }
        again(&myself, sessions);
        Ok(())
    }
}

fn again(myself: &ActorRef<Tick>, sessions: &Sessions) {
    let _timer = myself.send_after(sessions.0.options.sweep_every, || Tick);
}

impl Sessions {
    async fn note_tenants(&self) -> Result<(), Error> {
        let mut after = None;
        loop {
            let run = self.0.context.store.run(move |tx| {
                Box::pin(async move { Ok::<_, Error>(aesp_tenant::list(tx, after, PAGE).await?) })
            });
            let tenants = run.await?;
            let Some(last) = tenants.last().map(|row| row.id) else { return Ok(()) };
            after = Some(last);
            for row in tenants.iter().filter(|row| row.status != aesp_tenant::Status::Deleted) {
                self.tenancy(row.id);
            }
        }
    }
}
