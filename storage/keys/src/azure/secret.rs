use aesp_storage::Error;
use async_trait::async_trait;
use reqwest::Method;

use super::{AzureConfig, client::Client, failure::Failure};
use crate::{SecretPlace, SecretRef, SecretText, Unresolved};

/// The secrets of an Azure Key Vault: `azkv:NAME` or `azkv:NAME/VERSION`.
pub struct AzureSecrets {
    client: Client,
}

impl AzureSecrets {
    /// Makes it; logs in when it is first asked.
    ///
    /// # Errors
    /// [`Error::KeyProvider`] if the configuration can't be used.
    pub fn new(config: AzureConfig) -> Result<Self, Error> {
        Ok(Self { client: Client::new(config)? })
    }
}

#[async_trait]
impl SecretPlace for AzureSecrets {
    fn has(&self, reference: &SecretRef) -> bool {
        matches!(reference, SecretRef::Azure { .. })
    }

    async fn read(&self, reference: &SecretRef) -> Result<SecretText, Unresolved> {
        let SecretRef::Azure { name, version } = reference else {
            return Err(reference.unresolved("it lies elsewhere".into()));
        };
        let path = match version {
            Some(version) => format!("secrets/{name}/{version}"),
            None => format!("secrets/{name}"),
        };
        let answer = self.client.ask(Method::GET, &path, None).await.map_err(|failure| {
            let (why, away) = match failure {
                Failure::Away(why) => (why, true),
                Failure::NotFound(why) => (format!("there is no such secret ({why})"), false),
                Failure::Denied(why) | Failure::Gone(why) | Failure::Refused(why) => (why, false),
            };
            Unresolved { away, ..reference.unresolved(format!("{}: {why}", self.client.config.address)) }
        })?;
        match answer["value"].as_str() {
            Some("") | None => Err(reference.unresolved("it is empty".into())),
            Some(text) => Ok(SecretText::new(text.to_owned())),
        }
    }
}

impl std::fmt::Debug for AzureSecrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AzureSecrets")
    }
}
