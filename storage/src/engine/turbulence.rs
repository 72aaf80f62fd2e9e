use std::time::Duration;

use aesp_proto::Entropy;

/// How the memory engine behaves like a store across a network: it takes its time, refuses for no visible reason, and
/// sometimes can't say whether a commit landed.
#[derive(Clone, Debug)]
pub struct Turbulence {
    /// How long a read takes.
    pub read: Duration,
    /// How long a commit takes.
    pub commit: Duration,
    /// One in so many commits is refused without a conflict; 0 for none.
    pub spurious_conflict_one_in: u64,
    /// One in so many commits ends unknown, half of them applied; 0 for none.
    pub unknown_commit_one_in: u64,
    /// Makes the run repeat.
    pub seed: u64,
}

impl Default for Turbulence {
    fn default() -> Self {
        Self {
            read: Duration::from_millis(1),
            commit: Duration::from_millis(2),
            spurious_conflict_one_in: 20,
            unknown_commit_one_in: 30,
            seed: 1,
        }
    }
}

/// What is to happen to a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Normal,
    Refused,
    UnknownApplied,
    UnknownNotApplied,
}

impl Turbulence {
    pub(super) fn fate(&self, entropy: &Entropy) -> Fate {
        let one_in = |n: u64| n > 0 && entropy.below(n) == 0;
        if one_in(self.spurious_conflict_one_in) {
            Fate::Refused
        } else if one_in(self.unknown_commit_one_in) {
            if entropy.below(2) == 0 { Fate::UnknownApplied } else { Fate::UnknownNotApplied }
        } else {
            Fate::Normal
        }
    }
}
