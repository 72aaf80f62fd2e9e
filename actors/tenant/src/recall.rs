use std::{collections::BTreeSet, time::Duration};

use aesp_proto::Incarnation;

use crate::counts::{Each, Limit};

/// How long a home waits for nodes that may hold something idle.
const PATIENCE: Duration = Duration::from_millis(500);
/// A recall that ended so long before somebody asked is as good as one that begins then.
const GRACE: Duration = Duration::from_millis(5);

/// Asking all other nodes for what they hold of a limit and do not use.
#[derive(Clone, Debug)]
pub(crate) struct Recall {
    round: u64,
    began: Duration,
    waiting: BTreeSet<Incarnation>,
    /// When everybody had answered, or the patience was over.
    done: Option<Duration>,
    failed: bool,
}

impl Recall {
    pub(crate) fn is_done(&self) -> bool {
        self.done.is_some()
    }

    pub(crate) fn done_at(&self) -> Duration {
        self.done.unwrap_or(Duration::MAX)
    }

    /// Tells whether somebody did not answer.
    pub(crate) fn failed(&self) -> bool {
        self.failed
    }

    fn remove(&mut self, node: Incarnation, now: Duration) {
        if self.done.is_none() && self.waiting.remove(&node) && self.waiting.is_empty() {
            self.done = Some(now);
        }
    }
}

/// The last recall of each limit.
#[derive(Debug, Default)]
pub(crate) struct Recalls(Each<Option<Recall>>);

impl Recalls {
    pub(crate) fn begin(
        &mut self,
        limit: Limit,
        waiting: BTreeSet<Incarnation>,
        round: u64,
        now: Duration,
    ) -> &Recall {
        let done = waiting.is_empty().then_some(now);
        self.0[limit].insert(Recall { round, began: now, waiting, done, failed: false })
    }

    /// Returns the recall that says something about who asks since `asked`: one that runs, or ended since.
    pub(crate) fn since(&self, limit: Limit, asked: Duration) -> Option<&Recall> {
        self.0[limit].as_ref().filter(|recall| recall.done.is_none_or(|done| done + GRACE >= asked))
    }

    /// Something may be idle again.
    pub(crate) fn forget(&mut self, limit: Limit) {
        if self.0[limit].as_ref().is_some_and(Recall::is_done) {
            self.0[limit] = None;
        }
    }

    /// A node has reported after it followed the collection of this round.
    pub(crate) fn answered(&mut self, node: Incarnation, round: u64, now: Duration) {
        for limit in Limit::ALL {
            if let Some(recall) = self.0[limit].as_mut().filter(|recall| recall.round <= round) {
                recall.remove(node, now);
            }
        }
    }

    /// A node is dead.
    pub(crate) fn lost(&mut self, node: Incarnation, now: Duration) {
        for limit in Limit::ALL {
            if let Some(recall) = &mut self.0[limit] {
                recall.remove(node, now);
            }
        }
    }

    /// Ends what lasts too long, and returns whom to ask again.
    pub(crate) fn tick(&mut self, now: Duration) -> Vec<(Incarnation, Each<bool>, u64)> {
        for limit in Limit::ALL {
            if let Some(recall) = &mut self.0[limit]
                && recall.done.is_none()
                && now >= recall.began + PATIENCE
            {
                (recall.done, recall.failed) = (Some(now), true);
            }
        }
        Limit::ALL.into_iter().flat_map(|limit| self.waiting(limit)).collect()
    }

    /// Returns whom the recall of a limit waits for.
    pub(crate) fn waiting(&self, limit: Limit) -> Vec<(Incarnation, Each<bool>, u64)> {
        let Some(recall) = self.0[limit].as_ref().filter(|recall| !recall.is_done()) else {
            return Vec::new();
        };
        let recalled = Each::new(|other| other == limit);
        recall.waiting.iter().map(|node| (*node, recalled, recall.round)).collect()
    }
}
