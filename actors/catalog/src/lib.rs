//! The catalogue of tool contracts: the Host's own description of what tools take, give and do, content-addressed, activated by
//! administrators, imported from elsewhere as drafts only. A Runtime never supplies a schema.

mod adm;
mod changes;
mod compiled;
mod contract;
mod document;
mod draft;
mod error;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod import;
mod mcp;
mod read;
mod rows;
mod schema;
mod snapshot;
mod violation;

#[cfg(test)]
mod tests;

pub use adm::import_adm;
pub use changes::{activate, create_draft, retire};
pub use compiled::{Compiled, Compiler, MAX_ARGUMENTS_BYTES, MAX_RESULT_BYTES};
pub use contract::{CedarType, Classification, Contract, Digest, Effects, Risk, Visible};
pub use error::{Error, Violation};
pub use import::Import;
pub use mcp::import_mcp;
pub use read::{get_contract, list_contracts};
pub use rows::{Origin, Status, StoredContract};
pub use snapshot::Snapshot;
