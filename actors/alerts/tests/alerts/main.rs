//! Alerts from a log to receivers: Alertmanager and a mail server as they are, PagerDuty as a stub after its published interface.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]
#![expect(clippy::print_stdout, reason = "a skipped test must be seen")]

mod alertmanager;
mod changes;
mod email;
mod fixture;
mod handover;
mod pagerduty;
#[path = "../../../sinks/tests/sinks/peers.rs"]
#[expect(dead_code, reason = "other tests use other parts")]
mod peers;
mod trouble;
mod webhook;
