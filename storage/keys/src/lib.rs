//! Key managers that wrap the tenants' keys of an `aesp-storage` store, and references to secrets that lie elsewhere.
//!
//! A master key never leaves its key manager: it wraps and unwraps there. Every question is bounded in time, and its failure
//! says what is wrong: the key manager is away, refuses, has lost the version, or the key is another.

mod azure;
mod http;
mod measured;
mod pkcs11;
mod reference;
mod secrets;
mod vault;

pub use azure::{AzureConfig, AzureKeyVault, AzureLogin, AzureSecrets};
pub use measured::{Measured, Metrics};
pub use pkcs11::{Pkcs11, Pkcs11Config};
pub use reference::{Invalid, SecretRef, SecretText, Unresolved};
pub use secrets::{Secret, SecretPlace, Secrets};
pub use vault::{Login, Vault, VaultConfig, VaultSecrets};
