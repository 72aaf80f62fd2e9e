//! Dispatches and what comes of them, as they travel between nodes.

use std::time::Duration;

use aesp_proto::{
    DispatchId, Error, Revision, SessionId, TenantId,
    v1::{
        DispatchFailed, DispatchFailure, DispatchLoss, DispatchLost, DispatchPriority, RemoteDispatch,
        RemoteDispatchPart, remote_dispatch_part::Part,
    },
};
use bytes::Bytes;
use prost::Message as _;
use tokio::time::Instant;

use crate::{Dispatch, Failure, Lost, LostReason, Priority, Rights, Update};

pub(super) fn to_wire(dispatch: &Dispatch, now: Instant) -> RemoteDispatch {
    let left = dispatch.deadline.saturating_duration_since(now).as_millis();
    let priority = match dispatch.priority {
        Priority::High => DispatchPriority::High,
        Priority::Normal => DispatchPriority::Normal,
        Priority::Low => DispatchPriority::Low,
    };
    RemoteDispatch {
        dispatch_id: dispatch.id.as_bytes().to_vec(),
        tenant_id: dispatch.tenant.as_bytes().to_vec(),
        session_id: dispatch.session.as_bytes().to_vec(),
        invocation_id: dispatch.invocation_id.clone(),
        correlation_id: dispatch.correlation_id.clone(),
        name: dispatch.name.as_ref().to_owned(),
        version: dispatch.version.as_ref().to_owned(),
        args_json: dispatch.args.clone(),
        deadline_ms: u64::try_from(left).unwrap_or(u64::MAX),
        streaming: dispatch.streaming,
        depth: dispatch.depth,
        priority: priority.into(),
        development: dispatch.development,
        tenant_revision: dispatch.rights.tenant.0,
        platform_revision: dispatch.rights.platform.0,
    }
}

/// Reads a dispatch.
///
/// # Errors
/// What is malformed in it; nothing was done then.
pub(super) fn from_wire(message: RemoteDispatch, now: Instant) -> Result<Dispatch, Error> {
    let malformed = |error| Error::invalid("a peer's dispatch names an id that is none").because(error);
    let priority = match message.priority() {
        DispatchPriority::High => Priority::High,
        DispatchPriority::Normal => Priority::Normal,
        DispatchPriority::Low => Priority::Low,
    };
    // A deadline beyond all calendars is one of a month.
    let left = Duration::from_millis(message.deadline_ms).min(Duration::from_secs(30 * 24 * 3600));
    Ok(Dispatch {
        id: DispatchId::from_slice(&message.dispatch_id).map_err(malformed)?,
        tenant: TenantId::from_slice(&message.tenant_id).map_err(malformed)?,
        session: SessionId::from_slice(&message.session_id).map_err(malformed)?,
        invocation_id: message.invocation_id,
        correlation_id: message.correlation_id,
        name: message.name.into(),
        version: message.version.into(),
        args: message.args_json,
        deadline: now + left,
        streaming: message.streaming,
        depth: message.depth,
        priority,
        development: message.development,
        rights: Rights {
            tenant: Revision(message.tenant_revision),
            platform: Revision(message.platform_revision),
        },
    })
}

pub(super) fn encode(part: Part) -> Bytes {
    RemoteDispatchPart { part: Some(part) }.encode_to_vec().into()
}

pub(super) fn part(update: Update) -> Part {
    match update {
        Update::Chunk(chunk) => Part::Chunk(chunk),
        Update::Result(result) => Part::Result(result),
        Update::Failed(failure) => Part::Failed(failed(failure)),
        Update::Lost(lost) => Part::Lost(DispatchLost {
            sent: lost.sent,
            reason: loss(lost.reason).into(),
            retry_after_ms: lost
                .retry_after
                .map_or(0, |after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX)),
        }),
    }
}

fn failed(failure: Failure) -> DispatchFailed {
    let (failure, expected, got) = match failure {
        Failure::TooLarge { limit_bytes } => (DispatchFailure::TooLarge, limit_bytes as u64, 0),
        Failure::Malformed => (DispatchFailure::Malformed, 0, 0),
        Failure::ChunkOrder { expected, got } => (DispatchFailure::ChunkOrder, expected, got),
        Failure::NotStreaming => (DispatchFailure::NotStreaming, 0, 0),
        Failure::SlowReader => (DispatchFailure::SlowReader, 0, 0),
    };
    DispatchFailed { failure: failure.into(), expected, got }
}

pub(super) fn failure(failed: &DispatchFailed) -> Failure {
    match failed.failure() {
        DispatchFailure::TooLarge => {
            Failure::TooLarge { limit_bytes: usize::try_from(failed.expected).unwrap_or(usize::MAX) }
        }
        DispatchFailure::ChunkOrder => Failure::ChunkOrder { expected: failed.expected, got: failed.got },
        DispatchFailure::NotStreaming => Failure::NotStreaming,
        DispatchFailure::SlowReader => Failure::SlowReader,
        DispatchFailure::Malformed | DispatchFailure::Unspecified => Failure::Malformed,
    }
}

fn loss(reason: LostReason) -> DispatchLoss {
    match reason {
        LostReason::Disconnected => DispatchLoss::Disconnected,
        LostReason::Draining => DispatchLoss::Draining,
        LostReason::Overloaded => DispatchLoss::Overloaded,
        LostReason::DeadlineExceeded => DispatchLoss::DeadlineExceeded,
        LostReason::Revoked => DispatchLoss::Revoked,
        LostReason::Stale => DispatchLoss::Stale,
        LostReason::NoLease => DispatchLoss::NoLease,
        LostReason::Unreachable => DispatchLoss::Unreachable,
    }
}

pub(super) fn lost(lost: &DispatchLost) -> Lost {
    let reason = match lost.reason() {
        DispatchLoss::Draining => LostReason::Draining,
        DispatchLoss::Overloaded => LostReason::Overloaded,
        DispatchLoss::DeadlineExceeded => LostReason::DeadlineExceeded,
        DispatchLoss::Revoked => LostReason::Revoked,
        DispatchLoss::Stale => LostReason::Stale,
        DispatchLoss::NoLease => LostReason::NoLease,
        DispatchLoss::Unreachable => LostReason::Unreachable,
        DispatchLoss::Disconnected | DispatchLoss::Unspecified => LostReason::Disconnected,
    };
    let retry_after = (lost.retry_after_ms > 0).then(|| Duration::from_millis(lost.retry_after_ms));
    Lost { sent: lost.sent, reason, retry_after }
}
