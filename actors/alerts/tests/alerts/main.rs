//! Alerts from a log to receivers: Alertmanager and a mail server as they are, PagerDuty as a stub after its published interface.

mod alertmanager;
mod changes;
mod email;
mod fixture;
mod handover;
mod pagerduty;
mod peers;
mod trouble;
mod webhook;
