//! Alerts from a log to receivers: Alertmanager and a mail server as they are, PagerDuty as a stub after its published interface.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]
#![expect(clippy::print_stdout, reason = "a skipped test must be seen")]

mod alertmanager;
mod changes;
mod email;
mod fixture;
mod handover;
mod pagerduty;
mod peers;
mod trouble;
mod webhook;
