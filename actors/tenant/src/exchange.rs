//! What homes and holders tell each other, here and over links, and what homes want of the store.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use aesp_cluster::Fence;
use aesp_proto::{Incarnation, TenantId};
use aesp_storage::shard_of;
use bytes::Bytes;
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::{
    Error, Tenants,
    ceilings::{Ceilings, CreditsRow},
    home::{Effect, Home},
    message::{Message, Report, Term},
    tenant::{Seat, Tenant},
    wire,
};

struct Letter {
    from: Incarnation,
    to: Incarnation,
    message: Message,
}

impl Tenants {
    /// Hears from another node about credits.
    pub fn told(&self, from: Incarnation, payload: Bytes) {
        match wire::decode(&payload) {
            Some((tenant, message)) => {
                self.deliver(&self.known(tenant), Letter { from, to: self.own(), message });
            }
            None => warn!(%from, "a peer told something of a tenant's limits that makes no sense"),
        }
    }

    /// Sends a report to the tenant's home.
    pub(crate) fn report(&self, tenant: &Tenant, report: Report) {
        let shard = self.0.wiring.shards.shard(shard_of(tenant.id.as_bytes()));
        // While nobody owns it there is nobody to ask; whoever waits asks again.
        if let Some(to) = shard.owner {
            self.deliver(tenant, Letter { from: self.own(), to, message: Message::Report(report) });
        }
    }

    pub(crate) fn own(&self) -> Incarnation {
        self.0.wiring.shards.own()
    }

    pub(crate) fn time(&self) -> Duration {
        self.0.base.elapsed()
    }

    /// Takes a letter, and all that it brings about here, to where it goes.
    fn deliver(&self, tenant: &Tenant, letter: Letter) {
        let own = self.own();
        let mut letters = VecDeque::from([letter]);
        while let Some(Letter { from, to, message }) = letters.pop_front() {
            if to != own {
                if let Some(peers) = self.0.peers.get() {
                    peers.tell(to, wire::encode(tenant.id, &message));
                }
                continue;
            }
            match message {
                Message::Report(report) => {
                    letters.extend(self.letters(tenant.id, self.at_home(tenant, from, report)));
                }
                Message::Collect(collect) => {
                    let report = tenant.holder().collect(collect, &tenant.gate, Instant::now());
                    let answer =
                        report.map(|report| Letter { from: own, to: from, message: Message::Report(report) });
                    letters.extend(answer);
                }
                Message::Grant(grant) => {
                    if tenant.holder().grant(&grant, &tenant.gate, Instant::now()) {
                        tenant.heard.notify_waiters();
                    }
                }
            }
        }
    }

    /// Sends what a home wants to be sent, and starts what it wants of the store.
    pub(crate) fn carry_out(&self, tenant: &Tenant, effects: Vec<(Term, Effect)>) {
        for letter in self.letters(tenant.id, effects) {
            self.deliver(tenant, letter);
        }
    }

    fn letters(&self, tenant: TenantId, effects: Vec<(Term, Effect)>) -> Vec<Letter> {
        let mut letters = Vec::new();
        for (term, effect) in effects {
            match effect {
                Effect::Tell(to, message) => letters.push(Letter { from: self.own(), to, message }),
                Effect::Write(ceilings) => {
                    let tenants = self.clone();
                    tokio::spawn(async move { tenants.write(tenant, term, ceilings).await });
                }
                Effect::Count => {
                    let tenants = self.clone();
                    tokio::spawn(async move { tenants.count(tenant, term).await });
                }
            }
        }
        letters
    }

    /// Hands a report to the home, which begins if this node owns the tenant's shard.
    fn at_home(&self, tenant: &Tenant, from: Incarnation, report: Report) -> Vec<(Term, Effect)> {
        // INVARIANT S1: only the owner of the shard grants. Should it lose the shard from here on, then the next home counts with
        // what the store says that this one could grant.
        let Some(fence) = self.standing(tenant.id) else {
            debug!(%from, tenant = %tenant.id, "a report for a home that is elsewhere");
            return Vec::new();
        };
        let mut seat = tenant.seat();
        match &mut *seat {
            Seat::Taken(home) if home.term().epoch == fence.epoch().0 => {
                of(home.term(), home.hear(from, &report, self.time()))
            }
            Seat::Loading(epoch, waiting) if *epoch == fence.epoch().0 => {
                waiting.push((from, report));
                Vec::new()
            }
            _ => {
                *seat = Seat::Loading(fence.epoch().0, vec![(from, report)]);
                let (tenants, id) = (self.clone(), tenant.id);
                tokio::spawn(async move { tenants.begin(id, fence).await });
                Vec::new()
            }
        }
    }

