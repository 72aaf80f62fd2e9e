//! What people do with rules, alerts and silences. What changes rows runs in a transaction of its caller's, who records it.

mod listing;
mod silences;
mod trying;
mod versions;

pub use listing::{ListedAlert, PendingAlert, Status, deliveries, list_alerts, list_pending};
pub use silences::{Acknowledgement, SilenceDraft, acknowledge, expire_silence, list_silences, silence};
pub use trying::{Applied, DryRun, ReceiverTold};
pub use versions::{Ruling, applied, apply, roll_back, rule, rules, version, versions};

/// The most bytes of a comment, a reason or a note.
const TEXT_BYTES: usize = 1_024;
