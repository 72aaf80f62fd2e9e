use std::{collections::HashSet, time::Duration};

use aesp_proto::{
    DispatchId, Error, ErrorCode, TenantId,
    v1::{CapabilityUpdate, StreamChunk, ToolResult, host_frame, runtime_frame},
};
use tokio::time::Instant;

use crate::{Dispatch, Update, offers::Change};

/// What happens to a connection.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "frames are the common case, and are moved once")]
pub(crate) enum Event<R> {
    Frame(runtime_frame::Frame),
    /// What the Runtime can do from a time on.
    Planned(Instant, CapabilityUpdate),
    /// A frame of no known kind.
    Garbage,
    Dispatch(Box<Dispatch>, R),
    /// The caller has gone.
    Cancel(DispatchId, String),
    /// The caller's buffer of chunks is full.
    Overflow(DispatchId),
    /// Whether the connection takes more than it holds already.
    Writable(bool),
    Tick,
    /// The tenants' quotas have answered.
    Admitted(Result<(), Error>),
    /// Registrations, contracts or tenants may have changed.
    Recheck,
    Drain(Farewell),
    Close(Error),
    Disconnected,
}

/// How a Runtime is told to leave.
#[derive(Clone, Debug)]
pub(crate) struct Farewell {
    pub(crate) reason: String,
    /// After this time the connection is closed.
    pub(crate) grace: Duration,
    /// Whether it gets calls until it says that it drains, or half the grace is over.
    pub(crate) serve: bool,
}

/// What a connection does.
#[derive(Debug)]
pub(crate) enum Effect<R> {
    Send(host_frame::Frame),
    /// Asks the tenants' quotas.
    Admit(Vec<TenantId>),
    /// It serves from now on.
    Serving,
    /// Whether it takes streaming calls.
    Streaming(bool),
    Offers(Change),
    Chunk(DispatchId, StreamChunk),
    /// The dispatch has ended for its caller.
    End {
        dispatch: DispatchId,
        reply: R,
        update: Update,
    },
    /// A result that nobody waits for.
    Late(DispatchId, ToolResult),
    /// The connection ended while the Runtime had the call.
    Open(DispatchId),
    /// Every dispatch that the Runtime's process has seen.
    Report(HashSet<DispatchId>),
    Note(Note),
    Count(Count),
    /// Ends the connection, after what was sent.
    Close(Error),
}

/// What the audit log hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Note {
    Refused(ErrorCode, String),
    /// Tools with the reasons.
    FulfilmentRefused(Vec<(String, String)>),
    Registered(Vec<String>),
}

/// What the metrics hear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Count {
    Refused,
    Duplicate,
    Violation,
    Failed,
    Overdue,
}
