use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{SecretRef, http};

/// How Vault or OpenBao is reached, and which of its transit keys is the master key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VaultConfig {
    /// For example `https://vault.example:8200`; in plain HTTP on this machine alone.
    pub address: String,
    /// The namespace that everything is in; empty for the root.
    pub namespace: String,
    /// Where the transit engine is mounted.
    pub mount: String,
    /// The name of the transit key.
    pub key: String,
    /// The authorities that its certificate must come from, PEM; absent for those of the system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// How the node logs in.
    pub login: Login,
    /// Where the login method is mounted; empty for its usual place.
    pub login_mount: String,
    /// `login = "token"`: the token, as a reference (`file:…` or `env:…`); read again when it is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<SecretRef>,
    /// The role: the role id for AppRole, its name for Kubernetes; for certificates it may be empty.
    pub role: String,
    /// `login = "approle"`: the secret id, as a reference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_id: Option<SecretRef>,
    /// `login = "kubernetes"`: the file with the service account's token.
    pub jwt_file: PathBuf,
    /// `login = "certificate"`: the certificate chain, PEM; read again at each login.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// Its private key, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_key: Option<PathBuf>,
}

/// How a node logs in at Vault or OpenBao.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Login {
    /// With a token that somebody else made and renews or replaces.
    #[default]
    Token,
    /// As an AppRole.
    AppRole,
    /// As a service account of Kubernetes.
    Kubernetes,
    /// With a client certificate.
    Certificate,
}

impl Default for VaultConfig {
    fn default() -> Self {
        Self {
            address: String::new(),
            namespace: String::new(),
            mount: "transit".into(),
            key: "aesp".into(),
            ca: None,
            login: Login::Token,
            login_mount: String::new(),
            token: None,
            role: String::new(),
            secret_id: None,
            jwt_file: "/var/run/secrets/kubernetes.io/serviceaccount/token".into(),
            certificate: None,
            certificate_key: None,
        }
    }
}

impl VaultConfig {
    /// Checks what can be checked without asking anybody.
    ///
    /// # Errors
    /// The name of the key that is wrong, and what would be right there.
    pub fn check(&self) -> Result<(), (&'static str, &'static str)> {
        let encrypted = self.address.strip_prefix("https://").is_some_and(|rest| !rest.is_empty());
        if !encrypted && !http::is_local(&self.address) {
            let expected = "an address such as \"https://vault.example:8200\"; http:// on this machine alone";
            return Err(("address", expected));
        }
        let plain = |text: &str| {
            text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'/'))
                && !text.split('/').any(|part| matches!(part, "." | ".."))
        };
        let word = "letters, digits, `-`, `_`, `.` and `/`";
        if self.mount.is_empty() || !plain(&self.mount) {
            return Err(("mount", word));
        }
        if self.key.is_empty() || !plain(&self.key) || self.key.contains('/') {
            return Err(("key", "letters, digits, `-`, `_` and `.`"));
        }
        if !plain(&self.namespace) {
            return Err(("namespace", word));
        }
        if !plain(&self.login_mount) {
            return Err(("login_mount", word));
        }
        let here = |reference: &Option<SecretRef>| reference.as_ref().is_some_and(SecretRef::is_here);
        match self.login {
            Login::Token if !here(&self.token) => {
                Err(("token", "a reference to the token, `file:PATH` or `env:NAME`"))
            }
            Login::AppRole if self.role.is_empty() => Err(("role", "the role id of the AppRole")),
            Login::AppRole if !here(&self.secret_id) => {
                Err(("secret_id", "a reference to the secret id, `file:PATH` or `env:NAME`"))
            }
            Login::Kubernetes if self.role.is_empty() => Err(("role", "the name of the role")),
            Login::Certificate if self.certificate.is_none() => {
                Err(("certificate", "the file with the client certificate"))
            }
            Login::Certificate if self.certificate_key.is_none() => {
                Err(("certificate_key", "the file with the certificate's private key"))
            }
            _ if self.login == Login::Certificate && !encrypted => {
                Err(("address", "an https:// address, because a certificate is to be shown"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let wrong = |change: fn(&mut VaultConfig)| {
            let mut config = VaultConfig {
                address: "https://vault.example:8200".into(),
                token: Some("env:VAULT_TOKEN".parse().unwrap()),
                ..VaultConfig::default()
            };
            assert_eq!(config.check(), Ok(()));
            change(&mut config);
            config.check().unwrap_err().0
        };
        assert_eq!(wrong(|config| config.address = "http://vault.example:8200".into()), "address");
        assert_eq!(wrong(|config| config.address = String::new()), "address");
        assert_eq!(wrong(|config| config.mount = "a/../sys".into()), "mount");
        assert_eq!(wrong(|config| config.key = "a?b".into()), "key");
        assert_eq!(wrong(|config| config.namespace = "a b".into()), "namespace");
        assert_eq!(wrong(|config| config.token = None), "token");
        assert_eq!(wrong(|config| config.token = Some("vault:secret/a#b".parse().unwrap())), "token");
        assert_eq!(wrong(|config| config.login = Login::AppRole), "role");
        assert_eq!(wrong(|config| config.login = Login::Kubernetes), "role");
        assert_eq!(wrong(|config| config.login = Login::Certificate), "certificate");
    }
}
