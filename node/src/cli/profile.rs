use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::failure::Failure;

/// What `aesp login` remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Profile {
    /// Nodes, separated by commas.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) endpoint: Option<String>,
    /// The authority of their certificates, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<PathBuf>,
    /// A service account's API key, or an access token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<String>,
    /// A client certificate and its key, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) client_cert: Option<PathBuf>,
    /// The key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) client_key: Option<PathBuf>,
    /// The tenant that commands are about unless they say otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tenant: Option<String>,
}

impl Profile {
    /// Returns the usual place of the profile.
    pub(crate) fn place() -> Option<PathBuf> {
        let folder = std::env::var_os("XDG_CONFIG_HOME")
            .map(PathBuf::from)
            .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".config")))?;
        Some(folder.join("aesp/profile.toml"))
    }

    /// Reads a profile; an absent file is an empty one.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => {
                let next = "make it readable, or name another with --profile";
                return Err(Failure::usage(
                    format!("can't read the profile {}: {error}", path.display()),
                    next,
                ));
            }
        };
        toml::from_str(&text).map_err(|error| {
            // The parser's own text quotes the line, which may hold the key.
            let message = format!("the profile {} is not valid: {}", path.display(), error.message());
            Failure::usage(message, "correct it, or make it anew with aesp login")
        })
    }

    /// Writes the profile for its owner only.
    pub(crate) fn write(&self, path: &Path) -> Result<(), Failure> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let text = toml::to_string(self).map_err(|error| {
            Failure::local(format!("the profile can't be written: {error}"), "report this")
        })?;
        let draft = path.with_extension("toml.new");
        // An abandoned draft may have another mode.
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        Ok(fs::rename(&draft, path)?)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_profile_survives_and_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("aesp/profile.toml");
        assert_eq!(Profile::read(&path).unwrap(), Profile::default());
        let profile = Profile { token: Some("aesp_secret".into()), ..Profile::default() };
        profile.write(&path).unwrap();
        profile.write(&path).unwrap();
        assert_eq!(Profile::read(&path).unwrap(), profile);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_broken_profile_is_not_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("profile.toml");
        fs::write(&path, "token = \"aesp_secret\nx").unwrap();
        let failure = Profile::read(&path).unwrap_err();
        assert!(!format!("{failure:?}").contains("aesp_secret"));
    }
}
