use aesp_storage::Error;
use async_trait::async_trait;
use reqwest::Method;

use super::{VaultConfig, client::Client, failure::Failure};
use crate::{SecretPlace, SecretRef, SecretText, Unresolved};

/// The key-value store (version 2) of Vault or OpenBao as a place of secrets: `vault:MOUNT/PATH#FIELD`.
pub struct VaultSecrets {
    client: Client,
}

impl VaultSecrets {
    /// Makes it; logs in when it is first asked.
    ///
    /// # Errors
    /// [`Error::KeyProvider`] if a file of the configuration can't be used.
    pub fn new(config: VaultConfig) -> Result<Self, Error> {
        Ok(Self { client: Client::new(config)? })
    }
}

#[async_trait]
impl SecretPlace for VaultSecrets {
    fn has(&self, reference: &SecretRef) -> bool {
        matches!(reference, SecretRef::Vault { .. })
    }

    async fn read(&self, reference: &SecretRef) -> Result<SecretText, Unresolved> {
        let SecretRef::Vault { mount, path, field } = reference else {
            return Err(reference.unresolved("it lies elsewhere".into()));
        };
        let answer = self.client.ask(Method::GET, &format!("{mount}/data/{path}"), None).await;
        let answer = answer.map_err(|failure| {
            let (why, away) = match failure {
                Failure::Away(why) => (why, true),
                Failure::Denied(why) => (why, false),
                Failure::NotFound(why) => (format!("there is no such secret ({why})"), false),
                Failure::Refused(why) => (why, false),
                Failure::Setup(error) => (error.to_string(), false),
            };
            let why = format!("{}: {why}", self.client.config.address);
            Unresolved { away, ..reference.unresolved(why) }
        })?;
        match answer["data"]["data"][field].as_str() {
            Some("") => Err(reference.unresolved("it is empty".into())),
            Some(text) => Ok(SecretText::new(text.to_owned())),
            None => Err(reference.unresolved(format!("the secret has no text in the field {field}"))),
        }
    }
}

impl std::fmt::Debug for VaultSecrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("VaultSecrets")
    }
}
