//! The node as a member of its cluster: what it brings, what the cluster asks of it, and what the other nodes send.

mod duties;
mod error;
mod follow;
mod listen;
mod member;
mod others;
mod quotas;
mod router;
mod runtimes;
mod secret;
mod witness;

pub(crate) use duties::Duties;
pub(crate) use error::Error;
pub(crate) use listen::listen;
pub(crate) use member::{Member, Membership, Outside, check_files};
pub(crate) use others::Others;
pub(crate) use quotas::QuotaLinks;
pub(crate) use router::Router;
pub(crate) use runtimes::RuntimeLinks;
pub(crate) use secret::{fresh_secret, read_secrets};
pub(crate) use witness::Witness;
