use std::{collections::BTreeMap, time::Duration};

use aesp_proto::Entropy;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use crate::{check::Violation, history::Recorder, topology::Topology};

/// Something that was done to the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fault {
    /// Milliseconds since the workload began.
    pub(crate) at_ms: u64,
    pub(crate) what: String,
}

/// Where a scenario plays.
pub(crate) struct Field<'a> {
    pub(crate) topology: &'a mut Topology,
    pub(crate) random: Entropy,
    pub(crate) recorder: Recorder,
    pub(crate) until: Instant,
    pub(crate) faults: Vec<Fault>,
    /// What a scenario sees that must not be.
    pub(crate) violations: Vec<Violation>,
    /// What a scenario measures beside the calls, by name with its unit.
    pub(crate) measures: BTreeMap<String, f64>,
}

impl Field<'_> {
    /// Tells whether the time is over.
    pub(crate) fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }

    /// Notes what is about to be done.
    pub(crate) fn note(&mut self, what: impl Into<String>) {
        self.faults.push(Fault { at_ms: self.recorder.now_ms(), what: what.into() });
    }

    /// Kills a node, and notes it.
    ///
    /// # Errors
    /// When it does not end.
    pub(crate) async fn kill(&mut self, node: usize) -> anyhow::Result<()> {
        self.note(format!("kill -9 {}", self.name(node)));
        self.recorder.kills(node);
        self.topology.nodes[node].kill().await
    }

    /// Keeps the largest value of a measure.
    pub(crate) fn measure(&mut self, name: &str, value: f64) {
        let kept = self.measures.entry(name.to_owned()).or_insert(value);
        *kept = kept.max(value);
    }

    /// Returns a number below `bound`, by the seed.
    pub(crate) fn pick(&self, bound: usize) -> usize {
        usize::try_from(self.random.below(bound.max(1) as u64)).unwrap_or(0)
    }

    /// Returns one of them, by the seed.
    pub(crate) fn one_of<T: Copy>(&self, choices: &[T]) -> T {
        choices[self.pick(choices.len())]
    }

    /// Waits for a time between these, by the seed.
    pub(crate) async fn pause(&self, least_ms: u64, most_ms: u64) {
        sleep(Duration::from_millis(least_ms + self.random.below(most_ms - least_ms + 1))).await;
    }

    /// Returns the name of a node.
    pub(crate) fn name(&self, node: usize) -> String {
        self.topology.nodes[node].name().to_owned()
    }
}
