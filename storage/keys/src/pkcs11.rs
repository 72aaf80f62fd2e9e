//! A hardware security module through PKCS#11: an AES key that can't leave it wraps with AES-GCM.

mod config;
mod failure;
mod provider;
mod token;

pub use config::Pkcs11Config;
pub use provider::Pkcs11;
