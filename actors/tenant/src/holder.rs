use std::time::Duration;

use aesp_proto::Revision;
use tokio::time::Instant;

use crate::{
    Quotas,
    counts::{Counts, Each, Limit},
    gate::Gate,
    message::{Collect, Grant, Newest, Report, Term, Verdict},
};

/// After what time without an answer a report is sent again.
pub(crate) const RESEND: Duration = Duration::from_millis(100);
/// For how long a refusal is repeated without asking again.
const REPEATED: Duration = Duration::from_millis(5);
/// The same for the rate, when its home says to wait longer.
const REPEATED_RATE: Duration = Duration::from_millis(50);
/// Credits that are kept beyond what is used.
pub(crate) const CHUNK: u32 = 16;
/// After how many looks, a second apart, without any use everything is given back.
const QUIET_LOOKS: u32 = 5;

/// One node's part in the exchange of a tenant's credits, without I/O. The credits themselves are in the [`Gate`].
#[derive(Debug)]
pub(crate) struct Holder {
    /// The newest home that asked for a report.
    term: Term,
    /// Of the last report; also grown by what makes grants on their way void.
    number: u64,
    /// The newest collection of that home.
    round: u64,
    newest: Newest,
    /// When the report was sent that has no answer yet.
    asked: Option<Instant>,
    /// How many wait for what.
    wanted: Counts,
    wishes: Counts,
    longest: Duration,
    answers: Each<Answer>,
    retry_after: Duration,
    /// Looks since the last use.
    quiet: Each<u32>,
    /// Sessions stored at the last look.
    stored: u64,
    /// Whether calls started since the last look.
    started: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Answer {
    /// Of the report that was answered.
    number: u64,
    verdict: Verdict,
    at: Option<Instant>,
}

/// Why a wish is not fulfilled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The cluster is at its limit.
    AtLimit {
        /// What the limit is.
        quota: u32,
        /// When the rate allows another call.
        retry_after: Duration,
    },
    /// Nobody knows whether it is.
    Unknown,
}

impl Default for Holder {
    fn default() -> Self {
        let nothing = Quotas { sessions: 0, calls_in_flight: 0, calls_per_second: 0, runtimes: 0 };
        Self {
            term: Term::default(),
            number: 0,
            round: 0,
            // Older than any snapshot, so that the first one brings the quotas.
            newest: Newest { revision: Revision(0), quotas: nothing },
            asked: None,
            wanted: Counts::default(),
            wishes: Counts::default(),
            longest: Duration::ZERO,
            answers: Each::default(),
            retry_after: Duration::ZERO,
            quiet: Each::default(),
            stored: 0,
            started: false,
        }
    }
}

impl Holder {
    /// Learns of quotas. What is idle under larger ones is dropped at once, and grants on their way are void: when this has
    /// happened on every node, nothing begins beyond the new quotas.
    pub(crate) fn learn(&mut self, newest: Newest, gate: &Gate) {
        if newest.revision < self.newest.revision {
            return;
        }
        let before = std::mem::replace(&mut self.newest, newest);
        for limit in Limit::ALL {
            if limit.of(&newest.quotas) < limit.of(&before.quotas) {
                self.void();
                match gate.meter(limit) {
                    // To nothing, also below what is used: what ends frees no place until the home has granted one.
                    Some(meter) => meter.lower(|_| 0),
                    None => gate.starts.clear(),
                }
            }
        }
    }

    /// Adds somebody who waits; returns the number that [`Holder::refusal`] wants to know.
    pub(crate) fn wait_for(&mut self, limits: &[Limit], lasts: Duration) -> u64 {
        for limit in limits {
            if self.wanted[*limit] == 0 {
                self.wishes[*limit] = self.wishes[*limit].wrapping_add(1);
            }
            self.wanted[*limit] = self.wanted[*limit].saturating_add(1);
        }
        self.longest = self.longest.max(lasts);
        self.number
    }

