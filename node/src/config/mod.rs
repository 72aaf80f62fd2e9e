//! One TOML file, `AESP_<SECTION>__<KEY>` variables, then flags: parsed, validated, and only then used.

mod alerts;
mod audit;
mod audit_archive;
mod backup;
mod backup_fdb;
mod cluster;
mod default;
mod error;
mod fdb;
mod keys;
mod load;
mod model;
mod nearest;
mod origin;
mod validate;
mod validate_keys;

pub use audit::Audit;
pub use audit_archive::AuditArchive;
pub use backup::Backup;
pub use backup_fdb::BackupFdb;
pub use cluster::Cluster;
pub use default::DEFAULT_FILE;
pub use error::Error;
pub use fdb::Fdb;
pub use keys::{Keys, KeysProvider};
pub use load::{Sources, load};
pub use model::{Config, Engine, Limits, Listen, Log, LogFormat, Node, Store, Tls, Tokens};

#[cfg(test)]
mod tests;
