//! How long a tenant's audit events are kept.
//!
//! What is sensitive of an event is sealed under a key that belongs to a stretch of time and a class of retention, and to the person
//! whom the event is about. Events are erased by destroying keys: the log, its tree and its proofs stay whole. [`set_policy`] says how
//! long which events are kept, [`place_hold`] keeps what a court may ask for, [`erase`] destroys the key of one person, and the
//! [`Duty`] destroys the keys whose time is over, at each tenant's home, and has the index forget what they sealed.

mod archive;
mod decision;
mod destroy;
mod duty;
mod error;
mod hold;
mod metrics;
mod policy;
mod report;
mod sweep;

pub use archive::{Archive, Moved, shelf};
pub use decision::{Limits, Verdict, hold_on_all, hold_on_subject, verdict};
pub use destroy::{Due, Erased, destroy_due, due, erase};
pub use duty::{Duty, Wiring};
pub use error::Error;
pub use hold::{Hold, HoldScope, NewHold, Released, holds, place_hold, release_hold};
pub use metrics::Metrics;
pub use policy::{NewPolicy, NewRule, policy, set_policy, wanted_version};
pub use report::{Destruction, Partition, destructions, partitions};
pub use sweep::{Progress, sweep};
