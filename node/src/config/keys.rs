use std::{io, path::PathBuf, time::Duration};

use aesp_keys::{AzureConfig, Login, Pkcs11Config, SecretRef, VaultConfig};
use serde::{Deserialize, Serialize};

/// What protects the data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Keys {
    /// Who holds the master key, which wraps the tenants' keys. Without it the store can't be read by anyone.
    pub provider: KeysProvider,
    /// `provider = "file"`: the file with the master key, mode 0600.
    pub master_key_file: PathBuf,
    /// How long tenants' keys are held in memory after the provider gave them, 10 s to a day: so long may it be away.
    pub cache_seconds: u32,
    /// `provider = "vault"`: how Vault or OpenBao is reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vault: Option<VaultConfig>,
    /// `provider = "azure"`: which Azure Key Vault, and how the node logs in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub azure: Option<AzureConfig>,
    /// `provider = "pkcs11"`: which module and token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pkcs11: Option<Pkcs11Config>,
}

/// Who holds the master key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeysProvider {
    /// A file of this machine.
    #[default]
    File,
    /// The transit engine of Vault or OpenBao.
    Vault,
    /// Azure Key Vault.
    Azure,
    /// A hardware security module.
    Pkcs11,
}

impl KeysProvider {
    /// Returns its name in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Vault => "vault",
            Self::Azure => "azure",
            Self::Pkcs11 => "pkcs11",
        }
    }
}

impl Default for Keys {
    fn default() -> Self {
        Self {
            provider: KeysProvider::File,
            master_key_file: "aesp-data/master.key".into(),
            cache_seconds: 600,
            vault: None,
            azure: None,
            pkcs11: None,
        }
    }
}

impl Keys {
    /// Returns how long tenants' keys are held in memory.
    #[must_use]
    pub fn life(&self) -> Duration {
        Duration::from_secs(self.cache_seconds.into())
    }

    /// Returns the same with absolute paths, for another folder's configuration.
    ///
    /// # Errors
    /// When there is no working directory.
    pub fn absolute(mut self) -> io::Result<Self> {
        for path in self.paths() {
            *path = std::path::absolute(&*path)?;
        }
        Ok(self)
    }

    /// Returns the files without which the provider can't be used, each with its key in the configuration.
    #[must_use]
    pub fn files(&self) -> Vec<(&'static str, PathBuf)> {
        let (vault, azure, pkcs11) = (self.vault.as_ref(), self.azure.as_ref(), self.pkcs11.as_ref());
        let all = match self.provider {
            KeysProvider::File => vec![("keys.master_key_file", Some(self.master_key_file.clone()))],
            KeysProvider::Vault => vault.map(files_of_vault).unwrap_or_default(),
            KeysProvider::Azure => azure
                .map(|azure| vec![("keys.azure.client_secret", named(azure.client_secret.as_ref()))])
                .unwrap_or_default(),
            KeysProvider::Pkcs11 => pkcs11
                .map(|token| {
                    vec![
                        ("keys.pkcs11.module", Some(token.module.clone())),
                        ("keys.pkcs11.pin", named(token.pin.as_ref())),
                    ]
                })
                .unwrap_or_default(),
        };
        all.into_iter().filter_map(|(key, path)| Some((key, path?))).collect()
    }

    fn paths(&mut self) -> Vec<&mut PathBuf> {
        let mut paths = vec![&mut self.master_key_file];
        if let Some(vault) = &mut self.vault {
            paths.push(&mut vault.jwt_file);
            paths.extend(
                [&mut vault.ca, &mut vault.certificate, &mut vault.certificate_key].into_iter().flatten(),
            );
            paths.extend([&mut vault.token, &mut vault.secret_id].into_iter().filter_map(file));
        }
        paths.extend(self.azure.as_mut().and_then(|azure| file(&mut azure.client_secret)));
        if let Some(token) = &mut self.pkcs11 {
            paths.push(&mut token.module);
            paths.extend(file(&mut token.pin));
        }
        paths
    }
}

fn files_of_vault(vault: &VaultConfig) -> Vec<(&'static str, Option<PathBuf>)> {
    let mut files = match vault.login {
        Login::Token => vec![("keys.vault.token", named(vault.token.as_ref()))],
        Login::AppRole => vec![("keys.vault.secret_id", named(vault.secret_id.as_ref()))],
        Login::Kubernetes => vec![("keys.vault.jwt_file", Some(vault.jwt_file.clone()))],
        Login::Certificate => vec![
            ("keys.vault.certificate", vault.certificate.clone()),
            ("keys.vault.certificate_key", vault.certificate_key.clone()),
        ],
    };
    files.push(("keys.vault.ca", vault.ca.clone()));
    files
}

fn named(reference: Option<&SecretRef>) -> Option<PathBuf> {
    match reference? {
        SecretRef::File(path) => Some(path.clone()),
        _ => None,
    }
}

fn file(reference: &mut Option<SecretRef>) -> Option<&mut PathBuf> {
    match reference.as_mut()? {
        SecretRef::File(path) => Some(path),
        _ => None,
    }
}