    pub(crate) fn standing(&self, tenant: TenantId) -> Option<Fence> {
        self.0.wiring.shards.running_fence(tenant.as_bytes()).ok()
    }

    /// Begins a home with what the store says that nodes may hold.
    async fn begin(&self, id: TenantId, fence: Fence) {
        let load = self.0.wiring.store.run(move |tx| {
            Box::pin(async move {
                // So that nothing is read before the home before could still write.
                fence.check(tx).await?;
                Ok::<_, aesp_storage::Error>(tx.get::<CreditsRow>(id, &()).await?.unwrap_or_default())
            })
        });
        let tenant = self.known(id);
        let turn = tenant.store.lock().await;
        let loaded = load.await;
        drop(turn);
        let effects = {
            let mut seat = tenant.seat();
            let waiting = match &mut *seat {
                Seat::Loading(epoch, waiting) if *epoch == fence.epoch().0 => std::mem::take(waiting),
                _ => return,
            };
            match loaded {
                Ok(row) => {
                    let now = self.time();
                    let instance = self.0.homes.fetch_add(1, Ordering::AcqRel) + 1;
                    let term = Term { epoch: fence.epoch().0, instance };
                    let living = (self.0.wiring.living)();
                    let (mut home, mut effects) = Home::new(term, row.into(), &living, now);
                    for (from, report) in waiting {
                        effects.extend(home.hear(from, &report, now));
                    }
                    *seat = Seat::Taken(Box::new(home));
                    of(term, effects)
                }
                Err(error) => {
                    warn!(tenant = %id, %error, "a tenant's home can't begin; whoever waits asks again");
                    *seat = Seat::Empty;
                    return;
                }
            }
        };
        self.carry_out(&tenant, effects);
    }

    /// Stores the ceilings, for the home of this term.
    async fn write(&self, id: TenantId, term: Term, ceilings: Ceilings) {
        let tenant = self.known(id);
        let turn = tenant.store.lock().await;
        let current = matches!(&*tenant.seat(), Seat::Taken(home) if home.term() == term);
        if !current {
            return;
        }
        let stored = match self.standing(id).filter(|fence| fence.epoch().0 == term.epoch) {
            None => Err(aesp_storage::Error::Timeout),
            Some(fence) => {
                let row = Arc::new(CreditsRow::from(&ceilings));
                let nobody = ceilings.is_empty();
                let run = self.0.wiring.store.run(move |tx| {
                    let row = Arc::clone(&row);
                    Box::pin(async move {
                        fence.check(tx).await?;
                        if nobody {
                            tx.delete::<CreditsRow>(id, &()).await
                        } else {
                            tx.put(id, &(), &*row).await
                        }
                    })
                });
                run.await
            }
        };
        drop(turn);
        self.0.wiring.metrics.written.inc();
        if let Err(error) = &stored {
            debug!(tenant = %id, %error, "the ceilings of a tenant's credits were not stored");
        }
        let now = self.time();
        self.with_home(id, term, |home| home.written(stored.is_ok(), now));
    }

    /// Counts the tenant's sessions, for the home of this term.
    async fn count(&self, id: TenantId, term: Term) {
        let wiring = &self.0.wiring;
        let living = (wiring.living)();
        // INVARIANT Q1: a dead node could store sessions until its shards have new owners.
        let orphaned = wiring
            .shards
            .shards()
            .iter()
            .any(|shard| shard.owner.is_some_and(|owner| !living.contains(&owner)));
        let count = match self.stored_sessions(id).await {
            _ if orphaned => None,
            Ok(count) => Some(count),
            Err(error) => {
                warn!(tenant = %id, %error, "a tenant's sessions can't be counted");
                None
            }
        };
        wiring.metrics.counted.inc();
        let now = self.time();
        self.with_home(id, term, |home| home.counted(count, now));
    }

    pub(crate) async fn stored_sessions(&self, id: TenantId) -> Result<u64, Error> {
        match self.0.sessions.get() {
            Some(sessions) => Ok(sessions.count(id).await?),
            None => Ok(0),
        }
    }

    fn with_home(&self, id: TenantId, term: Term, act: impl FnOnce(&mut Home) -> Vec<Effect>) {
        let tenant = self.known(id);
        let effects = match &mut *tenant.seat() {
            Seat::Taken(home) if home.term() == term => of(term, act(home)),
            _ => return,
        };
        self.carry_out(&tenant, effects);
    }
}

/// Says which home wants it.
pub(crate) fn of(term: Term, effects: Vec<Effect>) -> Vec<(Term, Effect)> {
    effects.into_iter().map(|effect| (term, effect)).collect()
}
