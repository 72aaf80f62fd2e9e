use std::collections::{BTreeMap, BTreeSet};

use aesp_cluster::Ownership;
use aesp_proto::{Entropy, Epoch, EventId, Incarnation};
use aesp_storage::SHARDS;
use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::Cause;

const SECOND: Duration = Duration::from_secs(1);

fn limits() -> Limits {
    Limits { batch_events: 8, batch_bytes: 500, batch_age: SECOND, pauses: (SECOND, 60 * SECOND) }
}

fn tenant(n: u8) -> TenantId {
    TenantId::from_bytes([n; 16])
}

fn position(n: u32) -> Position {
    u128::from(n).to_be_bytes()
}

fn fence(tenant: TenantId, epoch: u64) -> Fence {
    let epochs = vec![Epoch(epoch); usize::from(SHARDS)];
    Ownership::all(Incarnation(1), &epochs).fence(tenant.as_bytes()).unwrap()
}

/// A world of logs, a store and a sink, in which everything may go wrong.
struct World {
    entropy: Entropy,
    now: Instant,
    state: State,
    /// Outstanding work, in any order.
    work: Vec<Effect>,
    /// How many events each log has.
    logs: BTreeMap<u8, u32>,
    epochs: BTreeMap<u8, u64>,
    /// As the store has them.
    cursors: BTreeMap<u8, u32>,
    dead: BTreeSet<(u8, u32)>,
    /// What the sink took, in its order.
    taken: Vec<(u8, u32)>,
    /// Whether anything goes wrong by itself.
    rough: bool,
}

/// Events that the sink refuses for good.
fn is_bad(tenant: u8, n: u32) -> bool {
    (u32::from(tenant) * 7 + n).is_multiple_of(13)
}

/// Events that the filter keeps back.
fn is_skipped(tenant: u8, n: u32) -> bool {
    (u32::from(tenant) + n).is_multiple_of(5)
}

/// Events that can't be written in the sink's format.
fn is_unsendable(tenant: u8, n: u32) -> bool {
    (u32::from(tenant) + n) % 17 == 3
}

impl World {
    fn new(seed: u64) -> Self {
        let tenants = [1, 2, 3];
        Self {
            entropy: Entropy::from_seed(seed),
            now: Instant::now(),
            state: State::new(limits()),
            work: Vec::new(),
            logs: tenants.map(|tenant| (tenant, 0)).into(),
            epochs: tenants.map(|tenant| (tenant, 1)).into(),
            cursors: BTreeMap::new(),
            dead: BTreeSet::new(),
            taken: Vec::new(),
            rough: true,
        }
    }

    fn chance(&self, percent: u64) -> bool {
        self.rough && self.entropy.below(100) < percent
    }

    fn step(&mut self, event: Event) {
        let jitter = self.entropy.below(1_000) as f64 / 1_000.0;
        let effects = self.state.step(self.now, jitter, event);
        self.work.extend(effects);
        let sending = |effect: &&Effect| matches!(effect, Effect::Send(_) | Effect::Commit(_));
        assert!(self.work.iter().filter(sending).count() <= 1, "one batch is under way: {:?}", self.work);
        assert!(self.state.queue.len() <= 3 * self.state.limits.batch_events, "memory is bounded");
        let bytes: usize = self.state.queue.iter().map(Entry::len_bytes).sum();
        assert_eq!(bytes, self.state.queue_bytes);
    }

    fn news(&mut self, n: u8) {
        let event = Event::News { tenant: tenant(n), fence: fence(tenant(n), self.epochs[&n]) };
        self.step(event);
    }

