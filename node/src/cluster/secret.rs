use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use aesp_cluster::gossip::{SHORTEST_SECRET_BYTES, Secrets};
use anyhow::anyhow;
use data_encoding::{BASE64URL_NOPAD, HEXLOWER, HEXLOWER_PERMISSIVE};

use super::Error;

/// Returns the text of a secret file with one new secret.
///
/// # Errors
/// When the system has no randomness.
pub(crate) fn fresh_secret() -> anyhow::Result<String> {
    let mut secret = [0; SHORTEST_SECRET_BYTES];
    aws_lc_rs::rand::fill(&mut secret).map_err(|_| anyhow!("the system gave no random bytes"))?;
    Ok(format!("{}\n", HEXLOWER.encode(&secret)))
}

/// Reads a secret file: a secret a line, the newest first. Empty lines and those that begin with `#` are passed over.
pub(crate) fn read_secrets(path: &Path) -> Result<Secrets, Error> {
    let unreadable = |source| Error::Unreadable { path: path.into(), source };
    let mode = fs::metadata(path).map_err(unreadable)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(Error::Exposed { path: path.into(), mode });
    }
    let text = fs::read_to_string(path).map_err(unreadable)?;
    let mut secrets = Vec::new();
    for (at, line) in text.lines().map(str::trim).enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let secret = decode(line).ok_or_else(|| Error::Secret { path: path.into(), line: at + 1 })?;
        secrets.push(secret);
    }
    Secrets::new(secrets).ok_or_else(|| Error::NoSecret { path: path.into() })
}

/// Decodes what can be hexadecimal as that, everything else as base64url.
fn decode(line: &str) -> Option<Vec<u8>> {
    let hex = HEXLOWER_PERMISSIVE.decode(line.as_bytes());
    let bytes = hex.or_else(|_| BASE64URL_NOPAD.decode(line.trim_end_matches('=').as_bytes())).ok()?;
    (bytes.len() >= SHORTEST_SECRET_BYTES).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Secrets, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        read_secrets(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn secrets_are_read_in_both_spellings_and_told_apart_from_what_is_none() {
        let text = format!("# the newest\n{}\n\n{}\n", "ab".repeat(32), "q".repeat(42) + "o");
        assert_eq!(format!("{:?}", read(&text).unwrap()), "Secrets(2)");
        assert!(read(&fresh_secret().unwrap()).is_ok());
        assert!(read("").unwrap_err().ends_with("holds no secret"));
        assert!(read(&format!("{}\nshort\n", "ab".repeat(32))).unwrap_err().contains(":2: a secret is"));
        assert!(read(&"ab".repeat(31)).is_err(), "62 hexadecimal digits are 31 bytes");
    }
}
