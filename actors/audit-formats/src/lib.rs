//! Audit events as other programs read them: CSV (RFC 4180), OCSF, CEF (ArcSight) and syslog (RFC 5424). Pure functions from an
//! event to bytes, shared by exports and by whatever sends events elsewhere. docs/audit-search.md describes the mappings.

pub mod cef;
pub mod csv;
mod format;
mod names;
pub mod ocsf;
mod severity;
pub mod syslog;

pub use format::Format;
pub use severity::Severity;