    /// Removes somebody who waited.
    pub(crate) fn waits_no_more(&mut self, limits: &[Limit]) {
        for limit in limits {
            self.wanted[*limit] = self.wanted[*limit].saturating_sub(1);
        }
        if self.wanted[Limit::Calls] == 0 {
            self.longest = Duration::ZERO;
        }
    }

    /// Returns the report that has to be sent for those who wait, unless one is on its way.
    pub(crate) fn ask(&mut self, gate: &Gate, now: Instant) -> Option<Report> {
        let waiting = self.asked.is_some_and(|at| now.saturating_duration_since(at) < RESEND);
        if waiting || self.wanted == Counts::default() {
            return None;
        }
        self.asked = Some(now);
        Some(self.report(gate, 0))
    }

    /// Follows the home's collection; none if a newer home is known.
    pub(crate) fn collect(&mut self, collect: Collect, gate: &Gate, now: Instant) -> Option<Report> {
        if collect.term < self.term {
            return None;
        }
        if collect.term > self.term {
            (self.term, self.round) = (collect.term, 0);
        }
        self.round = self.round.max(collect.round);
        let mut returned = 0;
        for limit in Limit::ALL.into_iter().filter(|limit| collect.recalled[*limit]) {
            // Who waits may have been granted a place already and only not have woken: what is for them is not idle.
            let waiting = self.wanted[limit];
            match gate.meter(limit) {
                Some(meter) => meter.lower(|level| level.used.saturating_add(waiting)),
                None => returned = gate.starts.drain(now),
            }
        }
        self.asked = (self.wanted != Counts::default()).then_some(now);
        Some(self.report(gate, returned))
    }

    /// Takes what the home grants. Returns whether it is the answer to the last report; any other says nothing.
    ///
    /// INVARIANT Q1: a grant is taken once at most, under the newest home, and only while the limits are as that home has seen
    /// them or lower.
    pub(crate) fn grant(&mut self, grant: &Grant, gate: &Gate, now: Instant) -> bool {
        if grant.term != self.term || grant.number != self.number {
            return false;
        }
        for limit in Limit::ALL {
            let raised = grant.raised[limit];
            match gate.meter(limit) {
                Some(meter) => meter.raise(raised),
                None if raised > 0 => gate.starts.fill(raised, now),
                None => {}
            }
            if grant.verdicts[limit] != Verdict::Open {
                let verdict = grant.verdicts[limit];
                self.answers[limit] = Answer { number: grant.number, verdict, at: Some(now) };
            }
        }
        if grant.longest > gate.longest() {
            gate.set_longest(grant.longest);
        }
        self.started |= grant.raised[Limit::Starts] > 0;
        self.retry_after = grant.retry_after;
        self.void();
        true
    }

    /// Tells why somebody who waits since `since` waits in vain.
    pub(crate) fn refusal(&self, limit: Limit, since: u64) -> Option<Refused> {
        let answer = self.answers[limit];
        if answer.number > since { self.refused(limit) } else { None }
    }

    /// Tells why there is no use in asking, as of an answer from just now.
    pub(crate) fn recent_refusal(&self, limit: Limit, now: Instant) -> Option<Refused> {
        let repeated = match limit {
            Limit::Starts => self.retry_after.clamp(REPEATED, REPEATED_RATE),
            Limit::Calls => REPEATED,
            // They are not asked for so often that it would matter.
            Limit::Sessions | Limit::Runtimes => return None,
        };
        let answer = self.answers[limit];
        let recent = answer.at.is_some_and(|at| now.saturating_duration_since(at) < repeated);
        if recent && answer.verdict == Verdict::AtLimit { self.refused(limit) } else { None }
    }

    fn refused(&self, limit: Limit) -> Option<Refused> {
        match self.answers[limit].verdict {
            Verdict::Open | Verdict::Granted => None,
            Verdict::Unknown => Some(Refused::Unknown),
            Verdict::AtLimit => {
                let quota = limit.of(&self.newest.quotas);
                Some(Refused::AtLimit { quota, retry_after: self.retry_after })
            }
        }
    }

