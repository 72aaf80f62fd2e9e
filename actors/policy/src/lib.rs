//! Who may do what: roles and Cedar policies of a tenant, decided through one [`authorize`] that denies by default.
//!
//! A [`Snapshot`] holds all rights of a tenant at one revision. Roles' grants become Cedar permits, policies stand beside
//! them, and an index by scope gives the evaluator only those that can apply. The vocabulary of policies is [`SCHEMA`].

mod assignments;
mod authorize;
mod builtin;
mod complexity;
mod decision;
mod entities;
mod error;
mod index;
mod needs;
mod policies;
mod request;
mod role;
mod roles;
mod rows;
mod schema;
mod snapshot;
mod text;

#[cfg(test)]
mod tests;

pub use assignments::{assign_role, list_assignments, revoke_role, set_roles};
pub use authorize::{authorize, authorize_both};
pub use decision::{Basis, Decision, Denied, Obligation, Pending, Permit, StepUp};
pub use error::Error;
pub use policies::{PolicyDraft, create_policy, delete_policy, get_policy, list_policies};
pub use request::{Context, PolicyArguments, PolicyValue, Request, Resource};
pub use role::{Grant, Role};
pub use roles::{create_role, delete_role, list_roles};
pub use rows::{Assignment, StoredPolicy};
pub use schema::SCHEMA;
pub use snapshot::{Parts, Snapshot};
pub use text::validate as validate_policy;
