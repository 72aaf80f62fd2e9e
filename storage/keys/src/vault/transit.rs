use aesp_storage::{Error, KeyProvider, KeyVersion};
use async_trait::async_trait;
use data_encoding::BASE64;
use reqwest::Method;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{VaultConfig, client::Client, failure::Failure};

/// A key of the transit engine of Vault or OpenBao as master key: it never leaves the engine.
///
/// Source: OpenBao and Vault API documentation, "Transit secrets engine"; `associated_data` binds what is wrapped to its place.
pub struct Vault {
    client: Client,
}

/// What wraps with associated data.
const KINDS: [&str; 4] = ["aes256-gcm96", "aes128-gcm96", "chacha20-poly1305", "xchacha20-poly1305"];

impl Vault {
    /// Logs in, and makes sure that there is a key that can wrap.
    ///
    /// # Errors
    /// [`Error::KeyProviderAway`], [`Error::KeyProviderDenied`], or [`Error::KeyProvider`] for what is wrong in the configuration.
    pub async fn open(config: VaultConfig) -> Result<Self, Error> {
        let vault = Self { client: Client::new(config)? };
        let key = vault.key().await?;
        let kind = key["type"].as_str().unwrap_or_default();
        if !KINDS.contains(&kind) || key["derived"] == true {
            let wanted = "make one that wraps with associated data: bao write -f";
            return Err(Error::KeyProvider(format!(
                "{} is a key of type {kind}; {wanted} {} type=aes256-gcm96",
                vault.describe(),
                vault.path("keys"),
            )));
        }
        Ok(vault)
    }

    fn path(&self, verb: &str) -> String {
        let config = &self.client.config;
        format!("{}/{verb}/{}", config.mount.trim_matches('/'), config.key)
    }

    fn address(&self) -> &str {
        &self.client.config.address
    }

    async fn key(&self) -> Result<Value, Error> {
        match self.client.ask(Method::GET, &self.path("keys"), None).await {
            Ok(mut answer) => Ok(answer["data"].take()),
            Err(Failure::NotFound(why)) => Err(Error::KeyProvider(format!(
                "{} is not there ({why}); make it: bao write -f {}",
                self.describe(),
                self.path("keys")
            ))),
            Err(failure) => Err(failure.plain(self.address())),
        }
    }

    fn latest(key: &Value) -> Result<KeyVersion, Error> {
        let version = key["latest_version"].as_u64();
        version.map(KeyVersion::from).ok_or_else(|| Error::KeyProviderAway("the key has no version".into()))
    }
}

/// Splits `vault:v7:BASE64` into its version and the rest.
fn version_of(wrapped: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(wrapped).ok()?;
    let (version, _) = text.strip_prefix("vault:v")?.split_once(':')?;
    version.parse().ok()
}

#[async_trait]
impl KeyProvider for Vault {
    async fn wrap(&self, key: &[u8], aad: &[u8]) -> Result<Vec<u8>, Error> {
        let plain = Zeroizing::new(BASE64.encode(key));
        let body = json!({ "plaintext": plain.as_str(), "associated_data": BASE64.encode(aad) });
        let answer = self.client.ask(Method::POST, &self.path("encrypt"), Some(&body)).await;
        let answer = answer.map_err(|failure| failure.plain(self.address()))?;
        let wrapped = answer["data"]["ciphertext"].as_str().map(|text| text.as_bytes().to_vec());
        // What names no version can't be told from others later: it is not stored.
        let wrapped = wrapped.filter(|wrapped| version_of(wrapped).is_some());
        wrapped
            .ok_or_else(|| Error::KeyProviderAway(format!("{}: nothing was wrapped", self.address()).into()))
    }

    async fn unwrap(&self, wrapped: &[u8], aad: &[u8]) -> Result<Vec<u8>, Error> {
        let version = version_of(wrapped).ok_or(Error::WrongMasterKey)?;
        let body = json!({
            "ciphertext": std::str::from_utf8(wrapped).map_err(|_| Error::WrongMasterKey)?,
            "associated_data": BASE64.encode(aad),
        });
        let answer = self.client.ask(Method::POST, &self.path("decrypt"), Some(&body)).await;
        let answer = answer.map_err(|failure| {
            let what = format!("version {version} of {}", self.describe());
            failure.unwrapping(self.address(), &what)
        })?;
        let plain = answer["data"]["plaintext"].as_str();
        let plain = plain.and_then(|plain| BASE64.decode(plain.as_bytes()).ok());
        plain.ok_or_else(|| {
            Error::KeyProviderAway(format!("{}: nothing was unwrapped", self.address()).into())
        })
    }

    fn version_of(&self, wrapped: &[u8]) -> Result<KeyVersion, Error> {
        version_of(wrapped).map(KeyVersion::from).ok_or(Error::WrongMasterKey)
    }

    async fn current(&self) -> Result<KeyVersion, Error> {
        Self::latest(&self.key().await?)
    }

    async fn rotate(&self) -> Result<KeyVersion, Error> {
        let path = format!("{}/rotate", self.path("keys"));
        let answer = self.client.ask(Method::POST, &path, Some(&json!({}))).await;
        match answer.map_err(|failure| failure.plain(self.address()))? {
            // Vault answers with nothing, OpenBao with the key.
            Value::Null => self.current().await,
            answer => Self::latest(&answer["data"]),
        }
    }

    fn describe(&self) -> String {
        let config = &self.client.config;
        let namespace = config.namespace.trim_matches('/');
        let namespace = if namespace.is_empty() { String::new() } else { format!("{namespace}/") };
        let (mount, key) = (config.mount.trim_matches('/'), &config.key);
        format!("vault:{namespace}{mount}/{key} at {}", config.address.trim_end_matches('/'))
    }
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Vault")
    }
}
