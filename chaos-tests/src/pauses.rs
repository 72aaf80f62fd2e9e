use std::collections::BTreeMap;

use crate::history::History;

/// How well the sessions were served.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Service {
    pub(crate) calls: u64,
    /// The share of the calls that succeeded, 0 to 1. A call is one id, however often it was asked for.
    pub(crate) availability: f64,
    /// How many calls ended how.
    pub(crate) ends: BTreeMap<String, u64>,
    /// The longest time between two answers in a row, for each session.
    pub(crate) pauses_ms: BTreeMap<String, u64>,
}

impl Service {
    /// Measures it over the sessions that count, from the first millisecond to `end_ms`.
    pub(crate) fn of(history: &History, end_ms: u64) -> Self {
        let counted = history.calls.iter().filter(|call| history.served.contains_key(&call.key.session));
        let (mut calls, mut answered, mut ends) = (0, 0, BTreeMap::new());
        for call in counted {
            calls += 1;
            *ends.entry(call.end.name()).or_insert(0) += 1;
            answered += u64::from(call.end.is_success());
        }
        let pauses = history.served.iter().map(|(id, times)| (id.to_string(), longest(times, end_ms)));
        let availability = if calls == 0 { 0.0 } else { answered as f64 / calls as f64 };
        Self { calls, availability, ends, pauses_ms: pauses.collect() }
    }

    pub(crate) fn longest_pause_ms(&self) -> u64 {
        self.pauses_ms.values().copied().max().unwrap_or(0)
    }
}

fn longest(times: &[u64], end_ms: u64) -> u64 {
    let mut times = times.to_vec();
    times.sort_unstable();
    let starts = std::iter::once(0).chain(times.iter().copied());
    let ends = times.iter().copied().chain([end_ms]);
    starts.zip(ends).map(|(start, end)| end.saturating_sub(start)).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_pause_may_be_at_either_end() {
        assert_eq!(longest(&[10, 40, 20], 50), 20);
        assert_eq!(longest(&[10], 100), 90);
        assert_eq!(longest(&[90], 100), 90);
        assert_eq!(longest(&[], 100), 100);
    }
}
