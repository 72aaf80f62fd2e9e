//! The audit log of the AESP Host: append-only, per tenant, in commit order, verifiable by anyone offline.
//!
//! A [`Recorder`] commits changes together with their events in batches; a change that fails, fails alone, and when the log
//! can't be written, everything fails. Every batch links to the one before it and carries the node's signature; an export
//! ([`Export`]) proves itself ([`verify`]). The bytes are fixed for ever and described in docs/audit-format.md.

mod append;
mod batch;
mod chain_check;
pub mod checkpoints;
mod cursor;
mod error;
mod event;
pub mod events;
mod export;
pub mod feed;
mod filter;
mod flush;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
#[cfg(test)]
mod golden;

mod key;
mod leaf;
mod line;
mod log_key;
mod lookup;
mod manifest;
mod metrics;
mod origin;
mod query;
mod queue;
mod queues;
mod range_check;
mod reader;
mod receipt;
mod recorder;
mod refused;
mod retention;
mod rows;
mod sealed_check;
mod seek;
pub mod shelf;
mod tail;
mod unit;
mod verify;
mod view;
mod writer;

pub use aesp_merkle::Hash;
pub use error::Error;
pub use event::{Details, Event};
pub use export::{Export, Seals, Section};
pub use filter::{Filter, tool, words, words_of};
pub use key::{KeyId, PublicKey, adopt_keys, batch_keys};
pub use log_key::{Handover, LogKey, believed, certified, handover_text, node_key_text};
pub use lookup::{Lookup, look_up};
pub use manifest::{Asked, ManifestReport, ManifestSigner, Part, read_part, verify_manifest};
pub use metrics::Metrics;
pub use origin::{Origin, open_origin, open_origins};
pub use query::{DISORDER, Page, Query, Span, query, query_in};
pub use range_check::{RangeReport, TimeRange, Witness};
pub use reader::{Opener, Stored, end_of_log, place_before, read_at, read_span};
pub use receipt::Receipt;
pub use recorder::{Duty, Options, Recorder};
pub use refused::Refused;
pub use retention::{RetentionClass, RetentionPolicy, RetentionRule, STANDARD, STANDARD_CLASS, subject_of};
pub use rows::Position;
pub use sealed_check::{SealedLog, SealedLogs};
pub use tail::{Found, ReadFrom, Tail, find, tail};
pub use verify::{Against, Broken, Report, Trust, verify, verify_with};
