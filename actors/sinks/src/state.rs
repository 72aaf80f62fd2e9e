use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use aesp_audit::Position;
use aesp_cluster::Fence;
use aesp_outbound::{Backoff, Failure};
use aesp_proto::{TenantId, Timestamp};
use tokio::time::Instant;

use crate::{
    delivery::{Delivery, Receipt, Verdict},
    parcel::{Entry, Parcel, Refusal, What},
};

/// How much a lane has in hand, and how it waits.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// The most events in a batch.
    pub(crate) batch_events: usize,
    /// The most bytes in a batch; a larger event goes alone.
    pub(crate) batch_bytes: usize,
    /// How long an event waits for others.
    pub(crate) batch_age: Duration,
    /// The pause after a first failure, and the longest.
    pub(crate) pauses: (Duration, Duration),
}

/// One lane of a sink: the tenants whose logs have grown, what was read of them, the batch on its way, and how the sink fares. At most
/// one read, one sending and one commit are under way; in hand are at most the batch on its way and about two more.
#[derive(Debug)]
pub(crate) struct State {
    limits: Limits,
    tenants: HashMap<TenantId, Tenant>,
    /// Who is to be read, in turn.
    turn: VecDeque<TenantId>,
    reading: Option<TenantId>,
    read_again: Option<Instant>,
    read_backoff: Backoff,
    queue: VecDeque<Entry>,
    queue_bytes: usize,
    phase: Phase,
    backoff: Backoff,
    commit_backoff: Backoff,
    in_a_row: u32,
    trouble: Option<Failure>,
}

#[derive(Debug)]
struct Tenant {
    fence: Fence,
    /// The last event that was read; nothing before the cursor is known.
    after: Option<Position>,
    /// Since when its log may have more; nothing while it has not.
    news: Option<Instant>,
}

#[derive(Debug)]
enum Phase {
    Idle,
    Sending(Delivery),
    Paused(Delivery, Instant),
    /// What was settled is being noted; then the rest goes on, after a pause if there is one.
    Committing(Settled, Option<(Delivery, Option<Instant>)>),
    CommitPaused(Settled, Option<(Delivery, Option<Instant>)>, Instant),
}

/// What a sink has settled, to be noted in the store.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settled {
    pub(crate) cursors: Vec<Cursor>,
    pub(crate) refused: Vec<Refusal>,
}

/// How far a tenant's log is settled.
#[derive(Clone, Debug)]
pub(crate) struct Cursor {
    pub(crate) tenant: TenantId,
    pub(crate) fence: Fence,
    pub(crate) position: Position,
    pub(crate) at: Timestamp,
    /// Events that the sink took since the cursor before.
    pub(crate) taken: u64,
}

#[derive(Debug)]
pub(crate) enum Event {
    /// The tenant's log may have grown, or this node has become its home.
    News { tenant: TenantId, fence: Fence },
    /// What was asked for was read.
    Read { tenant: TenantId, fence: Fence, entries: Vec<Entry>, more: bool },
    /// It could not be read now.
    ReadFailed { tenant: TenantId },
    /// The tenant's home is elsewhere.
    Lost { tenant: TenantId, fence: Fence },
    /// The sink has answered.
    Answered(Result<Receipt, Failure>),
    /// What was settled is noted, but for the tenants whose home has moved since these fences.
    Committed { lost: Vec<(TenantId, Fence)> },
    /// It could not be noted now.
    NotCommitted,
    /// Time has passed.
    Woken,
}

#[derive(Debug)]
pub(crate) enum Effect {
    Read {
        tenant: TenantId,
        fence: Fence,
        after: Option<Position>,
    },
    Send(Vec<Arc<Parcel>>),
    Commit(Settled),
    /// The sink fails, which it did not before, or not for this cause.
    Troubled(Failure),
    /// The sink takes events again.
    Recovered,
}

impl State {
    pub(crate) fn new(limits: Limits) -> Self {
        let backoff = || Backoff::new(limits.pauses.0, limits.pauses.1);
        Self {
            tenants: HashMap::new(),
            turn: VecDeque::new(),
            reading: None,
            read_again: None,
            read_backoff: backoff(),
            queue: VecDeque::new(),
            queue_bytes: 0,
            phase: Phase::Idle,
            backoff: backoff(),
            commit_backoff: backoff(),
            in_a_row: 0,
            trouble: None,
            limits,
        }
    }

