//! Runtime connections: who may connect and fulfil which contract, what is outstanding at whom, and the one way to have a
//! Runtime run a call. Decisions are pure (`state`); an actor for each connection performs them; [`Runtimes`] is what
//! others hold.

mod actor;
mod attempt;
mod chunks;
mod directory;
mod dispatch;
mod error;
mod frames;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod handle;
mod late;
mod link;
mod lost;
mod metrics;
mod offers;
mod options;
mod peer;
mod penalty;
mod presence;
mod queue;
mod read;
mod record;
mod registration;
mod rows;
mod shared;
mod state;
mod table;
mod terms;
#[cfg(any(test, fuzzing))]
mod testing;

pub use attempt::Attempt;
pub use directory::{Admission, Directory, RuntimeSlot};
pub use dispatch::{Dispatch, Failure, Lost, LostReason, Priority, RunningDispatch, Update};
pub use error::Error;
pub use frames::HostFrames;
pub use handle::{Runtimes, Wiring};
pub use late::{LateResults, Settled};
pub use metrics::Metrics;
pub use options::Options;
pub use peer::PeerIdentity;
pub use registration::{Registration, Registrations};
pub use rows::{list, register, revoke};