    /// Gives back what was not used for a while. To be asked every second.
    pub(crate) fn look(&mut self, gate: &Gate) -> Option<Report> {
        let levels = gate.levels();
        let stored = gate.stored();
        let mut gives = false;
        for limit in Limit::LEVELS {
            let level = levels[limit];
            let active = match limit {
                Limit::Sessions => stored != self.stored,
                Limit::Calls => self.started,
                Limit::Runtimes | Limit::Starts => false,
            };
            self.quiet[limit] =
                if active || level.used > 0 { 0 } else { self.quiet[limit].saturating_add(1) };
            let kept =
                if self.quiet[limit] >= QUIET_LOOKS { 0 } else { (level.used + CHUNK).saturating_mul(2) };
            // A little too much is not worth a message.
            if level.limit > kept.saturating_mul(2) {
                gives = true;
                if let Some(meter) = gate.meter(limit) {
                    meter.lower(|level| kept.max(level.used));
                }
            }
        }
        (self.stored, self.started) = (stored, false);
        if levels[Limit::Calls].limit == 0 && levels[Limit::Calls].used == 0 {
            gate.set_longest(Duration::ZERO);
        }
        // A report on its way says it as well.
        (gives && self.asked.is_none()).then(|| self.report(gate, 0))
    }

    /// Gives back all that is not used.
    pub(crate) fn leave(&mut self, gate: &Gate) -> Report {
        for limit in Limit::LEVELS {
            if let Some(meter) = gate.meter(limit) {
                meter.lower(|level| level.used);
            }
        }
        gate.starts.clear();
        self.report(gate, 0)
    }

    /// Returns the newest quotas that the node knows.
    pub(crate) fn newest(&self) -> Newest {
        self.newest
    }

    /// Lets no grant be taken that is on its way.
    fn void(&mut self) {
        self.number += 1;
        self.asked = None;
    }

    fn report(&mut self, gate: &Gate, returned: u32) -> Report {
        self.number += 1;
        // INVARIANT Q1: in this order; see `Gate::session_stored`.
        let levels = gate.levels();
        let stored = gate.stored();
        Report {
            term: self.term,
            number: self.number,
            quotas: self.newest,
            levels,
            wanted: self.wanted,
            wishes: self.wishes,
            returned,
            stored,
            longest: self.longest,
            allowed: gate.longest(),
            round: self.round,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_recall_leaves_what_was_granted_to_those_who_wait() {
        let now = Instant::now();
        let (gate, mut holder) = (Gate::new(now), Holder::default());
        let term = Term { epoch: 1, instance: 1 };
        let recalled = Each::new(|limit| limit == Limit::Calls);
        let report =
            holder.collect(Collect { term, recalled, round: 1 }, &gate, now).expect("it is the newest home");
        for _ in 0..2 {
            holder.wait_for(&[Limit::Calls], Duration::from_secs(1));
        }
        let raised = Each::new(|limit| if limit == Limit::Calls { 4 } else { 0 });
        let grant = Grant {
            term,
            number: report.number,
            raised,
            longest: Duration::from_secs(1),
            verdicts: Each::new(|_| Verdict::Granted),
            retry_after: Duration::ZERO,
        };
        assert!(holder.grant(&grant, &gate, now));
        // Nobody who waits has woken yet.
        let kept =
            holder.collect(Collect { term, recalled, round: 2 }, &gate, now).expect("it is the newest home");
        assert_eq!(kept.levels[Limit::Calls], crate::meter::Level { limit: 2, used: 0 });
        holder.waits_no_more(&[Limit::Calls]);
        holder.waits_no_more(&[Limit::Calls]);
        let left =
            holder.collect(Collect { term, recalled, round: 3 }, &gate, now).expect("it is the newest home");
        assert_eq!(left.levels[Limit::Calls].limit, 0);
    }
}
