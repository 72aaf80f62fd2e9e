use std::{
    collections::BTreeMap,
    fmt, mem,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use aesp_sdk::ErrorCode;
use tokio::time::Instant;

use crate::{
    crowding::{Attempt, Crowding, Killed, Stay},
    steady,
    tools::Tool,
};

/// Names a call: its session, and its invocation id there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct CallKey {
    pub(crate) session: Arc<str>,
    pub(crate) invocation: String,
}

impl fmt::Display for CallKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.invocation, self.session)
    }
}

/// How a call ended for its client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Answered, with the name of its audit record.
    Answered {
        event: String,
        /// What the tool failed with; none for a success.
        failure: Option<String>,
        /// Whether the answer was this call's own.
        faithful: bool,
    },
    /// The Host says that it may or may not have run.
    Unknown,
    /// Refused for good.
    Refused(ErrorCode),
    /// Never answered within the client's patience; the last reason.
    GaveUp(ErrorCode),
}

impl End {
    /// Tells whether the call came to what it was made for. The tools of the workload never fail by themselves.
    pub(crate) fn is_success(&self) -> bool {
        matches!(self, Self::Answered { failure: None, .. })
    }

    /// Returns a name for those that are counted together.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Answered { failure: None, .. } => "answered".into(),
            Self::Answered { failure: Some(kind), .. } => format!("failed: {kind}"),
            Self::Unknown => "outcome unknown".into(),
            Self::Refused(code) => format!("refused: {}", code.as_str_name()),
            Self::GaveUp(code) => format!("given up: {}", code.as_str_name()),
        }
    }
}

/// A call as its client saw it. Times are milliseconds since the workload began.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) key: CallKey,
    pub(crate) tool: Tool,
    /// When the first attempt was sent.
    pub(crate) begun_ms: u64,
    /// When the attempt that ended it was sent.
    pub(crate) asked_ms: u64,
    pub(crate) ended_ms: u64,
    pub(crate) attempts: u32,
    pub(crate) end: End,
}

/// An administrative change that the Host acknowledged: a role that must be there, or must not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) role: String,
    pub(crate) exists: bool,
    pub(crate) at_ms: u64,
}

/// A right that was taken, and when the Host's answer said so.
#[derive(Clone, Debug)]
pub(crate) struct Revocation {
    pub(crate) principal: String,
    pub(crate) session: Arc<str>,
    pub(crate) returned_ms: u64,
}

/// What `aesp cluster status` said of one node at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sighting {
    /// Tells the answers apart.
    pub(crate) round: u64,
    pub(crate) node: String,
    pub(crate) incarnation: String,
    pub(crate) shards: u64,
}

/// Everything that the clients recorded.
#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) calls: Vec<Call>,
    pub(crate) changes: Vec<Change>,
    pub(crate) revocations: Vec<Revocation>,
    pub(crate) sightings: Vec<Sighting>,
    /// When no node could write, in milliseconds: from, to.
    pub(crate) closed: Vec<(u64, u64)>,
    /// Sessions whose calls count for availability, with the times of their answers.
    pub(crate) served: BTreeMap<Arc<str>, Vec<u64>>,
    /// Of the tenant at its limits.
    pub(crate) crowding: Crowding,
    /// When the workload began, by the steady clock.
    pub(crate) begun_us: u64,
}

/// Where clients record. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Recorder(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    begun: Instant,
    history: Mutex<History>,
    calls: AtomicU64,
    answered: AtomicU64,
}

impl Recorder {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Shared {
            begun: Instant::now(),
            history: Mutex::new(History { begun_us: steady::now_us(), ..History::default() }),
            calls: AtomicU64::new(0),
            answered: AtomicU64::new(0),
        }))
    }

    /// Returns the milliseconds since the workload began.
    pub(crate) fn now_ms(&self) -> u64 {
        u64::try_from(self.0.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn call(&self, call: Call) {
        let answered = call.end.is_success();
        self.0.calls.fetch_add(1, Ordering::Relaxed);
        self.0.answered.fetch_add(answered.into(), Ordering::Relaxed);
        self.edit(|history| {
            if answered && let Some(times) = history.served.get_mut(&call.key.session) {
                times.push(call.ended_ms);
            }
            history.calls.push(call);
        });
    }

    /// Makes the session's calls count for availability.
    pub(crate) fn serves(&self, session: &Arc<str>) {
        self.edit(|history| drop(history.served.insert(Arc::clone(session), Vec::new())));
    }

    pub(crate) fn change(&self, role: String, exists: bool) {
        let at_ms = self.now_ms();
        self.edit(|history| history.changes.push(Change { role, exists, at_ms }));
    }

    /// Forgets what was acknowledged of a role that may or may not be there now.
    pub(crate) fn forget(&self, role: &str) {
        self.edit(|history| history.changes.retain(|change| change.role != role));
    }

    pub(crate) fn revocation(&self, principal: String, session: Arc<str>, returned_ms: u64) {
        self.edit(|history| history.revocations.push(Revocation { principal, session, returned_ms }));
    }

    /// Notes that no node could write between these times.
    pub(crate) fn closed(&self, from_ms: u64, to_ms: u64) {
        self.edit(|history| history.closed.push((from_ms, to_ms)));
    }

    pub(crate) fn sightings(&self, sightings: Vec<Sighting>) {
        self.edit(|history| history.sightings.extend(sightings));
    }

    /// Notes a call of the tenant at its limits.
    pub(crate) fn attempt(&self, attempt: Attempt) {
        self.edit(|history| history.crowding.attempts.push(attempt));
    }

    /// Notes a session of the tenant at its limits.
    pub(crate) fn stay(&self, stay: Stay) {
        self.edit(|history| history.crowding.stays.push(stay));
    }

    /// Notes that a node is killed at this moment.
    pub(crate) fn kills(&self, node: usize) {
        let killed = Killed { node, at_us: steady::now_us() };
        self.edit(|history| history.crowding.killed.push(killed));
    }

    /// Returns how many calls ended, and how many of them with success.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.0.calls.load(Ordering::Relaxed), self.0.answered.load(Ordering::Relaxed))
    }

    /// Returns the sessions in which no call succeeded since `since_ms`.
    pub(crate) fn silent_since(&self, since_ms: u64) -> Vec<Arc<str>> {
        let history = self.0.history.lock().unwrap_or_else(PoisonError::into_inner);
        let silent = |times: &Vec<u64>| times.last().is_none_or(|last| *last < since_ms);
        history.served.iter().filter(|(_, times)| silent(times)).map(|(id, _)| Arc::clone(id)).collect()
    }

    /// Takes what was recorded.
    pub(crate) fn take(&self) -> History {
        self.edit(mem::take)
    }

    fn edit<T>(&self, edit: impl FnOnce(&mut History) -> T) -> T {
        edit(&mut self.0.history.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
