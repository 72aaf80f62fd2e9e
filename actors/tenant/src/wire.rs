//! The messages as they travel between nodes.

use std::time::Duration;

use aesp_proto::{
    Revision, TenantId,
    v1::{self, quotas_tell::Tell},
};
use bytes::Bytes;
use prost::Message as _;

use crate::{
    counts::{Each, Limit},
    message::{Collect, Grant, Message, Newest, Report, Term, Verdict},
    meter::Level,
};

pub(crate) fn encode(tenant: TenantId, message: &Message) -> Bytes {
    let (term, tell) = match message {
        Message::Report(report) => (report.term, Tell::Report(report.into())),
        Message::Collect(collect) => (collect.term, Tell::Collect(collect.into())),
        Message::Grant(grant) => (grant.term, Tell::Grant(grant.into())),
    };
    let term = Some(v1::CreditTerm { epoch: term.epoch, instance: term.instance });
    let tenant_id = tenant.as_bytes().to_vec();
    v1::QuotasTell { tenant_id, term, tell: Some(tell) }.encode_to_vec().into()
}

/// Reads a message; none if it makes no sense.
pub(crate) fn decode(payload: &[u8]) -> Option<(TenantId, Message)> {
    let wire = v1::QuotasTell::decode(payload).ok()?;
    let tenant = TenantId::from_bytes(wire.tenant_id.try_into().ok()?);
    let term = wire.term?;
    let term = Term { epoch: term.epoch, instance: term.instance };
    let message = match wire.tell? {
        Tell::Report(report) => Message::Report(self::report(term, report)?),
        Tell::Collect(collect) => Message::Collect(self::collect(term, collect)),
        Tell::Grant(grant) => Message::Grant(self::grant(term, grant)),
    };
    Some((tenant, message))
}

impl From<&Report> for v1::CreditReport {
    fn from(report: &Report) -> Self {
        let levels = |of: fn(Level) -> u32| Some(Each::new(|limit| of(report.levels[limit])).into());
        Self {
            number: report.number,
            revision: report.quotas.revision.0,
            quotas: Some(report.quotas.quotas.into()),
            limits: levels(|level| level.limit),
            used: levels(|level| level.used),
            wanted: Some(report.wanted.into()),
            wishes: Some(report.wishes.into()),
            returned: report.returned,
            stored: report.stored,
            longest_ms: millis(report.longest),
            round: report.round,
            allowed_ms: millis(report.allowed),
        }
    }
}

fn report(term: Term, wire: v1::CreditReport) -> Option<Report> {
    let quotas = wire.quotas?;
    // Not by `Quotas::from`, for which 0 means the default: a node that knows no quotas says so.
    let quotas = crate::Quotas {
        sessions: quotas.sessions,
        calls_in_flight: quotas.calls_in_flight,
        calls_per_second: quotas.calls_per_second,
        runtimes: quotas.runtimes,
    };
    let limits = Each::from(wire.limits?);
    let used = Each::from(wire.used?);
    Some(Report {
        term,
        number: wire.number,
        quotas: Newest { revision: Revision(wire.revision), quotas },
        levels: Each::new(|limit| Level { limit: limits[limit], used: used[limit] }),
        wanted: wire.wanted.unwrap_or_default().into(),
        wishes: wire.wishes.unwrap_or_default().into(),
        returned: wire.returned,
        stored: wire.stored,
        longest: Duration::from_millis(wire.longest_ms),
        allowed: Duration::from_millis(wire.allowed_ms),
        round: wire.round,
    })
}

impl From<&Collect> for v1::CreditCollect {
    fn from(collect: &Collect) -> Self {
        let recalled = &collect.recalled;
        Self {
            sessions: recalled[Limit::Sessions],
            calls: recalled[Limit::Calls],
            runtimes: recalled[Limit::Runtimes],
            starts: recalled[Limit::Starts],
            round: collect.round,
        }
    }
}

fn collect(term: Term, wire: v1::CreditCollect) -> Collect {
    let recalled = Each::new(|limit| match limit {
        Limit::Sessions => wire.sessions,
        Limit::Calls => wire.calls,
        Limit::Runtimes => wire.runtimes,
        Limit::Starts => wire.starts,
    });
    Collect { term, recalled, round: wire.round }
}

