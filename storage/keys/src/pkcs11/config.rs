use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::SecretRef;

/// Which module and token are used, and which of its keys is the master key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pkcs11Config {
    /// The vendor's module, for example `/usr/lib/softhsm/libsofthsm2.so`.
    pub module: PathBuf,
    /// The label of the token.
    pub token: String,
    /// The label of the AES key; its versions differ in `CKA_ID`, a number.
    pub key: String,
    /// The user's PIN, as a reference (`file:…` or `env:…`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pin: Option<SecretRef>,
}

impl Default for Pkcs11Config {
    fn default() -> Self {
        Self { module: PathBuf::new(), token: String::new(), key: "aesp".into(), pin: None }
    }
}

impl Pkcs11Config {
    /// Checks what can be checked without asking anybody.
    ///
    /// # Errors
    /// The name of the key that is wrong, and what would be right there.
    pub fn check(&self) -> Result<(), (&'static str, &'static str)> {
        if self.module.as_os_str().is_empty() {
            return Err(("module", "the file of the vendor's PKCS#11 module"));
        }
        if !(1..=32).contains(&self.token.len()) {
            return Err(("token", "the label of the token, 1 to 32 bytes"));
        }
        if !(1..=64).contains(&self.key.len()) {
            return Err(("key", "the label of the AES key, 1 to 64 bytes"));
        }
        if !self.pin.as_ref().is_some_and(SecretRef::is_here) {
            return Err(("pin", "a reference to the user's PIN, `file:PATH` or `env:NAME`"));
        }
        Ok(())
    }
}
