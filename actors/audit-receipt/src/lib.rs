//! Receipts of the audit log: what the Host signed when it recorded an answer, checked by whoever kept it.
//!
//! A [`Receipt`] verifies alone, with the public key that signs batches and nothing else: no store, no network, so that clients can
//! do it as well. What a batch is and how it is signed ([`head`], [`signature_input`], [`proven_root`]) is here too, because the log
//! and its receipts must agree on it. docs/audit-format.md has the bytes.

mod batch;
mod error;
mod key;
mod receipt;

pub use batch::{head, proven_root, signature_input};
pub use error::Error;
pub use key::{KeyId, PublicKey};
pub use receipt::{Acknowledged, FORMAT, Receipt};
