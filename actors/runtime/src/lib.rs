//! Runtime connections: who may connect and fulfil which contract, what is outstanding at whom, and the one way to have a
//! Runtime run a call. Decisions are pure (`state`); an actor for each connection performs them; [`Runtimes`] is what
//! others hold.

mod attempt;
mod directory;
mod dispatch;
mod error;
mod handle;
mod late;
mod peer;
mod registration;

pub use attempt::Attempt;
pub use directory::{Admission, Directory, RuntimeSlot};
pub use dispatch::{Dispatch, Failure, Lost, LostReason, Priority, RunningDispatch, Update};
pub use error::Error;
pub use handle::{HostFrames, Options, Runtimes, Wiring};
pub use late::{LateResults, Settled};
pub use peer::PeerIdentity;
pub use registration::{Registration, Registrations};
