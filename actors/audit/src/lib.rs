//! The audit log of the AESP Host: append-only, per tenant, in commit order, verifiable by anyone offline.
//!
//! A [`Recorder`] commits changes together with their events in batches; a change that fails, fails alone, and when the log
//! can't be written, everything fails. Every batch links to the one before it and carries the node's signature; an export
//! ([`Export`]) proves itself ([`verify`]). The bytes are fixed for ever and described in docs/audit-format.md.

mod append;
mod batch;
mod chain_check;
mod cursor;
mod error;
mod event;
mod export;
mod flush;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
#[cfg(test)]
mod golden;
mod key;
mod leaf;
mod line;
mod merkle;
mod metrics;
mod origin;
mod query;
mod queue;
mod queues;
mod recorder;
mod refused;
mod rows;
mod seek;
mod tail;
mod unit;
mod verify;
mod view;
mod writer;

pub use error::Error;
pub use event::{Details, Event};
pub use export::Export;
pub use key::{KeyId, PublicKey};
pub use merkle::Hash;
pub use metrics::Metrics;
pub use origin::{Origin, open_origins};
pub use query::{Page, Query, query};
pub use recorder::{Duty, Options, Recorder};
pub use refused::Refused;
pub use rows::Position;
pub use tail::{Found, ReadFrom, Tail, end, find, tail};
pub use verify::{Broken, Report, verify};
