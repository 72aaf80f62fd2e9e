//! Runtime connections: who may connect and fulfil which contract, what is outstanding at whom, and the one way to have a
//! Runtime run a call. Decisions are pure (`state`); an actor for each connection performs them; [`Runtimes`] is what
//! others hold.
//!
//! A Runtime is where its connection is, and a call's session may be another node's. Each node tells its peers what its
//! Runtimes fulfil (`cluster::announce`), in versions, so that whoever misses one asks for the whole; nothing of it is stored.
//! [`Runtimes::dispatch`] prefers a Runtime here and otherwise sends the whole dispatch to a peer (`cluster::remote`), with the
//! revisions that it was permitted at. That peer is the last hop (`cluster::serve`): its connection sends the call only while
//! the node holds its lease and has applied no newer rights; otherwise the owner hears that the Runtime never got it, decides
//! anew and tries again. What the Runtime answers comes back on the same request, and dropping the [`Attempt`] drops the
//! request, which cancels at the Runtime. When the link breaks the Runtime may have run the call: the contract's effects say
//! whether it is tried elsewhere or its outcome is unknown. A result that comes later, at whichever node, is passed once to the
//! owner of the session's shard (`late`), and the acknowledgement goes the other way.

mod actor;
mod attempt;
mod chunks;
mod cluster;
mod directory;
mod dispatch;
mod error;
mod frames;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod handle;
mod late;
mod lease;
mod link;
mod links;
mod lost;
mod metrics;
mod offers;
mod options;
mod peer;
mod peers;
mod penalty;
mod presence;
mod queue;
mod read;
mod record;
mod registration;
mod rights;
mod rows;
mod shared;
mod state;
mod table;
mod terms;
#[cfg(any(test, fuzzing))]
mod testing;

pub use attempt::Attempt;
pub use directory::{Admission, Directory, RuntimeSlot};
pub use dispatch::{Dispatch, Failure, Holder, Lost, LostReason, Priority, RunningDispatch, Update};
pub use error::Error;
pub use frames::HostFrames;
pub use handle::{Runtimes, Wiring};
pub use late::{LateResults, Settled};
pub use lease::RemainingLease;
pub use metrics::Metrics;
pub use options::Options;
pub use peer::PeerIdentity;
pub use peers::{LinkError, PeerAnswer, Peers};
pub use registration::{Registration, Registrations};
pub use rights::Rights;
pub use rows::{list, register, revoke};
