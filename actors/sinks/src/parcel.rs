use std::sync::Arc;

use aesp_audit::Position;
use aesp_cluster::Fence;
use aesp_proto::{EventId, TenantId, Timestamp};
use bytes::Bytes;
use tokio::time::Instant;

/// An event as a sink takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parcel {
    /// In whose log it is.
    pub(crate) tenant: TenantId,
    /// Where it is there.
    pub(crate) position: Position,
    /// Names it; a sink that keeps events by id uses it, so that a repeat makes no double.
    pub(crate) event: EventId,
    /// When it happened.
    pub(crate) at: Timestamp,
    /// Its bytes in the sink's format.
    pub(crate) bytes: Bytes,
    /// Tells of sinks itself; that it is refused makes no further event.
    pub(crate) about_sinks: bool,
}

/// A step of a tenant's log, in the order of the log.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) tenant: TenantId,
    /// Under which it was read. It is settled under no other: what another home did meanwhile is not known here.
    pub(crate) fence: Fence,
    pub(crate) position: Position,
    pub(crate) at: Timestamp,
    /// When it was read.
    pub(crate) since: Instant,
    pub(crate) what: What,
}

/// What becomes of a step.
#[derive(Clone, Debug)]
pub(crate) enum What {
    /// It is sent.
    Send(Arc<Parcel>),
    /// It is not for this sink, nor is anything between it and the step before.
    Skip,
    /// It can't be sent, for this reason.
    Unsendable(EventId, String),
}

impl Entry {
    pub(crate) fn len_bytes(&self) -> usize {
        match &self.what {
            What::Send(parcel) => parcel.bytes.len(),
            What::Skip | What::Unsendable(..) => 0,
        }
    }
}

/// An event that is put aside, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) tenant: TenantId,
    pub(crate) position: Position,
    pub(crate) event: EventId,
    pub(crate) why: String,
    pub(crate) about_sinks: bool,
}