    /// Does one of the things that are to be done, or lets time pass.
    fn act(&mut self) {
        self.work.retain(|effect| !matches!(effect, Effect::Troubled(_) | Effect::Recovered));
        if self.work.is_empty() {
            let wake = self.state.wake_at().unwrap_or(self.now + SECOND);
            self.now = wake.max(self.now);
            return self.step(Event::Woken);
        }
        let at = self.entropy.below(self.work.len() as u64) as usize;
        let event = match self.work.swap_remove(at) {
            Effect::Read { tenant, fence, after } => self.read(tenant, fence, after),
            Effect::Send(parcels) => Event::Answered(self.send(&parcels)),
            Effect::Commit(settled) => self.commit(&settled),
            Effect::Troubled(_) | Effect::Recovered => Event::Woken,
        };
        self.step(event);
    }

    fn read(&mut self, of: TenantId, with: Fence, after: Option<Position>) -> Event {
        let n = of.as_bytes()[0];
        if with != fence(of, self.epochs[&n]) {
            return Event::Lost { tenant: of, fence: with };
        }
        if self.chance(10) {
            return Event::ReadFailed { tenant: of };
        }
        let after = after.map(|position| u128::from_be_bytes(position) as u32);
        let after = after.or(self.cursors.get(&n).copied()).unwrap_or(0);
        let end = self.logs[&n].min(after + 5);
        let entry = |event: u32| {
            let id = EventId::from_bytes(position(event));
            let parcel = Parcel {
                tenant: of,
                position: position(event),
                event: id,
                at: Timestamp(0),
                bytes: Bytes::from(vec![0; event as usize % 120]),
                about_sinks: false,
            };
            let what = match event {
                event if is_skipped(n, event) => What::Skip,
                event if is_unsendable(n, event) => What::Unsendable(id, "too large".into()),
                _ => What::Send(Arc::new(parcel)),
            };
            Entry {
                tenant: of,
                fence: with,
                position: position(event),
                at: Timestamp(0),
                since: self.now,
                what,
            }
        };
        let entries = (after + 1..=end).map(entry).collect();
        Event::Read { tenant: of, fence: with, entries, more: end < self.logs[&n] }
    }

    fn send(&mut self, parcels: &[Arc<Parcel>]) -> Result<Receipt, Failure> {
        assert!(!parcels.is_empty(), "nothing is sent for nothing");
        let events: Vec<(u8, u32)> = parcels
            .iter()
            .map(|parcel| (parcel.tenant.as_bytes()[0], u128::from_be_bytes(parcel.position) as u32))
            .collect();
        if self.chance(20) {
            if self.chance(50) {
                // It took a part, and the answer is lost.
                let good = events.iter().take(events.len() / 2).filter(|(t, n)| !is_bad(*t, *n));
                self.taken.extend(good);
            }
            return Err(Failure::new(Cause::Unreachable, "away"));
        }
        let bad = events.iter().position(|(tenant, n)| is_bad(*tenant, *n));
        match bad {
            None => {
                let settled = if self.chance(20) { events.len() / 2 } else { events.len() };
                self.taken.extend(&events[..settled]);
                let rest = (settled < events.len()).then(|| Failure::new(Cause::Busy, "full"));
                Ok(Receipt { settled, refused: Vec::new(), rest })
            }
            // It says which one; or that there is one.
            Some(at) if self.entropy.below(2) == 0 => {
                self.taken.extend(&events[..at]);
                Ok(Receipt { settled: at + 1, refused: vec![(at, "bad".into())], rest: None })
            }
            Some(_) => Err(Failure::new(Cause::Content, "bad")),
        }
    }

    fn commit(&mut self, settled: &Settled) -> Event {
        if self.chance(10) {
            return Event::NotCommitted;
        }
        let mut lost = Vec::new();
        for cursor in &settled.cursors {
            let n = cursor.tenant.as_bytes()[0];
            if cursor.fence != fence(cursor.tenant, self.epochs[&n]) {
                lost.push((cursor.tenant, cursor.fence));
                continue;
            }
            for refusal in settled.refused.iter().filter(|refusal| refusal.tenant == cursor.tenant) {
                self.dead.insert((n, u128::from_be_bytes(refusal.position) as u32));
            }
            let to = u128::from_be_bytes(cursor.position) as u32;
            let known = self.cursors.entry(n).or_default();
            *known = to.max(*known);
            self.check(n, to);
        }
        Event::Committed { lost }
    }

