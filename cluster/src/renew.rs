use std::{
    ops::RangeInclusive,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use aesp_proto::{Incarnation, TenantId};
use aesp_storage::{Error, RightsPosition, Store};
use tokio::time::{sleep, timeout};

use crate::{
    Load, MemberState, Notice,
    cluster::{Inner, Intent},
    gossip::Announcement,
    rights::reached,
    rows::{NodeRow, Setting, drain_order},
};

/// A node acts for this part of its lease less, so that everything has stopped when the lease ends.
const MARGIN: u32 = 16;
/// The lease is renewed that many times in its length.
const PART: u32 = 4;
/// The same, as long as the store refuses.
const FAILED_PART: u32 = 16;

/// What a node remembers from one renewal to the next.
struct Beats {
    /// The number that the store is known to have had.
    confirmed: u64,
    /// The last one that was tried.
    attempted: u64,
    /// Where the log of rights ended when the renewal before looked: what must be applied for the next one.
    demanded: RightsPosition,
    /// Where it ended when the row said first that this node serves: what must be applied before the node acts at all.
    admission: Option<RightsPosition>,
    /// When the last one succeeded.
    last: Option<Duration>,
    /// What the row says.
    state: MemberState,
    behind: bool,
    /// Whether the last one failed.
    failed: bool,
}

/// One try.
struct Attempt {
    own: Incarnation,
    row: NodeRow,
    valid: RangeInclusive<u64>,
    demanded: Option<RightsPosition>,
    entering: bool,
    tell: bool,
}

/// What became of it.
enum Written {
    Renewed {
        rights: RightsPosition,
        drain: bool,
    },
    /// Rights that were there at the last renewal are not applied yet.
    Behind {
        rights: RightsPosition,
    },
    /// This incarnation is dead.
    Gone,
    /// Somebody else writes this row.
    Contested,
}

impl Inner {
    /// Renews the lease until this incarnation ends.
    pub(crate) async fn keep_beating(self: Arc<Self>, first: u64) {
        let mut beats = Beats {
            confirmed: first,
            attempted: first,
            demanded: *self.applied.borrow(),
            admission: None,
            last: None,
            state: MemberState::Joining,
            behind: false,
            failed: false,
        };
        let mut applied = self.applied.subscribe();
        loop {
            let pause = self.jittered(self.options.lease / if beats.failed { FAILED_PART } else { PART });
            let behind = beats.behind;
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = self.wakes.renew.notified() => {}
                Ok(()) = applied.changed(), if behind => {}
                () = sleep(pause) => {}
            }
            applied.mark_unchanged();
            let renewed = tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                renewed = self.renew(&mut beats) => renewed,
            };
            beats.failed = renewed == "failed";
            self.context.metrics.renewals.with_label_values(&[renewed]).inc();
            self.wakes.look.notify_one();
        }
    }

    /// Between three and four quarters of `pause`: two nodes don't stay in step, so that now and then each sees the other's row
    /// when it is new, and reads its clock well.
    fn jittered(&self, pause: Duration) -> Duration {
        let micros = u64::try_from(pause.as_micros()).unwrap_or(u64::MAX).max(4);
        let quarter = micros / 4;
        Duration::from_micros(micros - self.context.entropy.below(quarter))
    }

    /// Tries once; returns how it ended, for the counter.
    async fn renew(self: &Arc<Self>, beats: &mut Beats) -> &'static str {
        // INVARIANT S1: the lease counts from before the renewal is sent.
        let began = self.now();
        let attempt = self.attempt(beats);
        let (state, entering) = (attempt.row.state, attempt.entering);
        self.announce(state, attempt.row.load);
        let written = timeout(self.options.lease, write(&self.context.store, &attempt)).await;
        let ended = self.now();
        self.context.metrics.renewal_seconds.observe(ended.saturating_sub(began).as_secs_f64());
        let rights = match written {
            Ok(Ok(Written::Renewed { rights, drain })) => {
                beats.confirmed = beats.attempted;
                beats.state = state;
                beats.behind = false;
                if entering {
                    beats.admission = Some(rights);
                }
                if drain {
                    self.intent.send_if_modified(|intent| {
                        let ordered = *intent == Intent::Serve;
                        if ordered {
                            *intent = Intent::Drain;
                            self.wakes.renew.notify_one();
                        }
                        ordered
                    });
                }
                rights
            }
            Ok(Ok(Written::Behind { rights })) => {
                beats.demanded = rights;
                beats.behind = true;
                self.wakes.apply.notify_one();
                return "behind";
            }
            Ok(Ok(Written::Gone)) => {
                self.give_up();
                return "over";
            }
            Ok(Ok(Written::Contested)) => {
                let name = self.options.name.clone();
                self.notice(Notice::IdentityContested { name, node: self.own });
                self.give_up();
                return "over";
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "lease not renewed");
                return "failed";
            }
            Err(_) => {
                tracing::warn!("lease not renewed: the store does not answer");
                return "failed";
            }
        };
        beats.demanded = rights;
        if rights > *self.applied.borrow() {
            self.wakes.apply.notify_one();
        }
        // Before the lease is extended: whoever judges others holds its lease and has heard of this.
        let late = beats.last.is_some_and(|last| ended.saturating_sub(last) > self.options.lease * 3 / 4);
        if late {
            self.late.fetch_add(1, Ordering::SeqCst);
        }
        beats.last = Some(ended);
        if let Some(admission) = beats.admission
            && self.has_applied(admission).await
        {
            self.extend(began);
        }
        if late { "late" } else { "renewed" }
    }

    fn attempt(&self, beats: &mut Beats) -> Attempt {
        beats.attempted += 1;
        let state = self.state();
        let entering = state != MemberState::Joining && beats.admission.is_none();
        let load = self.service.get().map_or_else(Load::default, |service| service.duties.load());
        let row = NodeRow {
            name: self.options.name.clone(),
            beat: beats.attempted,
            state,
            endpoint: self.options.endpoint.clone(),
            version: self.options.version.clone(),
            lease_ms: u64::try_from(self.options.lease.as_millis()).unwrap_or(u64::MAX),
            applied: *self.applied.borrow(),
            wall: self.wall(),
            load,
            birth: self.birth.clone(),
            locality: self.options.locality.clone(),
        };
        Attempt {
            own: self.own,
            row,
            // Any of those that were tried since may have landed without this node's knowledge.
            valid: beats.confirmed..=beats.attempted,
            demanded: beats.admission.map(|_| beats.demanded),
            entering,
            tell: state != beats.state,
        }
    }

    /// Waits a little for rights to be applied.
    async fn has_applied(&self, position: RightsPosition) -> bool {
        let mut applied = self.applied.subscribe();
        timeout(self.options.lease / PART, reached(&mut applied, position)).await.is_ok()
    }

    fn extend(self: &Arc<Self>, began: Duration) {
        let until = began + self.options.lease - self.options.lease / MARGIN;
        let was_held = self.lease.is_held();
        self.lease.extend(until);
        if !was_held {
            self.wakes.leased.notify_one();
        }
    }

    fn announce(&self, state: MemberState, load: Load) {
        if let Some(wire) = self.service.get().and_then(|service| service.wire.as_ref()) {
            let peers = self.options.endpoint.clone();
            wire.announce(Announcement { state, peers, fulfilment: 0, load });
        }
    }

    /// Lets go of everything when the lease ends without having been renewed.
    pub(crate) async fn guard_lease(self: Arc<Self>) {
        let mut lapsed = false;
        loop {
            let left = self.lease.remaining();
            if left.is_zero() {
                let able = self.holdings().is_able();
                if able {
                    lapsed = true;
                    self.context.metrics.lapses.inc();
                    self.change(|holdings| (holdings.disable(), ()));
                    self.notice(Notice::LeaseLost { for_ever: false });
                }
                tokio::select! {
                    biased;
                    () = self.stop.cancelled() => return,
                    () = self.wakes.leased.notified() => {}
                }
            } else {
                if std::mem::take(&mut lapsed) {
                    self.notice(Notice::LeaseRegained);
                }
                tokio::select! {
                    biased;
                    () = self.stop.cancelled() => return,
                    () = sleep(left) => {}
                }
            }
        }
    }
}

async fn write(store: &Store, attempt: &Attempt) -> Result<Written, Error> {
    const PLATFORM: TenantId = TenantId::PLATFORM;
    store
        .run_borrowing(|tx| {
            Box::pin(async move {
                let Attempt { own, row, valid, demanded, entering, tell } = attempt;
                let Some(found) = tx.find::<NodeRow>(PLATFORM, own).await? else { return Ok(Written::Gone) };
                // A damaged row is still this node's to write.
                if found.row.is_ok_and(|found| !valid.contains(&found.beat)) {
                    return Ok(Written::Contested);
                }
                // INVARIANT R1: a barrier that finds the row joining began before this transaction, so this sees its change.
                let rights =
                    if *entering { tx.rights_position().await? } else { tx.glance_rights_position().await? };
                if demanded.is_some_and(|demanded| row.applied < demanded) {
                    return Ok(Written::Behind { rights });
                }
                let drain = tx.get::<Setting>(PLATFORM, &drain_order(*own)).await?.is_some();
                tx.put(PLATFORM, own, row).await?;
                if *tell {
                    tx.tell_cluster()?;
                }
                Ok(Written::Renewed { rights, drain })
            })
        })
        .await
}