impl From<&Grant> for v1::CreditGrant {
    fn from(grant: &Grant) -> Self {
        let verdict = |limit| v1::CreditVerdict::from(grant.verdicts[limit]).into();
        Self {
            number: grant.number,
            raised: Some(grant.raised.into()),
            longest_ms: millis(grant.longest),
            sessions: verdict(Limit::Sessions),
            calls: verdict(Limit::Calls),
            runtimes: verdict(Limit::Runtimes),
            starts: verdict(Limit::Starts),
            retry_after_ms: millis(grant.retry_after),
        }
    }
}

fn grant(term: Term, wire: v1::CreditGrant) -> Grant {
    let verdicts = Each::new(|limit| {
        match limit {
            Limit::Sessions => wire.sessions(),
            Limit::Calls => wire.calls(),
            Limit::Runtimes => wire.runtimes(),
            Limit::Starts => wire.starts(),
        }
        .into()
    });
    Grant {
        term,
        number: wire.number,
        raised: wire.raised.unwrap_or_default().into(),
        longest: Duration::from_millis(wire.longest_ms),
        verdicts,
        retry_after: Duration::from_millis(wire.retry_after_ms),
    }
}

impl From<Verdict> for v1::CreditVerdict {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Open => Self::Open,
            Verdict::Granted => Self::Granted,
            Verdict::AtLimit => Self::AtLimit,
            Verdict::Unknown => Self::Unknown,
        }
    }
}

impl From<v1::CreditVerdict> for Verdict {
    fn from(verdict: v1::CreditVerdict) -> Self {
        match verdict {
            // One of a later release decides nothing here.
            v1::CreditVerdict::Unspecified | v1::CreditVerdict::Open => Self::Open,
            v1::CreditVerdict::Granted => Self::Granted,
            v1::CreditVerdict::AtLimit => Self::AtLimit,
            v1::CreditVerdict::Unknown => Self::Unknown,
        }
    }
}

/// Rounded up, so that what is told covers what is meant.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Quotas, counts::Counts};

    fn counts() -> impl Strategy<Value = Counts> {
        any::<[u32; 4]>().prop_map(|numbers| Each::new(|limit| numbers[limit as usize]))
    }

    fn verdict() -> impl Strategy<Value = Verdict> {
        prop_oneof![
            Just(Verdict::Open),
            Just(Verdict::Granted),
            Just(Verdict::AtLimit),
            Just(Verdict::Unknown)
        ]
    }

    fn message() -> impl Strategy<Value = Message> {
        let term = || any::<(u64, u64)>().prop_map(|(epoch, instance)| Term { epoch, instance });
        let quotas = any::<[u32; 4]>().prop_map(|[sessions, calls_in_flight, calls_per_second, runtimes]| {
            Quotas { sessions, calls_in_flight, calls_per_second, runtimes }
        });
        let numbers = any::<(u64, u64, u32, u64, u32)>();
        let report = (term(), quotas, [counts(), counts(), counts()], numbers).prop_map(
            |(term, quotas, [limits, used, wanted], (number, revision, returned, stored, longest))| {
                Message::Report(Report {
                    term,
                    number,
                    quotas: Newest { revision: Revision(revision), quotas },
                    levels: Each::new(|limit| Level { limit: limits[limit], used: used[limit] }),
                    wanted,
                    wishes: used,
                    returned,
                    stored,
                    longest: Duration::from_millis(longest.into()),
                    allowed: Duration::from_millis(returned.into()),
                    round: stored,
                })
            },
        );
        let collect = (term(), any::<[bool; 4]>(), any::<u64>()).prop_map(|(term, recalled, round)| {
            Message::Collect(Collect { term, recalled: Each::new(|limit| recalled[limit as usize]), round })
        });
        let verdicts = [verdict(), verdict(), verdict(), verdict()];
        let grant = (term(), any::<(u64, u32, u32)>(), counts(), verdicts).prop_map(
            |(term, (number, longest, retry_after), raised, verdicts)| {
                Message::Grant(Grant {
                    term,
                    number,
                    raised,
                    longest: Duration::from_millis(longest.into()),
                    verdicts: Each::new(|limit| verdicts[limit as usize]),
                    retry_after: Duration::from_millis(retry_after.into()),
                })
            },
        );
        prop_oneof![report, collect, grant]
    }

    proptest! {
        #[test]
        fn messages_travel(message in message(), tenant in any::<[u8; 16]>()) {
            let tenant = TenantId::from_bytes(tenant);
            prop_assert_eq!(decode(&encode(tenant, &message)), Some((tenant, message)));
        }

        #[test]
        fn nonsense_is_refused_or_read_but_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            decode(&bytes);
        }
    }
}
