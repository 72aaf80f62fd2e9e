use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use aesp_proto::DispatchId;
use tokio::time::Instant;

/// How many dispatches with unknown outcome are remembered.
const REMEMBERED: usize = 65_536;

/// Dispatches whose connection ended while the Runtime had them, until their Runtime tells. Bounded; the oldest are forgotten,
/// which leaves their outcome unknown.
#[derive(Debug, Default)]
pub(crate) struct LostDispatches(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    by_process: HashMap<Process, HashMap<DispatchId, Instant>>,
    order: VecDeque<(Process, DispatchId)>,
}

/// One process of a Runtime: its certificate identity, and what it calls itself.
pub(crate) type Process = (String, String);

impl LostDispatches {
    pub(crate) fn add(&self, process: &Process, dispatch: DispatchId, at: Instant) {
        let mut inner = self.lock();
        inner.by_process.entry(process.clone()).or_default().insert(dispatch, at);
        inner.order.push_back((process.clone(), dispatch));
        if inner.order.len() > REMEMBERED
            && let Some((process, oldest)) = inner.order.pop_front()
        {
            inner.remove(&process, oldest);
        }
    }

    /// Takes out what the process never saw. Only what was lost before the reporting connection began counts: anything later
    /// may still have been on its way when the report was made.
    pub(crate) fn never_received(
        &self,
        process: &Process,
        seen: &HashSet<DispatchId>,
        connected: Instant,
    ) -> Vec<DispatchId> {
        let mut inner = self.lock();
        let Some(lost) = inner.by_process.get(process) else { return Vec::new() };
        let missing: Vec<_> = lost
            .iter()
            .filter(|(id, at)| **at < connected && !seen.contains(*id))
            .map(|(id, _)| *id)
            .collect();
        for id in &missing {
            inner.remove(process, *id);
        }
        missing
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn remove(&mut self, process: &Process, dispatch: DispatchId) {
        if let Some(lost) = self.by_process.get_mut(process) {
            lost.remove(&dispatch);
            if lost.is_empty() {
                self.by_process.remove(process);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_the_same_process_on_a_later_connection_settles() {
        let lost = LostDispatches::default();
        let start = Instant::now();
        let later = start + Duration::from_secs(1);
        let process = ("spiffe://acme/git".to_owned(), "one".to_owned());
        let restarted = (process.0.clone(), "two".to_owned());
        let (gone, seen) = (DispatchId::from_bytes([1; 16]), DispatchId::from_bytes([2; 16]));
        lost.add(&process, gone, start);
        lost.add(&process, seen, start);
        assert!(
            lost.never_received(&restarted, &HashSet::new(), later).is_empty(),
            "it has forgotten, not missed it"
        );
        assert!(lost.never_received(&process, &HashSet::new(), start).is_empty(), "it may be on its way");
        assert_eq!(lost.never_received(&process, &HashSet::from([seen]), later), [gone]);
        assert!(lost.never_received(&process, &HashSet::from([seen]), later).is_empty(), "told once");
    }
}
