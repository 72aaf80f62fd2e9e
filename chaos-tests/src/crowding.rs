//! What a tenant at its limits did, as its clients saw it. Times are those of [`crate::steady::now_us`].

use std::sync::Arc;

use crate::history::CallKey;

/// The limits of a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) sessions: u32,
    pub(crate) calls_in_flight: u32,
    pub(crate) calls_per_second: u32,
}

/// A call that was sent once, to one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attempt {
    pub(crate) key: CallKey,
    pub(crate) node: usize,
    pub(crate) asked_us: u64,
    pub(crate) ended_us: u64,
    /// Which dispatch answered it, as the tool told; none if it was refused or not answered.
    pub(crate) dispatch: Option<String>,
}

/// A session, from the answer that it was made to the first request for its end. It certainly lived then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stay {
    pub(crate) session: Arc<str>,
    pub(crate) made_us: u64,
    pub(crate) closed_us: u64,
}

/// A node that was killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Killed {
    pub(crate) node: usize,
    pub(crate) at_us: u64,
}

/// Everything of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Crowding {
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) stays: Vec<Stay>,
    pub(crate) killed: Vec<Killed>,
}
