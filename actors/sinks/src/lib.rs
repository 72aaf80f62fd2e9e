//! Sends audit events to the outside as they happen: to syslog receivers, webhooks, Splunk, Elasticsearch, object stores and
//! OpenTelemetry collectors.
//!
//! Each [`Config`] is a sink. A tenant's home reads its log onwards from the sink's cursor in the store, sends batches, and moves the
//! cursor on, under the home's fence, once the sink has confirmed them: every event arrives at least once, and a tenant's events arrive
//! in the order of its log. Each sink has its own tasks and its own bounded memory, so that one that is blocked delays itself alone.
//! An event that a sink refuses for good is put aside with the reason (a dead letter), and what follows goes on.

mod config;
mod delivery;
mod error;
mod filter;
mod format;
mod lane;
mod metrics;
mod operate;
mod parcel;
mod read;
mod rows;
mod settle;
mod sinks;
mod state;
mod transport;

pub use aesp_audit_formats::Severity;
pub use aesp_outbound::Cause;
pub use config::{Config, Kind, Start};
pub use error::Error;
pub use metrics::Metrics;
pub use operate::{DeadLetter, Retried};
pub use rows::{Report, SinkRow};
pub use sinks::{Sinks, Wiring};
