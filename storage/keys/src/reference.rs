use std::{fmt, fs, io::Read, path::PathBuf, str::FromStr};

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

/// Where a secret lies: never the secret itself.
///
/// `file:PATH` is the content of a file without the line end, `env:NAME` an environment variable, `vault:MOUNT/PATH#FIELD` a field of
/// Vault's or OpenBao's key-value store (version 2), `azkv:NAME` or `azkv:NAME/VERSION` a secret of Azure Key Vault.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SecretRef {
    /// A file's content.
    File(PathBuf),
    /// An environment variable.
    Variable(String),
    /// A field of the key-value store.
    Vault {
        /// Where the store is mounted.
        mount: String,
        /// Which of its secrets.
        path: String,
        /// Which field of it.
        field: String,
    },
    /// A secret of Azure Key Vault.
    Azure {
        /// Its name.
        name: String,
        /// Which version; absent for the newest.
        version: Option<String>,
    },
}

/// Why a text is no reference to a secret. Does not repeat the text, which may be the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a reference to a secret: file:PATH, env:NAME, vault:MOUNT/PATH#FIELD or azkv:NAME; a secret itself does not belong into a configuration"
)]
pub struct Invalid;

impl FromStr for SecretRef {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let (scheme, rest) = text.split_once(':').ok_or(Invalid)?;
        let word = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        match scheme {
            "file" if !rest.is_empty() => Ok(Self::File(rest.into())),
            "env" if word(rest) && !rest.contains('=') => Ok(Self::Variable(rest.into())),
            "vault" => {
                let (place, field) = rest.rsplit_once('#').ok_or(Invalid)?;
                let (mount, path) = place.split_once('/').ok_or(Invalid)?;
                let plain = |text: &str| word(text) && !text.contains(['?', '#', '%']);
                let climbs = path.split('/').any(|part| matches!(part, "" | "." | ".."));
                if !plain(mount) || !plain(path) || !word(field) || climbs {
                    return Err(Invalid);
                }
                Ok(Self::Vault { mount: mount.into(), path: path.into(), field: field.into() })
            }
            "azkv" => {
                let (name, version) = match rest.split_once('/') {
                    Some((name, version)) => (name, Some(version)),
                    None => (rest, None),
                };
                // As Azure allows it: letters, digits and hyphens.
                let named = |text: &str| {
                    (1..=127).contains(&text.len())
                        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                };
                if !named(name) || version.is_some_and(|version| !named(version)) {
                    return Err(Invalid);
                }
                Ok(Self::Azure { name: name.into(), version: version.map(str::to_owned) })
            }
            _ => Err(Invalid),
        }
    }
}

impl TryFrom<String> for SecretRef {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<SecretRef> for String {
    fn from(reference: SecretRef) -> Self {
        reference.to_string()
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Variable(name) => write!(f, "env:{name}"),
            Self::Vault { mount, path, field } => write!(f, "vault:{mount}/{path}#{field}"),
            Self::Azure { name, version: None } => write!(f, "azkv:{name}"),
            Self::Azure { name, version: Some(version) } => write!(f, "azkv:{name}/{version}"),
        }
    }
}

/// A secret. It shows itself to nobody who does not ask, and is wiped when it is dropped.
#[derive(Clone)]
pub struct SecretText(SecretString);

impl SecretText {
    /// Takes a secret.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text.into())
    }

    /// Returns the secret, to be used at once and kept nowhere.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl PartialEq for SecretText {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText")
    }
}

/// Why a secret can't be had. Says what an operator does about it, and nothing of the secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reference} can't be read: {why}")]
pub struct Unresolved {
    /// Which one.
    pub reference: SecretRef,
    /// Why.
    pub why: String,
    /// Whether it may come back by itself.
    pub away: bool,
}

/// No secret is longer.
const MOST_BYTES: u64 = 64 * 1024;

impl SecretRef {
    /// Reads a secret that lies on this machine.
    ///
    /// # Errors
    /// [`Unresolved`] if it can't be read, is empty, or lies elsewhere.
    pub fn read_here(&self) -> Result<SecretText, Unresolved> {
        let text = match self {
            Self::File(path) => {
                let file = fs::File::open(path).map_err(|error| self.unresolved(error.to_string()))?;
                let mut text = String::new();
                let read = file.take(MOST_BYTES).read_to_string(&mut text);
                read.map_err(|error| self.unresolved(error.to_string()))?;
                text
            }
            Self::Variable(name) => {
                std::env::var(name).map_err(|error| self.unresolved(error.to_string()))?
            }
            Self::Vault { .. } | Self::Azure { .. } => {
                return Err(self.unresolved("it lies elsewhere; only file: and env: can stand here".into()));
            }
        };
        let text = SecretText::new(
            text.strip_suffix('\n').map_or(text.as_str(), |t| t.trim_end_matches('\r')).into(),
        );
        if text.expose().is_empty() { Err(self.unresolved("it is empty".into())) } else { Ok(text) }
    }

    pub(crate) fn unresolved(&self, why: String) -> Unresolved {
        Unresolved { reference: self.clone(), why, away: false }
    }

    /// Tells whether it lies on this machine.
    #[must_use]
    pub fn is_here(&self) -> bool {
        matches!(self, Self::File(_) | Self::Variable(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read_and_written_alike() {
        let good = [
            "file:/run/secrets/ldap",
            "file:beside.txt",
            "env:LDAP_PASSWORD",
            "vault:secret/aesp/ldap#password",
            "azkv:ldap-password",
            "azkv:ldap-password/0123abc",
        ];
        for text in good {
            assert_eq!(text.parse::<SecretRef>().unwrap().to_string(), text);
        }
        let wrong = [
            "",
            "hunter2",
            "file:",
            "env:",
            "env:A=B",
            "env:A B",
            "vault:secret",
            "vault:secret/x",
            "vault:secret/#f",
            "vault:secret/a/../b#f",
            "vault:secret/a?x#f",
            "vault:secret//a#f",
            "vault:/a#f",
            "azkv:",
            "azkv:a b",
            "azkv:a/b/c",
            "azkv:a/",
            "https://x",
            "pass:word",
        ];
        for text in wrong {
            let refused = text.parse::<SecretRef>().unwrap_err().to_string();
            assert!(text.len() < 6 || !refused.contains(text), "{text} is repeated");
        }
    }

    #[test]
    fn what_lies_here_is_read_and_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let reference = SecretRef::File(path.clone());
        assert!(reference.read_here().unwrap_err().to_string().contains("No such file"));
        fs::write(&path, "hunter2\r\n").unwrap();
        let secret = reference.read_here().unwrap();
        assert_eq!(secret.expose(), "hunter2");
        assert_eq!(format!("{secret:?}"), "SecretText");
        fs::write(&path, "\n").unwrap();
        assert!(reference.read_here().unwrap_err().to_string().contains("empty"));
        let elsewhere: SecretRef = "vault:secret/a#b".parse().unwrap();
        assert!(elsewhere.read_here().is_err());
    }
}
