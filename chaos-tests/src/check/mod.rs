//! The invariants, checked from the outside. Each checker gets the same evidence and names what contradicts it.

mod answers;
mod closed;
mod effects;
mod limits;
mod loss;
mod owners;
mod revocation;
#[cfg(test)]
mod sample;

use std::{collections::HashMap, fmt};

use serde::{Deserialize, Serialize};

use crate::{
    audit_log::Record,
    effects::Effect,
    evidence::Evidence,
    history::{Call, CallKey},
};

/// What must always hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) enum Invariant {
    /// Every acknowledged call has exactly one audit record, and the export verifies.
    A1,
    /// A call that must not run twice ran once at most.
    I1,
    /// Nothing acknowledged is lost.
    D1,
    /// No limit of a tenant is exceeded over the whole cluster.
    Q1,
    /// No use of a right after its revocation returned.
    R1,
    /// No shard has two owners.
    S1,
    /// An answer belongs to the call that it answers.
    T1,
    /// A node whose clock is off by more than a second is not ready.
    Clock,
    /// Actors crash and start again as declared: a node ends when one crashes beyond that, and only then.
    Supervision,
    /// After the last fault every session is served again.
    Recovery,
}

/// Something that contradicts an invariant, with the ids to look for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Violation {
    pub(crate) invariant: Invariant,
    pub(crate) what: String,
}

impl Violation {
    pub(crate) fn new(invariant: Invariant, what: impl Into<String>) -> Self {
        Self { invariant, what: what.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.invariant, self.what)
    }
}

/// Runs every checker.
pub(crate) fn all(evidence: &Evidence) -> Vec<Violation> {
    let index = Index::new(evidence);
    let checks = [
        answers::check,
        closed::check,
        effects::check,
        loss::check,
        revocation::check,
        owners::check,
        limits::check,
    ];
    checks.into_iter().flat_map(|check| check(evidence, &index)).collect()
}

/// The evidence by call.
#[derive(Default)]
pub(crate) struct Index<'a> {
    pub(crate) calls: HashMap<&'a CallKey, &'a Call>,
    pub(crate) sessions: HashMap<&'a str, Vec<&'a Call>>,
    pub(crate) effects: HashMap<&'a CallKey, Vec<&'a Effect>>,
    pub(crate) settled: HashMap<&'a CallKey, Vec<&'a Record>>,
}

impl<'a> Index<'a> {
    pub(crate) fn new(evidence: &'a Evidence) -> Self {
        let mut index = Self::default();
        for call in &evidence.history.calls {
            index.sessions.entry(&call.key.session).or_default().push(call);
            index.calls.insert(&call.key, call);
        }
        for effect in &evidence.effects {
            index.effects.entry(&effect.key).or_default().push(effect);
        }
        for record in evidence.records.iter().filter(|record| record.settles()) {
            index.settled.entry(&record.key).or_default().push(record);
        }
        index
    }
}
