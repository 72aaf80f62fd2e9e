//! The platform log before witnesses: at the home of the platform's shard a [`Witnessing`] appends the heads of all logs to it, has each
//! configured witness cosign its checkpoints (C2SP tlog-witness), and anchors them to an object store and as audit events. The other side
//! is here, too: a [`Notary`] is what an independent witness runs.
//!
//! Each witness has its own lane, which holds up nobody else. What a witness answers is believed only if it is a cosignature of its key
//! over this very checkpoint. One that remembers another history than this log's is sent nothing more until an operator has looked:
//! either the log was rewritten, or the witness is wrong, and both are an operator's matter.

mod anchor;
mod backoff;
mod client;
mod config;
mod error;
mod lane;
mod metrics;
mod notary;
mod rows;
mod teller;
mod witnessing;

pub use anchor::{AnchorRow, Anchors, name as anchor_name};
pub use config::{Anchor, Config};
pub use error::Error;
pub use metrics::Metrics;
pub use notary::{Known, Notary, NotaryError, Reply};
pub use rows::WitnessRow;
pub use witnessing::{Wiring, Witnessing};
