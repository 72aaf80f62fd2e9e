//! One TOML file, `AESP_<SECTION>__<KEY>` variables, then flags: parsed, validated, and only then used.

mod backup;
mod cluster;
mod default;
mod error;
mod fdb;
mod load;
mod model;
mod nearest;
mod origin;
mod validate;

pub use backup::Backup;
pub use cluster::Cluster;
pub use default::DEFAULT_FILE;
pub use error::Error;
pub use fdb::Fdb;
pub use load::{Sources, load};
pub use model::{Config, Engine, Keys, Limits, Listen, Log, LogFormat, Node, Store, Tls, Tokens};

#[cfg(test)]
mod tests;
