use std::{sync::Arc, time::Duration};

use aesp_proto::{
    DispatchId, ErrorCode, SessionId, TenantId,
    v1::{StreamChunk, ToolResult},
};
use bytes::Bytes;
use tokio::{sync::watch, time::Instant};

use crate::Rights;

/// One attempt to have a call run by a Runtime. Everything was checked before; nothing is checked again here.
#[derive(Clone, Debug)]
pub struct Dispatch {
    /// Minted for this attempt.
    pub id: DispatchId,
    /// The tenant of the session.
    pub tenant: TenantId,
    /// The session that the call belongs to.
    pub session: SessionId,
    /// The client's name of the call.
    pub invocation_id: String,
    /// Names the request in logs.
    pub correlation_id: String,
    /// The contract's name.
    pub name: Arc<str>,
    /// The contract's version.
    pub version: Arc<str>,
    /// The arguments, a JSON object.
    pub args: Bytes,
    /// When the caller gives up: the Runtime is told how much is left, and the call is cancelled then.
    pub deadline: Instant,
    /// Whether the answer comes in chunks.
    pub streaming: bool,
    /// How many calls this one is nested in.
    pub depth: u32,
    /// Which of the tenant's waiting calls go first.
    pub priority: Priority,
    /// Whether the contract is one that a Runtime registered for this session in DEVELOPMENT mode.
    pub development: bool,
    /// The revisions that the call was permitted at.
    pub rights: Rights,
}

/// Orders the waiting calls of one tenant. It never moves a call before those of another tenant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Somebody waits for it.
    High,
    /// The default.
    #[default]
    Normal,
    /// Bulk work.
    Low,
}

/// What an [`crate::Attempt`] yields.
#[derive(Clone, Debug, PartialEq)]
pub enum Update {
    /// A part of a stream, in order and without gaps; the attempt has ended if it `is_final`.
    Chunk(StreamChunk),
    /// The answer. Not yet checked against the contract. The end.
    Result(ToolResult),
    /// The Runtime answered with what can't be used. The end; the tool may have had its effect.
    Failed(Failure),
    /// No answer comes on this attempt. The end.
    Lost(Lost),
}

/// What was wrong with a Runtime's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// A result or chunk is too large.
    #[error("the Runtime's answer is larger than {limit_bytes} bytes")]
    TooLarge {
        /// The limit.
        limit_bytes: usize,
    },
    /// The result lacks its content or status, or has an unknown one.
    #[error("the Runtime's answer is malformed")]
    Malformed,
    /// A chunk is missing, repeated or out of order.
    #[error("the Runtime sent chunk {got} where {expected} was due")]
    ChunkOrder {
        /// The chunk that was due.
        expected: u64,
        /// The chunk that came.
        got: u64,
    },
    /// A chunk of a call that is not a stream.
    #[error("the Runtime answered a call that is not a stream with a chunk")]
    NotStreaming,
    /// The caller reads slower than the Runtime sends, beyond what is buffered.
    #[error("the stream is read too slowly")]
    SlowReader,
}

impl Failure {
    /// Returns the stable code that a client sees.
    #[must_use]
    pub fn code(self) -> ErrorCode {
        match self {
            Self::TooLarge { .. } | Self::Malformed => ErrorCode::SchemaViolation,
            Self::ChunkOrder { .. } | Self::NotStreaming => ErrorCode::TransportError,
            Self::SlowReader => ErrorCode::ResourceUnavailable,
        }
    }
}

impl From<Failure> for aesp_proto::Error {
    fn from(failure: Failure) -> Self {
        Self::new(failure.code(), failure.to_string())
    }
}

/// Why no answer comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Whether the call was sent to the Runtime. If not, it had no effect and may be dispatched again, whatever its effects.
    pub sent: bool,
    /// What happened.
    pub reason: LostReason,
    /// When another attempt may succeed.
    pub retry_after: Option<Duration>,
}

/// What took the Runtime away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LostReason {
    /// The connection ended, or the Runtime fell silent.
    Disconnected,
    /// The Runtime drains and took no new call.
    Draining,
    /// The queue of the tenant at the Runtime is full.
    Overloaded,
    /// The deadline passed; the Runtime was told to stop.
    DeadlineExceeded,
    /// A registration, contract or tenant lost its right; the Runtime was told to stop.
    Revoked,
    /// The node that would have sent it has newer rights than the permit: decide anew, by rights as new as the store's.
    Stale,
    /// The node that would have sent it may not act at the moment: it does not hold its lease.
    NoLease,
    /// The node that it was given to can't be reached, or has no Runtime for it any more.
    Unreachable,
}

/// A dispatch that a Runtime works on, as nested calls on behalf of it need to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningDispatch {
    /// The certificate identity of the Runtime.
    pub identity: Arc<str>,
    /// The tenant of the call.
    pub tenant: TenantId,
    /// The session of the call.
    pub session: SessionId,
    /// The client's name of the call.
    pub invocation_id: String,
    /// How many calls it is nested in.
    pub depth: u32,
}

/// Who has a dispatch, as far as it is known: another node says so only once its Runtime has the call.
#[derive(Clone, Debug)]
pub struct Holder(pub(crate) HeldBy);

#[derive(Clone, Debug)]
pub(crate) enum HeldBy {
    Here(Arc<str>),
    Elsewhere(watch::Receiver<Option<Arc<str>>>),
}

impl Holder {
    /// Returns the certificate identity of the Runtime, as it is known at this moment.
    #[must_use]
    pub fn identity(&self) -> Option<Arc<str>> {
        match &self.0 {
            HeldBy::Here(identity) => Some(Arc::clone(identity)),
            HeldBy::Elsewhere(identity) => identity.borrow().clone(),
        }
    }
}
