//! Rules over the audit logs, and the alerts that they give.
//!
//! A rule says which events of a log make an alert: many of them, too many a second, too large a part of all, none for too long, or one with
//! a value never seen before. A tenant's rules are a versioned document of its own beside the built-in ones. At the tenant's home the log is
//! looked through as it grows ([`aesp_follow::Follower`]), and what time alone changes is looked after; the counts, the alerts that last and
//! what each receiver knows are rows that are replaced under the home's fence together with the events that say what happened, so that another
//! home goes on without losing or doubling an alert. Receivers are told at least once, under a key that is the same each time.
//!
//! Everything that decides is pure: `window`, `group`, `tracker` (one rule), `desk` (a tenant), `note` (one receiver and group), `silence`.

mod alert;
mod alerts;
mod config;
mod courier;
mod desk;
mod document;
mod error;
mod group;
mod home;
mod matching;
mod metrics;
mod note;
mod operate;
mod rows;
mod rule;
mod rules;
#[cfg(test)]
mod sample;
mod silence;
mod store;
mod table;
mod template;
mod tracker;
mod transport;
mod trim;
mod wait;
mod window;

pub use aesp_audit_formats::Severity;
pub use alert::{Acknowledged, Alert};
pub use alerts::{Alerts, Wiring};
pub use config::{Config, Kind as ReceiverKind, Receiver};
pub use document::{Became, Document, Escalation, Kind, RuleForm};
pub use error::Error;
pub use home::Options;
pub use matching::Match;
pub use metrics::Metrics;
pub use note::{GroupBy, Tell};
pub use operate::{
    Acknowledgement, Applied, DryRun, ListedAlert, PendingAlert, ReceiverTold, Ruling, SilenceDraft, Status,
    acknowledge, applied, apply, deliveries, expire_silence, list_alerts, list_pending, list_silences,
    roll_back, rule, rules, silence, version, versions,
};
pub use rows::{Delivery, Outcome, RulesRow};
pub use silence::{LabelMatcher, Silence};
pub use table::{Failed, Happening};
pub use wait::Wait;
