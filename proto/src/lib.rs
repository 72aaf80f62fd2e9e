//! The wire contract of the AESP Host: messages and services of `aesp.v1`, typed ids, and the error codes with their one
//! mapping to gRPC status. Everything else depends on this crate; it depends on nothing of ours.

mod chain;
mod clock;
mod entropy;
mod error;
mod id;
mod operation;
mod position;
pub mod v1;

pub use chain::chain;
pub use clock::{Clock, ManualClock, SystemClock, Timestamp};
pub use entropy::Entropy;
pub use error::{Error, Result};
pub use id::{
    AlertId, ConnectionId, DecisionId, DeliveryId, DispatchId, EventId, HoldId, Id, IdKind, InvalidId,
    PrincipalId, RequestId, SessionId, SilenceId, TenantId, TokenId, WriterId, kind,
};
pub use operation::{Access, Operation, Operations, descriptor_set};
pub use position::{Epoch, Incarnation, Revision, ShardId};
pub use v1::ErrorCode;
