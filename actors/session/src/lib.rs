//! Sessions: bound to one tenant and principal for life, and the invocation ids that run within them.
//!
//! An active session is an actor around a pure state; it admits one running call per invocation id. An idle one is a row in the
//! store and nothing else. Every protected write is fenced by the epoch of the session's shard. What calls came to is in
//! [`OutcomeRow`]s beside the session, until 24 hours after its end.

mod activate;
mod actor;
mod begin;
mod create;
mod depart;
mod duty;
mod end;
mod error;
mod expire;
mod info;
mod live;
mod metrics;
mod origin;
mod outcome;
mod payload;
mod renew;
mod rows;
mod sessions;
mod state;
mod tenancy;
#[cfg(test)]
mod tests;

pub use begin::{Begin, Depth, Joined, Running};
pub use create::NewSession;
pub use end::Scope;
pub use error::Error;
pub use info::SessionInfo;
pub use metrics::Metrics;
pub use origin::Origin;
pub use outcome::{
    Outcome, OutcomeRow, OutcomeState, Settled, read_outcome, resolve, withdraw_intent, write_intent,
    write_outcome,
};
pub use payload::Payload;
pub use sessions::{Context, Options, Sessions};
