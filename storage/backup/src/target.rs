use zeroize::Zeroizing;

use crate::Error;

/// An object store and the place in it: `file:///folder`, `s3://bucket/prefix?region=…&endpoint=…`, `az://account/container/prefix`,
/// `gs://bucket/prefix`.
#[derive(Clone)]
pub struct Target {}

/// What the object store asks for. Nothing is read from the environment.
#[derive(Clone, Default)]
pub struct Credentials {
    /// S3: the access key id. Azure: nothing (the account is in the URL).
    pub id: Option<String>,
    /// S3: the secret access key. Azure: the account's key. GCS: the service account's JSON.
    pub secret: Option<Zeroizing<String>>,
    /// S3: the session token of temporary credentials.
    pub session_token: Option<Zeroizing<String>>,
    /// Certificates (PEM) to trust instead of the system's.
    pub roots_pem: Option<String>,
}

impl Target {
    /// Reads a URL.
    ///
    /// # Errors
    /// [`Error::Target`] says what is wrong with it.
    pub fn parse(url: &str, credentials: Credentials) -> Result<Self, Error> {
        todo!()
    }

    /// Locks every object against deletion for so many days (S3 object lock in compliance mode; the bucket must allow it).
    ///
    /// # Errors
    /// [`Error::Target`] if the target is not S3.
    pub fn with_object_lock(self, days: u32) -> Result<Self, Error> {
        todo!()
    }
}

// Without the credentials.
impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        todo!()
    }
}
