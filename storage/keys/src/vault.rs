//! Vault and OpenBao: the transit engine as key provider, the key-value engine as a place of secrets.

mod client;
mod config;
mod failure;
mod kv;
mod login;
mod token;
mod transit;

pub use config::{Login, VaultConfig};
pub use kv::VaultSecrets;
pub use transit::Vault;
