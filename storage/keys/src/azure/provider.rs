use aesp_storage::{Error, KeyProvider, KeyVersion};
use async_trait::async_trait;
use data_encoding::BASE64URL_NOPAD;
use reqwest::Method;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{
    AzureConfig,
    client::Client,
    envelope::{Envelope, KEY_BYTES, OneUse},
    failure::Failure,
};

/// An RSA key of Azure Key Vault as master key: it never leaves the vault.
///
/// Source: Azure Key Vault REST API reference 7.4, `wrapKey`, `unwrapKey`, `rotateKey`.
pub struct AzureKeyVault {
    client: Client,
}

const ALGORITHM: &str = "RSA-OAEP-256";

impl AzureKeyVault {
    /// Logs in, and makes sure that there is a key that can wrap.
    ///
    /// # Errors
    /// [`Error::KeyProviderAway`], [`Error::KeyProviderDenied`], or [`Error::KeyProvider`] for what is wrong in the configuration.
    pub async fn open(config: AzureConfig) -> Result<Self, Error> {
        let vault = Self { client: Client::new(config)? };
        let key = vault.key().await?;
        let kind = key["key"]["kty"].as_str().unwrap_or_default();
        if !matches!(kind, "RSA" | "RSA-HSM") {
            return Err(Error::KeyProvider(format!(
                "{} is a key of type {kind}; make an RSA key",
                vault.describe()
            )));
        }
        Ok(vault)
    }

    fn address(&self) -> &str {
        &self.client.config.address
    }

    async fn key(&self) -> Result<Value, Error> {
        let answer = self.client.ask(Method::GET, &format!("keys/{}", self.client.config.key), None).await;
        answer.map_err(|failure| match failure {
            Failure::NotFound(why) => Error::KeyProvider(format!(
                "{} is not there ({why}); make it: az keyvault key create --kty RSA --size 3072",
                self.describe()
            )),
            other => other.plain(self.address()),
        })
    }
}

/// Takes the version out of `https://…/keys/NAME/VERSION`.
fn version_of(kid: &Value) -> Result<KeyVersion, Error> {
    let version = kid.as_str().and_then(|kid| kid.trim_end_matches('/').rsplit('/').next());
    let version = version.filter(|version| {
        !version.is_empty() && version.len() <= 64 && version.bytes().all(|byte| byte.is_ascii_alphanumeric())
    });
    version.map(|version| KeyVersion(version.into())).ok_or_else(|| {
        Error::KeyProviderAway("the answer of Azure Key Vault names no version of the key".into())
    })
}

fn bytes_of(answer: &Value) -> Result<Zeroizing<Vec<u8>>, Error> {
    let value = answer["value"].as_str();
    let bytes = value.and_then(|value| BASE64URL_NOPAD.decode(value.trim_end_matches('=').as_bytes()).ok());
    let bytes = bytes.map(Zeroizing::new);
    bytes.ok_or_else(|| Error::KeyProviderAway("the answer of Azure Key Vault has no value".into()))
}

#[async_trait]
impl KeyProvider for AzureKeyVault {
    async fn wrap(&self, key: &[u8], aad: &[u8]) -> Result<Vec<u8>, Error> {
        let one_use = OneUse::generate()?;
        let value = Zeroizing::new(BASE64URL_NOPAD.encode(one_use.0.as_slice()));
        let body = json!({ "alg": ALGORITHM, "value": value.as_str() });
        let path = format!("keys/{}/wrapkey", self.client.config.key);
        let answer = self.client.ask(Method::POST, &path, Some(&body)).await;
        let answer = answer.map_err(|failure| failure.plain(self.address()))?;
        let version = version_of(&answer["kid"])?;
        one_use.seal(&version.0, &bytes_of(&answer)?, key, aad)
    }

    async fn unwrap(&self, wrapped: &[u8], aad: &[u8]) -> Result<Vec<u8>, Error> {
        let envelope = Envelope::read(wrapped).ok_or(Error::WrongMasterKey)?;
        let body = json!({ "alg": ALGORITHM, "value": BASE64URL_NOPAD.encode(envelope.wrapped) });
        let path = format!("keys/{}/{}/unwrapkey", self.client.config.key, envelope.version);
        let answer =
            self.client.ask(Method::POST, &path, Some(&body)).await.map_err(|failure| match failure {
                Failure::NotFound(why) | Failure::Gone(why) => Error::MasterKeyGone(
                    format!("version {} of {}: {why}", envelope.version, self.describe()).into(),
                ),
                // What was wrapped by another key makes no sense to this one.
                Failure::Refused(_) => Error::WrongMasterKey,
                other => other.plain(self.address()),
            })?;
        let one_use: [u8; KEY_BYTES] =
            bytes_of(&answer)?.as_slice().try_into().map_err(|_| Error::WrongMasterKey)?;
        OneUse(Zeroizing::new(one_use)).open(&envelope, aad).ok_or(Error::WrongMasterKey)
    }

    fn version_of(&self, wrapped: &[u8]) -> Result<KeyVersion, Error> {
        let envelope = Envelope::read(wrapped).ok_or(Error::WrongMasterKey)?;
        Ok(KeyVersion(envelope.version.into()))
    }

    async fn current(&self) -> Result<KeyVersion, Error> {
        version_of(&self.key().await?["key"]["kid"])
    }

    async fn rotate(&self) -> Result<KeyVersion, Error> {
        let path = format!("keys/{}/rotate", self.client.config.key);
        let answer = self.client.ask(Method::POST, &path, Some(&json!({}))).await;
        version_of(&answer.map_err(|failure| failure.plain(self.address()))?["key"]["kid"])
    }

    fn describe(&self) -> String {
        format!("azkv:{} at {}", self.client.config.key, self.address().trim_end_matches('/'))
    }
}

impl std::fmt::Debug for AzureKeyVault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AzureKeyVault")
    }
}
