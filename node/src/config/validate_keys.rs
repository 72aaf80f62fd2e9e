use std::path::PathBuf;

use aesp_keys::{AzureConfig, Pkcs11Config, SecretRef, VaultConfig};

use super::{Error, Keys, KeysProvider, validate::Check};

impl Check<'_> {
    pub(super) fn keys(&self, mut keys: Keys) -> Result<Keys, Error> {
        self.range("keys.cache_seconds", keys.cache_seconds, 10..=86_400)?;
        keys.master_key_file = self.beside("keys.master_key_file", keys.master_key_file);
        let section = match keys.provider {
            KeysProvider::Vault if keys.vault.is_none() => Some("[keys.vault]"),
            KeysProvider::Azure if keys.azure.is_none() => Some("[keys.azure]"),
            KeysProvider::Pkcs11 if keys.pkcs11.is_none() => Some("[keys.pkcs11]"),
            _ => None,
        };
        if let Some(section) = section {
            let expected = format!(
                "accompanied by a section {section}, which says where it is; docs/keys.md explains it"
            );
            return self.invalid("keys.provider", keys.provider.name(), expected);
        }
        keys.vault = keys.vault.map(|vault| self.vault(vault)).transpose()?;
        keys.azure = keys.azure.map(|azure| self.azure(azure)).transpose()?;
        keys.pkcs11 = keys.pkcs11.map(|token| self.pkcs11(token)).transpose()?;
        Ok(keys)
    }

    fn vault(&self, mut vault: VaultConfig) -> Result<VaultConfig, Error> {
        if let Err((key, expected)) = vault.check() {
            // References only: no secret can stand in any of them.
            let found = match key {
                "address" => vault.address,
                "mount" => vault.mount,
                "key" => vault.key,
                "namespace" => vault.namespace,
                "login_mount" => vault.login_mount,
                "role" => vault.role,
                "token" => vault.token.map(|token| token.to_string()).unwrap_or_default(),
                "secret_id" => vault.secret_id.map(|secret| secret.to_string()).unwrap_or_default(),
                _ => String::new(),
            };
            return self.invalid(&format!("keys.vault.{key}"), found, expected);
        }
        let path = |key: &str, path: PathBuf| self.beside(&format!("keys.vault.{key}"), path);
        vault.ca = vault.ca.map(|ca| path("ca", ca));
        vault.jwt_file = path("jwt_file", vault.jwt_file);
        vault.certificate = vault.certificate.map(|file| path("certificate", file));
        vault.certificate_key = vault.certificate_key.map(|file| path("certificate_key", file));
        vault.token = vault.token.map(|token| self.reference("keys.vault.token", token));
        vault.secret_id = vault.secret_id.map(|secret| self.reference("keys.vault.secret_id", secret));
        Ok(vault)
    }

    fn azure(&self, mut azure: AzureConfig) -> Result<AzureConfig, Error> {
        if let Err((key, expected)) = azure.check() {
            let found = match key {
                "address" => azure.address,
                "key" => azure.key,
                "authority" => azure.authority,
                "client_id" => azure.client_id,
                "directory_id" => azure.directory_id,
                "metadata" => azure.metadata,
                _ => azure.client_secret.map(|secret| secret.to_string()).unwrap_or_default(),
            };
            return self.invalid(&format!("keys.azure.{key}"), found, expected);
        }
        azure.client_secret =
            azure.client_secret.map(|secret| self.reference("keys.azure.client_secret", secret));
        Ok(azure)
    }

    fn pkcs11(&self, mut token: Pkcs11Config) -> Result<Pkcs11Config, Error> {
        if let Err((key, expected)) = token.check() {
            let found = match key {
                "module" => token.module.display().to_string(),
                "token" => token.token,
                "key" => token.key,
                _ => token.pin.map(|pin| pin.to_string()).unwrap_or_default(),
            };
            return self.invalid(&format!("keys.pkcs11.{key}"), found, expected);
        }
        token.module = self.beside("keys.pkcs11.module", token.module);
        token.pin = token.pin.map(|pin| self.reference("keys.pkcs11.pin", pin));
        Ok(token)
    }

    /// A file that a reference names is seen as every other.
    fn reference(&self, key: &str, reference: SecretRef) -> SecretRef {
        match reference {
            SecretRef::File(path) => SecretRef::File(self.beside(key, path)),
            other => other,
        }
    }
}
