//! The keys that seal the sensitive part of audit events, so that it can be erased by destroying them: one for each *partition* of a
//! tenant's log (a class of retention and a stretch of time), and one for each *subject* (a person or account). What concerns a
//! subject is sealed under a key derived from both, so that destroying either makes it unreadable.
//!
//! The keys are rows like others, sealed under the tenant's data key. What was loaded of them is remembered beside the tenant's keys,
//! which every transaction checks against its own snapshot: whoever destroys one of these keys renames the tenant's keys in the same
//! commit, so that from then on nobody uses what was remembered, in any process.

mod derive;
mod destroy;
mod names;
mod ring;
mod rows;
mod transaction;

pub use derive::AuditKey;
pub use destroy::Destroyed;
pub use names::{AuditKeyName, AuditPartition, AuditPeriod, AuditSubject};
pub(crate) use ring::{AuditRing, Made};
pub use rows::{AuditDestruction, AuditPartitionKey, AuditSubjectKey};
pub use transaction::Opened;