    /// Nothing is behind a cursor that was neither taken nor put aside.
    fn check(&self, n: u8, to: u32) {
        for event in (1..=to).filter(|event| !is_skipped(n, *event)) {
            let aside = is_bad(n, event) || is_unsendable(n, event);
            let settled =
                if aside { self.dead.contains(&(n, event)) } else { self.taken.contains(&(n, event)) };
            assert!(settled, "event {event} of tenant {n} is passed over");
        }
    }

    fn run(mut self) {
        for _ in 0..300 {
            match self.entropy.below(20) {
                0 | 1 => {
                    let n = 1 + self.entropy.below(3) as u8;
                    *self.logs.get_mut(&n).unwrap() += 1 + self.entropy.below(12) as u32;
                    self.news(n);
                }
                2 if self.chance(20) => {
                    // The home moves away and comes back.
                    let n = 1 + self.entropy.below(3) as u8;
                    *self.epochs.get_mut(&n).unwrap() += 1;
                    if self.entropy.below(2) == 0 {
                        self.news(n);
                    }
                }
                3 if self.chance(10) => {
                    self.state = State::new(limits());
                    self.work.clear();
                    for n in [1, 2, 3] {
                        self.news(n);
                    }
                }
                _ => self.act(),
            }
        }
        // Then all is well, for long enough.
        self.rough = false;
        for n in [1, 2, 3] {
            self.news(n);
        }
        for _ in 0..5_000 {
            self.act();
            if self.logs.iter().all(|(n, end)| self.cursors.get(n).copied().unwrap_or(0) == *end)
                && self.work.is_empty()
            {
                break;
            }
        }
        for (n, end) in &self.logs {
            assert_eq!(self.cursors.get(n).copied().unwrap_or(0), *end, "tenant {n} is sent to its end");
            self.check(*n, *end);
            assert!(self.dead.iter().all(|(n, event)| is_bad(*n, *event) || is_unsendable(*n, *event)));
            let mut first: Vec<u32> = Vec::new();
            for (_, event) in self.taken.iter().filter(|(of, _)| of == n) {
                if !first.contains(event) {
                    first.push(*event);
                }
            }
            assert!(first.is_sorted(), "the order of tenant {n} is kept: {first:?}");
        }
        assert!(self.state.trouble().is_none());
        assert_eq!(self.state.pending(), 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn every_event_is_taken_in_order_or_put_aside_whatever_goes_wrong(seed: u64) {
        World::new(seed).run();
    }
}

fn entry(n: u32, now: Instant) -> Entry {
    let parcel = Parcel {
        tenant: tenant(1),
        position: position(n),
        event: EventId::from_bytes(position(n)),
        at: Timestamp(0),
        bytes: Bytes::from_static(b"event"),
        about_sinks: false,
    };
    let what = What::Send(Arc::new(parcel));
    let own = fence(tenant(1), 1);
    Entry { tenant: tenant(1), fence: own, position: position(n), at: Timestamp(0), since: now, what }
}

/// A lane that has read so many events of one tenant.
fn with_events(count: u32, now: Instant) -> (State, Vec<Effect>) {
    let mut state = State::new(limits());
    let own = fence(tenant(1), 1);
    state.step(now, 0.0, Event::News { tenant: tenant(1), fence: own });
    let entries = (1..=count).map(|n| entry(n, now)).collect();
    let effects = state.step(now, 0.0, Event::Read { tenant: tenant(1), fence: own, entries, more: false });
    (state, effects)
}

#[test]
fn a_batch_goes_when_it_is_full_or_old() {
    let now = Instant::now();
    let (_, effects) = with_events(8, now);
    assert!(matches!(&effects[..], [Effect::Send(parcels)] if parcels.len() == 8));
    let (mut state, effects) = with_events(2, now);
    assert!(effects.is_empty());
    assert_eq!(state.wake_at(), Some(now + SECOND));
    let effects = state.step(now + SECOND, 0.0, Event::Woken);
    assert!(matches!(&effects[..], [Effect::Send(parcels)] if parcels.len() == 2));
}

#[test]
fn a_sink_that_fails_is_left_alone_and_its_return_is_told() {
    let now = Instant::now();
    let (mut state, _) = with_events(8, now);
    let busy = || Failure::new(Cause::Busy, "full").after(Some(30 * SECOND));
    let effects = state.step(now, 0.0, Event::Answered(Err(busy())));
    assert!(matches!(&effects[..], [Effect::Troubled(_)]));
    assert_eq!(state.wake_at(), Some(now + 30 * SECOND), "as long as the sink asks for");
    assert!(state.step(now + 29 * SECOND, 0.0, Event::Woken).is_empty());
    let effects = state.step(now + 30 * SECOND, 0.0, Event::Woken);
    assert!(matches!(&effects[..], [Effect::Send(parcels)] if parcels.len() == 8));
    let effects = state.step(now + 30 * SECOND, 0.0, Event::Answered(Err(busy())));
    assert!(effects.is_empty(), "the same trouble is told once");
    let effects = state.step(now + 60 * SECOND, 0.0, Event::Woken);
    assert!(matches!(&effects[..], [Effect::Send(_)]));
    let effects = state.step(now + 60 * SECOND, 0.0, Event::Answered(Ok(Receipt::all(8))));
    assert!(
        matches!(&effects[..], [Effect::Recovered, Effect::Commit(settled)] if settled.cursors[0].taken == 8)
    );
}

#[test]
fn a_sink_that_refuses_everything_does_not_empty_the_log_into_dead_letters() {
    let now = Instant::now();
    let (mut state, mut effects) = with_events(8, now);
    let (mut dead, mut at, mut next) = (0, now, 9);
    let own = fence(tenant(1), 1);
    // For ten minutes it says of everything that it is bad.
    while at < now + 600 * SECOND {
        let event = match effects.pop() {
            Some(Effect::Send(_)) => Event::Answered(Err(Failure::new(Cause::Content, "no such field"))),
            Some(Effect::Commit(settled)) => {
                dead += settled.refused.len();
                Event::Committed { lost: Vec::new() }
            }
            Some(Effect::Read { .. }) => {
                let entries = (next..next + 8).map(|n| entry(n, at)).collect();
                next += 8;
                Event::Read { tenant: tenant(1), fence: own, entries, more: true }
            }
            Some(_) => continue,
            None => {
                at = state.wake_at().unwrap_or(at + SECOND).max(at);
                effects.extend(state.step(at, 1.0, Event::News { tenant: tenant(1), fence: own }));
                continue;
            }
        };
        effects.extend(state.step(at, 1.0, event));
    }
    assert!((21..60).contains(&dead), "{dead} events were put aside");
    assert_eq!(state.trouble().map(|failure| failure.cause), Some(Cause::Content));
}

#[test]
fn lag_is_that_of_the_event_that_waits_longest() {
    let now = Instant::now();
    let (mut state, _) = with_events(2, now);
    assert_eq!(state.lag(now, Timestamp(5_000)), 5 * SECOND);
    assert_eq!(state.pending(), 2);
    state.step(now + SECOND, 0.0, Event::Woken);
    state.step(now + SECOND, 0.0, Event::Answered(Ok(Receipt::all(2))));
    state.step(now + SECOND, 0.0, Event::Committed { lost: Vec::new() });
    assert_eq!((state.pending(), state.lag(now + SECOND, Timestamp(9_000))), (0, Duration::ZERO));
}
