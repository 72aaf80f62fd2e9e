//! Azure Key Vault: a key that wraps, and a place of secrets.

mod client;
mod config;
mod envelope;
mod failure;
mod login;
mod provider;
mod secret;

pub use config::{AzureConfig, AzureLogin};
pub use provider::AzureKeyVault;
pub use secret::AzureSecrets;
