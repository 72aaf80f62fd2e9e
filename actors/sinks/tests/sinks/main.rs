//! Sinks on a store and a log, against real receivers where there are any, and stubs of published interfaces where there are none.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]
#![expect(clippy::print_stdout, reason = "a skipped test must be seen")]

mod behind;
mod blocked;
mod elasticsearch;
mod fixture;
mod objects;
mod otlp;
mod peers;
mod raw;
mod rsyslog;
mod splunk;
mod trouble;
mod webhook;