    /// Takes an event in and says what is to be done. `jitter` is from 0 up to 1.
    pub(crate) fn step(&mut self, now: Instant, jitter: f64, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::News { tenant, fence } => self.news(now, tenant, fence),
            Event::Read { tenant, fence, entries, more } => self.read(now, tenant, fence, entries, more),
            Event::ReadFailed { tenant } => self.read_failed(now, jitter, tenant),
            Event::Lost { tenant, fence } => {
                self.reading = self.reading.filter(|reading| *reading != tenant);
                if self.is_home(tenant, fence) {
                    self.lose(tenant);
                }
            }
            Event::Answered(answer) => self.answered(now, jitter, answer, &mut effects),
            Event::Committed { lost } => self.committed(&lost, &mut effects),
            Event::NotCommitted => self.not_committed(now, jitter),
            Event::Woken => {}
        }
        self.go_on(now, &mut effects);
        effects
    }

    /// Returns when to be woken at the latest, if nothing happens before.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        let phase = match &self.phase {
            Phase::Paused(_, until) | Phase::CommitPaused(_, _, until) => Some(*until),
            Phase::Idle => self.queue.front().map(|entry| entry.since + self.limits.batch_age),
            Phase::Sending(_) | Phase::Committing(..) => None,
        };
        let read = self.read_again.filter(|_| self.reading.is_none() && !self.turn.is_empty());
        phase.into_iter().chain(read).min()
    }

    /// Returns why the sink takes nothing at present.
    pub(crate) fn trouble(&self) -> Option<&Failure> {
        self.trouble.as_ref()
    }

    /// Returns how many events are in hand.
    pub(crate) fn pending(&self) -> usize {
        let sent = |entry: &&Entry| matches!(entry.what, What::Send(_));
        self.in_hand().filter(sent).count()
    }

    /// Returns how long the event that waits longest has waited: since it happened, or since it was known that there are some.
    pub(crate) fn lag(&self, now: Instant, clock: Timestamp) -> Duration {
        let sent = |entry: &&Entry| matches!(entry.what, What::Send(_));
        let oldest = self.in_hand().filter(sent).map(|entry| clock.since(entry.at)).max();
        let unread = self.tenants.values().filter_map(|tenant| tenant.news).map(|since| now - since).max();
        oldest.max(unread).unwrap_or_default()
    }

    fn in_hand(&self) -> impl Iterator<Item = &Entry> {
        let delivery = match &self.phase {
            Phase::Sending(delivery) | Phase::Paused(delivery, _) => Some(delivery),
            Phase::Committing(_, rest) | Phase::CommitPaused(_, rest, _) => {
                rest.as_ref().map(|(delivery, _)| delivery)
            }
            Phase::Idle => None,
        };
        delivery.into_iter().flat_map(Delivery::entries).chain(&self.queue)
    }

    fn is_home(&self, tenant: TenantId, fence: Fence) -> bool {
        self.tenants.get(&tenant).is_some_and(|known| known.fence == fence)
    }

    fn news(&mut self, now: Instant, tenant: TenantId, fence: Fence) {
        if self.tenants.get(&tenant).is_some_and(|known| known.fence != fence) {
            // It was elsewhere meanwhile: what is known of it may be old.
            self.lose(tenant);
        }
        let known = self.tenants.entry(tenant).or_insert(Tenant { fence, after: None, news: None });
        if known.news.is_none() {
            known.news = Some(now);
            self.turn.push_back(tenant);
        }
    }

    fn read(&mut self, now: Instant, tenant: TenantId, fence: Fence, entries: Vec<Entry>, more: bool) {
        self.reading = None;
        if !self.is_home(tenant, fence) {
            return;
        }
        self.read_again = None;
        self.read_backoff.reset();
        let known = self.tenants.get_mut(&tenant).expect("it is known, as was just seen");
        known.after = entries.last().map(|entry| entry.position).or(known.after);
        // News that came while it was read are kept.
        if more && known.news.is_none() {
            known.news = Some(now);
            self.turn.push_back(tenant);
        }
        for entry in entries {
            self.push(entry);
        }
    }

    /// Queues an entry; one that is skipped takes the place of another before it, so that they can't fill the queue.
    fn push(&mut self, entry: Entry) {
        if let (What::Skip, Some(last)) = (&entry.what, self.queue.back_mut())
            && matches!(last.what, What::Skip)
            && last.tenant == entry.tenant
        {
            (last.position, last.at) = (entry.position, entry.at);
            return;
        }
        self.queue_bytes += entry.len_bytes();
        self.queue.push_back(entry);
    }

    fn read_failed(&mut self, now: Instant, jitter: f64, tenant: TenantId) {
        self.reading = None;
        self.read_again = Some(now + self.read_backoff.fail(jitter, None));
        if let Some(known) = self.tenants.get_mut(&tenant)
            && known.news.is_none()
        {
            known.news = Some(now);
            self.turn.push_back(tenant);
        }
    }

    fn lose(&mut self, tenant: TenantId) {
        self.tenants.remove(&tenant);
        self.turn.retain(|waiting| *waiting != tenant);
        self.queue.retain(|entry| entry.tenant != tenant);
        self.queue_bytes = self.queue.iter().map(Entry::len_bytes).sum();
        // What is being sent goes out; nobody notes that it was taken.
        match &mut self.phase {
            Phase::Paused(delivery, _)
            | Phase::Committing(_, Some((delivery, _)))
            | Phase::CommitPaused(_, Some((delivery, _)), _) => {
                delivery.forget(|entry| entry.tenant == tenant);
            }
            _ => {}
        }
    }

    fn answered(
        &mut self,
        now: Instant,
        jitter: f64,
        answer: Result<Receipt, Failure>,
        effects: &mut Vec<Effect>,
    ) {
        let Phase::Sending(mut delivery) = std::mem::replace(&mut self.phase, Phase::Idle) else { return };
        let pause = match delivery.answered(answer, &mut self.in_a_row) {
            Verdict::Well => {
                // That halves are tried is no success yet.
                if delivery.has_settled() {
                    self.backoff.reset();
                    if self.trouble.take().is_some() {
                        effects.push(Effect::Recovered);
                    }
                }
                None
            }
            Verdict::Trouble(failure) => {
                let pause = self.backoff.fail(jitter, failure.retry_after);
                if self.trouble.as_ref().is_none_or(|before| before.cause != failure.cause) {
                    effects.push(Effect::Troubled(failure.clone()));
                }
                self.trouble = Some(failure);
                Some(now + pause)
            }
        };
        if !delivery.has_settled() {
            self.drop_stale(&mut delivery);
            self.phase = match pause {
                Some(until) => Phase::Paused(delivery, until),
                None => self.begin(delivery, effects),
            };
            return;
        }
        let settled = self.settle(&mut delivery);
        self.drop_stale(&mut delivery);
        let rest = (!delivery.entries().is_empty()).then_some((delivery, pause));
        effects.push(Effect::Commit(settled.clone()));
        self.phase = Phase::Committing(settled, rest);
    }

    fn settle(&self, delivery: &mut Delivery) -> Settled {
        let (entries, refused) = delivery.take_settled();
        let mut settled = Settled { cursors: Vec::new(), refused };
        let aside: HashSet<(TenantId, Position)> =
            settled.refused.iter().map(|refusal| (refusal.tenant, refusal.position)).collect();
        let mut places: HashMap<TenantId, usize> = HashMap::new();
        for entry in &entries {
            if !self.is_home(entry.tenant, entry.fence) {
                continue;
            }
            let place = *places.entry(entry.tenant).or_insert_with(|| {
                settled.cursors.push(Cursor {
                    tenant: entry.tenant,
                    fence: entry.fence,
                    position: entry.position,
                    at: entry.at,
                    taken: 0,
                });
                settled.cursors.len() - 1
            });
            let cursor = &mut settled.cursors[place];
            (cursor.position, cursor.at) = (entry.position, entry.at);
            let is_sent = matches!(entry.what, What::Send(_));
            cursor.taken += u64::from(is_sent && !aside.contains(&(entry.tenant, entry.position)));
        }
        settled.refused.retain(|refusal| places.contains_key(&refusal.tenant));
        settled
    }

    /// Drops what was read under a fence that has fallen while it was sent.
    fn drop_stale(&self, delivery: &mut Delivery) {
        let is_stale = |entry: &Entry| !self.is_home(entry.tenant, entry.fence);
        if delivery.entries().iter().any(is_stale) {
            delivery.forget(is_stale);
        }
    }

    fn send(&self, delivery: Delivery, effects: &mut Vec<Effect>) -> Phase {
        effects.push(Effect::Send(delivery.parcels().to_vec()));
        Phase::Sending(delivery)
    }

    fn committed(&mut self, lost: &[(TenantId, Fence)], effects: &mut Vec<Effect>) {
        for (tenant, fence) in lost {
            // It may have come back meanwhile, under a new fence.
            if self.is_home(*tenant, *fence) {
                self.lose(*tenant);
            }
        }
        let phase = std::mem::replace(&mut self.phase, Phase::Idle);
        self.phase = match phase {
            Phase::Committing(_, rest) => {
                self.commit_backoff.reset();
                match rest {
                    Some((delivery, Some(until))) => Phase::Paused(delivery, until),
                    Some((delivery, None)) => self.begin(delivery, effects),
                    None => Phase::Idle,
                }
            }
            other => other,
        };
    }

    fn not_committed(&mut self, now: Instant, jitter: f64) {
        let phase = std::mem::replace(&mut self.phase, Phase::Idle);
        self.phase = match phase {
            Phase::Committing(settled, rest) => {
                let until = now + self.commit_backoff.fail(jitter, None);
                Phase::CommitPaused(settled, rest, until)
            }
            other => other,
        };
    }

    /// Begins whatever can begin now.
    fn go_on(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let phase = std::mem::replace(&mut self.phase, Phase::Idle);
        self.phase = match phase {
            Phase::Paused(delivery, until) if now >= until => self.begin(delivery, effects),
            Phase::CommitPaused(settled, rest, until) if now >= until => {
                effects.push(Effect::Commit(settled.clone()));
                Phase::Committing(settled, rest)
            }
            Phase::Idle if self.is_due(now) => {
                let delivery = self.cut();
                self.begin(delivery, effects)
            }
            other => other,
        };
        let rested = self.read_again.is_none_or(|again| now >= again);
        if self.reading.is_none()
            && rested
            && self.has_room()
            && let Some(tenant) = self.turn.pop_front()
            && let Some(known) = self.tenants.get_mut(&tenant)
        {
            known.news = None;
            self.reading = Some(tenant);
            effects.push(Effect::Read { tenant, fence: known.fence, after: known.after });
        }
    }

    /// Sends what is to be sent; what has nothing to send is noted at once.
    fn begin(&self, mut delivery: Delivery, effects: &mut Vec<Effect>) -> Phase {
        if delivery.entries().is_empty() {
            return Phase::Idle;
        }
        if !delivery.is_settled() {
            return self.send(delivery, effects);
        }
        let settled = self.settle(&mut delivery);
        effects.push(Effect::Commit(settled.clone()));
        Phase::Committing(settled, None)
    }

    fn has_room(&self) -> bool {
        self.queue.len() < 2 * self.limits.batch_events && self.queue_bytes < 2 * self.limits.batch_bytes
    }

    fn is_due(&self, now: Instant) -> bool {
        self.queue.len() >= self.limits.batch_events
            || self.queue_bytes >= self.limits.batch_bytes
            || self.queue.front().is_some_and(|entry| now >= entry.since + self.limits.batch_age)
    }

    fn cut(&mut self) -> Delivery {
        let (mut entries, mut bytes) = (Vec::new(), 0);
        while let Some(entry) = self.queue.front() {
            let more = entry.len_bytes();
            let full = entries.len() >= self.limits.batch_events || bytes + more > self.limits.batch_bytes;
            if full && !entries.is_empty() {
                break;
            }
            bytes += more;
            self.queue_bytes -= more;
            entries.extend(self.queue.pop_front());
        }
        Delivery::new(entries)
    }
}

#[cfg(test)]
mod tests;
