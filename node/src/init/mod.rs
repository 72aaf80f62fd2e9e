//! What `aesp init` and `aesp pki` make: a data directory and the certificates of a development authority.

mod authority;
mod directory;
mod files;
mod issue;
mod joined;
mod revoked;

pub(crate) use authority::{Authority, Error};
pub(crate) use directory::{Wanted, ensure_free, make};
pub(crate) use issue::{Signed, SigningRequest, Subject};
pub(crate) use joined::{Draft, NewNode, NodeKey};
