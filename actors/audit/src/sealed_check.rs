//! Checks the checkpoints of an export against the tree over its events.

use std::collections::BTreeMap;

use aesp_merkle::{Checkpoint, Frontier, Hash, leaf_hash};

use crate::{PublicKey, verify::Fault};

/// What an export shows to be sealed of the log of one log epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedLog {
    /// The origin of its checkpoints.
    pub origin: String,
    /// Checkpoints of it in the export.
    pub checkpoints: u64,
    /// Leaves that the last of them covers.
    pub size: u64,
    /// Leaves that come before the export; more than 0 if it is one of a time range.
    pub first: u64,
    /// The root that it signs.
    pub root: Hash,
    /// Events of the log epoch in the export.
    pub events: u64,
}

/// The sealed logs by their log epoch.
pub type SealedLogs = BTreeMap<u32, SealedLog>;

/// The trees as the events are read.
#[derive(Default)]
pub(crate) struct Trees {
    /// Those that may have signed checkpoints.
    keys: Vec<PublicKey>,
    log_epoch: u32,
    /// Leaves that come before the export, in the log epoch that it begins with.
    first: u64,
    leaves: Frontier,
    logs: SealedLogs,
    /// What an earlier export shows.
    earlier: SealedLogs,
}

impl Trees {
    pub(crate) fn new(keys: Vec<PublicKey>, earlier: SealedLogs) -> Self {
        Self { keys, earlier, ..Self::default() }
    }

    /// Begins behind the first leaves of a log. Whether these are its leaves the next checkpoint shows.
    pub(crate) fn begin(&mut self, log_epoch: u32, leaves: Frontier) {
        (self.log_epoch, self.first, self.leaves) = (log_epoch, leaves.size(), leaves);
    }

    /// Takes in of which log epoch the events are that follow.
    pub(crate) fn commit(&mut self, log_epoch: u32) {
        if self.log_epoch != log_epoch {
            (self.log_epoch, self.first, self.leaves) = (log_epoch, 0, Frontier::default());
        }
    }

    /// Returns the log epoch of the last event, and how many leaves its log has up to it.
    pub(crate) fn end(&self) -> (u32, u64) {
        (self.log_epoch, self.leaves.size())
    }

    /// Appends a leaf.
    pub(crate) fn event(&mut self, leaf: &[u8]) -> Result<(), Fault> {
        self.leaves.push(leaf_hash(leaf));
        if let Some(log) = self.logs.get_mut(&self.log_epoch) {
            log.events += 1;
        }
        let size = self.leaves.size();
        let sealed = self.earlier.get(&self.log_epoch).filter(|earlier| earlier.size == size);
        if sealed.is_some_and(|earlier| earlier.root != self.leaves.root()) {
            let why = format!(
                "the first {size} events of the log are not those that the other export shows sealed"
            );
            return Err(why.as_str().into());
        }
        Ok(())
    }

    /// Checks a checkpoint whose last leaf was the last event.
    pub(crate) fn checkpoint(&mut self, note: &str) -> Result<(), Fault> {
        let fault = |why: String| Err(Fault::from(why.as_str()));
        let opened = self.keys.iter().map(|key| Checkpoint::open(note, key.0));
        let Some(head) = opened.clone().find_map(Result::ok) else {
            let why = opened.filter_map(Result::err).next_back().map(|error| error.to_string());
            return fault(format!(
                "the checkpoint is not believed: {}",
                why.unwrap_or_else(|| "no key is".into())
            ));
        };
        let others = self.logs.iter().chain(&self.earlier);
        if others.into_iter().any(|(epoch, log)| (log.origin == head.origin) != (*epoch == self.log_epoch)) {
            return fault("the checkpoint is of another log".into());
        }
        let sealed = self.logs.get(&self.log_epoch).map_or(self.first, |log| log.size);
        if head.size != self.leaves.size() || head.size <= sealed {
            let size = self.leaves.size();
            return fault(format!(
                "the checkpoint is of {} events and comes after {size}: some are missing or too many",
                head.size
            ));
        }
        if head.root != self.leaves.root() {
            return fault(format!(
                "the events are not those that were sealed: one of the leaves {sealed} to {} was changed, removed or inserted afterwards",
                head.size - 1
            ));
        }
        let log = self.logs.entry(self.log_epoch).or_insert_with(|| SealedLog {
            origin: head.origin,
            checkpoints: 0,
            size: 0,
            first: self.first,
            root: head.root,
            events: head.size - self.first,
        });
        log.checkpoints += 1;
        (log.size, log.root) = (head.size, head.root);
        Ok(())
    }

    /// Returns what is sealed, once everything was read.
    pub(crate) fn finish(&self) -> Result<SealedLogs, Fault> {
        for (log_epoch, earlier) in &self.earlier {
            let covered = self.logs.get(log_epoch).is_some_and(|log| log.events >= earlier.size);
            if !covered {
                let why =
                    format!("the log {} is shorter than in the other export, or not sealed", earlier.origin);
                return Err(why.as_str().into());
            }
        }
        Ok(self.logs.clone())
    }
}
