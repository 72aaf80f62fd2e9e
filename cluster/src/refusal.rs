use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use prometheus::IntCounterVec;
use tokio::time::Instant;

/// How often repeated refusals of one kind from one place are told.
const INTERVAL: Duration = Duration::from_secs(10);
/// Places that are told apart; what comes from more of them is told without its place.
const PLACES: usize = 128;

/// Something that was sent by who may not be, or no longer is, a node of this cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Where it was refused.
    pub surface: Surface,
    /// Why, as a constant such as `replayed`.
    pub reason: &'static str,
    /// Where it came from. For datagrams it can be forged; `None` when too many places are in it.
    pub from: Option<IpAddr>,
    /// How many there were since the last report of this kind.
    pub count: u64,
}

/// What strangers can reach of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Surface {
    /// Datagrams of the gossip.
    Gossip,
    /// Connections of peers.
    Peer,
}

impl Surface {
    /// Returns its name, for records and labels.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gossip => "gossip",
            Self::Peer => "peer",
        }
    }
}

/// Hears of refusals, for the audit log: the first of a kind at once, repeated ones with exact counts every ten seconds.
pub trait ObserveRefusals: Send + Sync + 'static {
    /// Takes one report. Must not wait.
    fn refused(&self, refusal: Refusal);
}

/// Counts every refusal, and tells the observer as often as [`ObserveRefusals`] says.
#[derive(Clone)]
pub(crate) struct Refusals {
    surface: Surface,
    tally: Arc<Mutex<Tally>>,
    counter: IntCounterVec,
    observer: Arc<dyn ObserveRefusals>,
}

impl Refusals {
    pub(crate) fn new(surface: Surface, counter: IntCounterVec, observer: Arc<dyn ObserveRefusals>) -> Self {
        Self { surface, tally: Arc::default(), counter, observer }
    }

    pub(crate) fn note(&self, reason: &'static str, from: Option<IpAddr>) {
        self.counter.with_label_values(&[reason]).inc();
        let told = self.lock().note(Instant::now(), reason, from);
        self.tell(told);
    }

    /// Tells what has been held back for long enough; called every second or so.
    pub(crate) fn flush(&self) {
        let told = self.lock().flush(Instant::now());
        self.tell(told);
    }

    fn tell(&self, reports: impl IntoIterator<Item = Report>) {
        for Report { reason, from, count } in reports {
            tracing::warn!(
                surface = self.surface.name(),
                reason,
                ?from,
                count,
                "refused what a stranger sent"
            );
            self.observer.refused(Refusal { surface: self.surface, reason, from, count });
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Report {
    reason: &'static str,
    from: Option<IpAddr>,
    count: u64,
}

/// What is held back. Bounded: reasons are constants, places are [`PLACES`].
#[derive(Default)]
struct Tally(HashMap<(&'static str, Option<IpAddr>), Held>);

struct Held {
    told: Instant,
    count: u64,
}

impl Tally {
    fn note(&mut self, now: Instant, reason: &'static str, from: Option<IpAddr>) -> Option<Report> {
        let known = self.0.contains_key(&(reason, from));
        let from = from.filter(|_| known || self.0.len() < PLACES);
        match self.0.get_mut(&(reason, from)) {
            Some(held) => {
                held.count += 1;
                None
            }
            None => {
                self.0.insert((reason, from), Held { told: now, count: 0 });
                Some(Report { reason, from, count: 1 })
            }
        }
    }

    fn flush(&mut self, now: Instant) -> Vec<Report> {
        let mut reports = Vec::new();
        self.0.retain(|&(reason, from), held| {
            if now.duration_since(held.told) < INTERVAL {
                return true;
            }
            let count = std::mem::take(&mut held.count);
            held.told = now;
            if count > 0 {
                reports.push(Report { reason, from, count });
            }
            count > 0
        });
        reports
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_refusal_is_told_once_in_the_sum(
            steps in prop::collection::vec((0_u8..=255, 0_usize..3, 0_u64..4_000), 1..600),
        ) {
            const REASONS: [&str; 3] = ["forged", "replayed", "truncated"];
            let (mut tally, mut now) = (Tally::default(), Instant::now());
            let mut told = HashMap::<&str, u64>::new();
            let mut sent = HashMap::<&str, u64>::new();
            let mut reports = 0_usize;
            let start = now;
            for (place, reason, pause_ms) in steps {
                now += Duration::from_millis(pause_ms);
                let from = Some(IpAddr::from([10, 0, (place % 2), place]));
                *sent.entry(REASONS[reason]).or_default() += 1;
                let at_once = tally.note(now, REASONS[reason], from);
                for report in at_once.into_iter().chain(tally.flush(now)) {
                    *told.entry(report.reason).or_default() += report.count;
                    reports += 1;
                }
                prop_assert!(tally.0.len() <= PLACES + REASONS.len());
            }
            let rounds = usize::try_from((now - start).as_secs() / INTERVAL.as_secs()).unwrap() + 2;
            prop_assert!(reports <= rounds * (PLACES + REASONS.len()));
            for report in tally.flush(now + INTERVAL) {
                *told.entry(report.reason).or_default() += report.count;
            }
            prop_assert_eq!(told, sent);
        }
    }
}
