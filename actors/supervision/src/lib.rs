//! How actors are reached and kept alive: a [`Handle`] bounds what waits for an actor, sets a deadline and finds the actor
//! again after a restart; a [`Supervisor`] restarts its children with a declared intensity and escalates beyond it.
//!
//! An actor whose store is away says so with [`Unavailable`] and is parked; an outage is not a crash.

mod actor;
mod address;
mod child;
mod error;
mod guarded;
mod handle;
mod mailbox;
mod metrics;
mod restart;
mod state;
mod supervisor;
#[cfg(test)]
mod tests;

pub use address::Address;
pub use error::{Error, Unavailable};
pub use handle::Handle;
pub use mailbox::{Mailbox, Reply};
pub use metrics::{BeforeMessage, Metrics};
pub use restart::Restart;
pub use supervisor::{Escalation, Supervisor};
