use serde::{Deserialize, Serialize};

use crate::{SecretRef, http};

/// Which Azure Key Vault is used, and how the node logs in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AzureConfig {
    /// For example `https://corp.vault.azure.net`.
    pub address: String,
    /// The name of the RSA key that wraps.
    pub key: String,
    /// How the node logs in.
    pub login: AzureLogin,
    /// `login = "managed-identity"`: empty for the machine's own, otherwise the client id of a user-assigned one.
    /// `login = "client-credentials"`: the application's client id.
    pub client_id: String,
    /// `login = "client-credentials"`: the directory (tenant) id.
    pub directory_id: String,
    /// `login = "client-credentials"`: the client secret, as a reference (`file:…` or `env:…`); read again at each login.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<SecretRef>,
    /// Where tokens of applications come from; another one for national clouds.
    pub authority: String,
    /// Where tokens of managed identities come from.
    pub metadata: String,
    /// What tokens are for; another one for national clouds.
    pub resource: String,
}

/// How a node logs in at Azure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AzureLogin {
    /// As the identity that Azure gave the machine.
    #[default]
    ManagedIdentity,
    /// As an application with a client secret.
    ClientCredentials,
}

impl Default for AzureConfig {
    fn default() -> Self {
        Self {
            address: String::new(),
            key: "aesp".into(),
            login: AzureLogin::ManagedIdentity,
            client_id: String::new(),
            directory_id: String::new(),
            client_secret: None,
            authority: "https://login.microsoftonline.com".into(),
            metadata: "http://169.254.169.254".into(),
            resource: "https://vault.azure.net".into(),
        }
    }
}

impl AzureConfig {
    /// Checks what can be checked without asking anybody.
    ///
    /// # Errors
    /// The name of the key that is wrong, and what would be right there.
    pub fn check(&self) -> Result<(), (&'static str, &'static str)> {
        let encrypted =
            |address: &str| address.starts_with("https://") && address.len() > 8 || http::is_local(address);
        if !encrypted(&self.address) {
            return Err(("address", "an address such as \"https://corp.vault.azure.net\""));
        }
        let word = |text: &str| {
            (1..=127).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        if !word(&self.key) {
            return Err(("key", "the name of a key: letters, digits and hyphens"));
        }
        if !encrypted(&self.authority) {
            return Err(("authority", "an https:// address"));
        }
        if !self.client_id.is_empty() && !word(&self.client_id) {
            return Err(("client_id", "a client id"));
        }
        if self.login == AzureLogin::ClientCredentials {
            if self.client_id.is_empty() {
                return Err(("client_id", "the application's client id"));
            }
            if !word(&self.directory_id) {
                return Err(("directory_id", "the directory (tenant) id of the application"));
            }
            if !self.client_secret.as_ref().is_some_and(SecretRef::is_here) {
                return Err(("client_secret", "a reference to the client secret, `file:PATH` or `env:NAME`"));
            }
        } else if !http::is_link_local(&self.metadata) && !http::is_local(&self.metadata) {
            return Err((
                "metadata",
                "the address of the metadata service of this machine, http://169.254.169.254",
            ));
        }
        Ok(())
    }
}
