use std::{fs, os::unix::fs::PermissionsExt, path::Path, sync::Arc};

use aesp_backup::{ArchiveKey, Credentials, Target};
use aesp_storage::{KeyProvider, LmdbOptions};

use super::Error;
use crate::Config;

/// Where the archive is, and what opens it.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) target: Target,
    pub(crate) key: ArchiveKey,
}

/// What an object store asks for, in the words of its own tools.
const ID: &[&str] = &["AWS_ACCESS_KEY_ID"];
const SECRET: &[&str] = &["AWS_SECRET_ACCESS_KEY", "AZURE_STORAGE_ACCOUNT_KEY", "GOOGLE_SERVICE_ACCOUNT_KEY"];
const SESSION_TOKEN: &[&str] = &["AWS_SESSION_TOKEN"];

impl Place {
    /// Reads the section and the files that it names.
    ///
    /// # Errors
    /// [`Error::Unconfigured`], [`Error::Credentials`], or that the target can't be one.
    pub(crate) fn of(config: &Config, provider: Arc<dyn KeyProvider>) -> Result<Self, Error> {
        let section = config.backup.as_ref().ok_or(Error::Unconfigured)?;
        let files = (section.credentials_file.as_deref(), section.ca.as_deref());
        let mut target = target(&section.target, files)?;
        if section.object_lock_days > 0 {
            target = target.with_object_lock(section.object_lock_days)?;
        }
        let description = provider.describe();
        Ok(Self { target, key: ArchiveKey { provider, description } })
    }
}

/// Returns an object store with the credentials of a file, or of the environment, and the authorities of another.
///
/// # Errors
/// [`Error::Credentials`], or that the target can't be one.
pub(crate) fn target(url: &str, (file, ca): (Option<&Path>, Option<&Path>)) -> Result<Target, Error> {
    let mut credentials = match file {
        Some(path) => read(path)?,
        None => found(|name| std::env::var(name).ok()),
    };
    if let Some(path) = ca {
        let pem = fs::read_to_string(path).map_err(|error| unusable(path, &error.to_string()))?;
        credentials.roots_pem = Some(pem);
    }
    Ok(Target::parse(url, credentials)?)
}

/// Returns how the store of this configuration is opened, where it is lmdb's.
pub(crate) fn map_size(config: &Config) -> LmdbOptions {
    LmdbOptions { map_size_bytes: (config.store.map_size_gib as usize) << 30, ..LmdbOptions::default() }
}

/// Takes the credentials that `ask` knows.
fn found(ask: impl Fn(&str) -> Option<String>) -> Credentials {
    let first = |names: &[&str]| names.iter().find_map(|name| ask(name));
    Credentials {
        id: first(ID),
        secret: first(SECRET).map(Into::into),
        session_token: first(SESSION_TOKEN).map(Into::into),
        roots_pem: None,
    }
}

fn unusable(path: &Path, what: &str) -> Error {
    Error::Credentials { path: path.to_owned(), line: None, what: what.to_owned() }
}

/// Makes sure that nobody else can read or write a file with credentials.
///
/// # Errors
/// [`Error::Credentials`].
pub(super) fn check_private(path: &Path) -> Result<(), Error> {
    let failed = |error: std::io::Error| unusable(path, &error.to_string());
    let mode = fs::metadata(path).map_err(failed)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(unusable(path, "may be read or written by others; run: chmod 600"));
    }
    Ok(())
}

/// Reads `NAME=VALUE` lines. Empty lines and those that begin with `#` are passed over.
fn read(path: &Path) -> Result<Credentials, Error> {
    let failed = |error: std::io::Error| unusable(path, &error.to_string());
    check_private(path)?;
    let text = fs::read_to_string(path).map_err(failed)?;
    let mut pairs = Vec::new();
    for (at, line) in text.lines().map(str::trim).enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |what: &str| Error::Credentials {
            path: path.to_owned(),
            line: Some(at + 1),
            what: what.to_owned(),
        };
        let (name, value) = line.split_once('=').ok_or_else(|| wrong("not NAME=VALUE"))?;
        let name = name.trim();
        if ![ID, SECRET, SESSION_TOKEN].concat().contains(&name) {
            return Err(wrong(&format!("`{name}` is no credential that is known here")));
        }
        pairs.push((name.to_owned(), value.trim().to_owned()));
    }
    Ok(found(|name| pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str, mode: u32) -> Result<Credentials, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("credentials");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        read(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn credentials_are_read_and_never_repeated() {
        let text = "# for the bucket\nAWS_ACCESS_KEY_ID = one\nAWS_SECRET_ACCESS_KEY=two=three\n";
        let read = written(text, 0o600).unwrap();
        assert_eq!(
            (read.id.as_deref(), read.secret.as_deref().map(String::as_str)),
            (Some("one"), Some("two=three"))
        );
        assert!(read.session_token.is_none());
        let Err(exposed) = written(text, 0o640) else { panic!("others may read it") };
        assert!(exposed.contains("chmod 600") && !exposed.contains("two"));
        let Err(unknown) = written("AWS_SECRET=two\n", 0o600) else { panic!("a name that is none") };
        assert!(unknown.ends_with(":1: `AWS_SECRET` is no credential that is known here"), "{unknown}");
        assert!(written("canary\n", 0o600).err().is_some_and(|text| !text.contains("canary")));
    }
}
