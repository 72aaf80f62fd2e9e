mod connect;
mod http;

use std::{fmt, path::PathBuf, time::Duration};

use reqwest::Url;
use zeroize::Zeroizing;

pub(crate) use self::connect::Connection;
use crate::Error;

/// An object store and the place in it. TLS only, but for an endpoint on this machine.
///
/// - `file:///folder`
/// - `s3://bucket/prefix?region=eu-central-1&endpoint=https://host:port` (the endpoint for what is not AWS)
/// - `az://account/container/prefix?endpoint=…`
/// - `gs://bucket/prefix?endpoint=…`
#[derive(Clone)]
pub struct Target {
    place: Place,
    prefix: String,
    credentials: Credentials,
    lock_days: Option<u32>,
    patience: Duration,
}

#[derive(Clone)]
enum Place {
    File(PathBuf),
    S3 { bucket: String, region: String, endpoint: Option<Url> },
    Azure { account: String, container: String, endpoint: Option<Url> },
    Gcs { bucket: String, endpoint: Option<Url> },
}

/// What the object store asks for. Without a secret, the identity that the cloud gives to the machine is used. Nothing is read
/// from the environment.
#[derive(Clone, Default)]
pub struct Credentials {
    /// S3: the access key id.
    pub id: Option<String>,
    /// S3: the secret access key. Azure: the account's key. GCS: the service account's JSON.
    pub secret: Option<Zeroizing<String>>,
    /// S3: the session token of temporary credentials.
    pub session_token: Option<Zeroizing<String>>,
    /// Certificates (PEM) to trust instead of the system's.
    pub roots_pem: Option<String>,
}

/// The longest silence of an object store within a request.
const PATIENCE: Duration = Duration::from_secs(15);

const DEFAULT_REGION: &str = "us-east-1";

impl Target {
    /// Reads a URL.
    ///
    /// # Errors
    /// [`Error::Target`] says what is wrong with it.
    pub fn parse(url: &str, credentials: Credentials) -> Result<Self, Error> {
        let wrong = |what: &str| Error::Target(format!("{url}: {what}"));
        let parsed = Url::parse(url).map_err(|error| wrong(&error.to_string()))?;
        if parsed.password().is_some() || !parsed.username().is_empty() {
            return Err(Error::Target("credentials don't belong into the URL".into()));
        }
        let (mut region, mut endpoint) = (None, None);
        for (name, value) in parsed.query_pairs() {
            match name.as_ref() {
                "region" if parsed.scheme() == "s3" => region = Some(value.into_owned()),
                "endpoint" if parsed.scheme() != "file" => endpoint = Some(read_endpoint(&value)?),
                other => return Err(wrong(&format!("it can't have the option {other}"))),
            }
        }
        let host = || parsed.host_str().filter(|host| !host.is_empty()).map(str::to_owned);
        let path = parsed.path().trim_matches('/');
        let (place, prefix) = match parsed.scheme() {
            "file" => {
                let folder = parsed.to_file_path().map_err(|()| wrong("not a folder of this machine"))?;
                (Place::File(folder), "")
            }
            "s3" => {
                let bucket = host().ok_or_else(|| wrong("no bucket"))?;
                let region = region.unwrap_or_else(|| DEFAULT_REGION.into());
                (Place::S3 { bucket, region, endpoint }, path)
            }
            "az" => {
                let account = host().ok_or_else(|| wrong("no account"))?;
                let (container, prefix) = path.split_once('/').unwrap_or((path, ""));
                if container.is_empty() {
                    return Err(wrong("no container"));
                }
                (Place::Azure { account, container: container.into(), endpoint }, prefix)
            }
            "gs" => (Place::Gcs { bucket: host().ok_or_else(|| wrong("no bucket"))?, endpoint }, path),
            other => return Err(wrong(&format!("{other} is none of file, s3, az, gs"))),
        };
        Ok(Self { place, prefix: prefix.into(), credentials, lock_days: None, patience: PATIENCE })
    }

    /// Locks every object against deletion for so many days (S3 object lock in compliance mode; the bucket must allow it).
    ///
    /// # Errors
    /// [`Error::Target`] if the target is not S3, or for no or more than 36,500 days.
    pub fn with_object_lock(mut self, days: u32) -> Result<Self, Error> {
        if !matches!(self.place, Place::S3 { .. }) {
            return Err(Error::Target(format!("{self}: only S3 has an object lock")));
        }
        if days == 0 || days > MAX_LOCK_DAYS {
            return Err(Error::Target(format!("an object lock lasts 1 to {MAX_LOCK_DAYS} days, not {days}")));
        }
        self.lock_days = Some(days);
        Ok(self)
    }
}

impl Target {
    /// Gives up on a request after so long a silence, and on the retries of a request after six times as long.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }
}

/// What AWS allows: 100 years.
const MAX_LOCK_DAYS: u32 = 36_500;

fn read_endpoint(text: &str) -> Result<Url, Error> {
    let url = Url::parse(text).map_err(|error| Error::Target(format!("endpoint {text}: {error}")))?;
    let local = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    match url.scheme() {
        "https" => Ok(url),
        "http" if local => Ok(url),
        _ => Err(Error::Target(format!("endpoint {text}: must be https, or http on this machine itself"))),
    }
}

// Without the credentials.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::File(folder) => write!(f, "file://{}", folder.display()),
            Place::S3 { bucket, .. } => write!(f, "s3://{bucket}/{}", self.prefix),
            Place::Azure { account, container, .. } => {
                write!(f, "az://{account}/{container}/{}", self.prefix)
            }
            Place::Gcs { bucket, .. } => write!(f, "gs://{bucket}/{}", self.prefix),
        }
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Target, Error> {
        Target::parse(url, Credentials { secret: Some("canary".to_owned().into()), ..Credentials::default() })
    }

    #[test]
    fn urls_are_read() {
        for (url, shown) in [
            ("file:///var/backup", "file:///var/backup"),
            ("s3://bucket/a/b/?region=eu-central-1", "s3://bucket/a/b"),
            ("s3://bucket?endpoint=http://127.0.0.1:8333", "s3://bucket/"),
            ("az://account/container/a", "az://account/container/a"),
            ("gs://bucket", "gs://bucket/"),
        ] {
            let target = parse(url).unwrap();
            assert_eq!(target.to_string(), shown);
            assert!(!format!("{target:?} {:?}", target.credentials).contains("canary"));
        }
    }

    #[test]
    fn wrong_urls_are_told() {
        for (url, why) in [
            ("backup", "relative URL"),
            ("ftp://host/a", "none of file, s3, az, gs"),
            ("s3:///a", "no bucket"),
            ("az://account", "no container"),
            ("s3://bucket?endpoint=http://example.org", "must be https"),
            ("s3://key:secret@bucket", "don't belong"),
            ("gs://bucket?region=x", "can't have the option region"),
            ("file://host/a", "not a folder"),
        ] {
            let error = parse(url).unwrap_err().to_string();
            assert!(error.contains(why) && !error.contains("secret"), "{url}: {error}");
        }
        assert!(parse("file:///a").unwrap().with_object_lock(1).is_err());
        assert!(parse("s3://b").unwrap().with_object_lock(0).is_err());
        assert!(parse("s3://b").unwrap().with_object_lock(30).is_ok());
    }
}
