use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aesp_proto::{Clock, SystemClock, Timestamp};
use http::{HeaderMap, HeaderValue};
use object_store::{
    BackoffConfig, ClientOptions, ObjectStore, RetryConfig,
    aws::{AmazonS3Builder, Checksum},
    azure::MicrosoftAzureBuilder,
    gcp::GoogleCloudStorageBuilder,
    local::LocalFileSystem,
    path::Path,
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{Place, Target, http::Connector};
use crate::Error;

/// An object store that can be asked.
pub(crate) struct Connection {
    target: Target,
    pub(crate) reader: Arc<dyn ObjectStore>,
    /// What writes with an object lock, and the day for which it was made.
    locking: Mutex<Option<(i64, Arc<dyn ObjectStore>)>>,
    pub(crate) prefix: Path,
}

const RETRIES: usize = 3;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl Connection {
    /// Opens one; that of a folder which is not there only to `write`.
    pub(crate) fn open(target: &Target, write: bool) -> Result<Self, Error> {
        if let Place::File(folder) = &target.place
            && !write
            && !folder.is_dir()
        {
            return Err(Error::NoArchive(target.to_string()));
        }
        let prefix = Path::parse(&target.prefix).map_err(|error| Error::Target(error.to_string()))?;
        let reader = target.build(HeaderMap::new())?;
        Ok(Self { target: target.clone(), reader, locking: Mutex::default(), prefix })
    }

    /// The longest that one request may take, with all its retries.
    pub(crate) fn request_time(&self) -> Duration {
        self.target.patience * 6
    }

    /// Returns what to write with.
    pub(crate) fn writer(&self) -> Result<Arc<dyn ObjectStore>, Error> {
        let Some(days) = self.target.lock_days else { return Ok(Arc::clone(&self.reader)) };
        let now = SystemClock.now();
        let today = now.0.div_euclid(DAY.as_millis() as i64);
        let mut locking = self.locking.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((day, store)) = &*locking
            && *day == today
        {
            return Ok(Arc::clone(store));
        }
        // To the end of the day, so that one client serves for all of it.
        let until = Timestamp((today + 1) * DAY.as_millis() as i64).plus(DAY * days);
        let store = self.target.build(lock_headers(until)?)?;
        *locking = Some((today, Arc::clone(&store)));
        Ok(store)
    }
}

/// Source: Amazon S3 API reference, PutObject, `x-amz-object-lock-*`.
fn lock_headers(until: Timestamp) -> Result<HeaderMap, Error> {
    let wrong = || Error::Target("the object lock ends at a time that can't be written".into());
    let until = OffsetDateTime::from_unix_timestamp(until.0.div_euclid(1000)).map_err(|_| wrong())?;
    let until = until.format(&Rfc3339).map_err(|_| wrong())?;
    let mut headers = HeaderMap::new();
    headers.insert("x-amz-object-lock-mode", HeaderValue::from_static("COMPLIANCE"));
    let until = HeaderValue::from_str(&until).map_err(|_| wrong())?;
    headers.insert("x-amz-object-lock-retain-until-date", until);
    Ok(headers)
}

impl Target {
    fn build(&self, headers: HeaderMap) -> Result<Arc<dyn ObjectStore>, Error> {
        let wrong = |error: object_store::Error| Error::Target(error.to_string());
        let credentials = &self.credentials;
        let options = || ClientOptions::new().with_allow_http(true).with_default_headers(headers.clone());
        let retry = RetryConfig {
            backoff: BackoffConfig::default(),
            max_retries: RETRIES,
            retry_timeout: self.patience * 2,
        };
        let connector = || Connector::new(credentials.roots_pem.as_deref(), self.patience);
        let secret = credentials.secret.as_ref().map(|secret| secret.as_str().to_owned());
        Ok(match &self.place {
            Place::File(folder) => {
                std::fs::create_dir_all(folder)
                    .map_err(|error| Error::Target(format!("{}: {error}", folder.display())))?;
                let store = LocalFileSystem::new_with_prefix(folder).map_err(wrong)?;
                Arc::new(store.with_fsync(true).with_automatic_cleanup(true))
            }
            Place::S3 { bucket, region, endpoint } => {
                let mut builder = AmazonS3Builder::new()
                    .with_bucket_name(bucket)
                    .with_region(region)
                    .with_checksum_algorithm(Checksum::SHA256)
                    .with_retry(retry)
                    .with_client_options(options())
                    .with_http_connector(connector()?);
                if let Some(endpoint) = endpoint {
                    builder = builder.with_endpoint(endpoint.as_str().trim_end_matches('/'));
                }
                match (&credentials.id, secret) {
                    (Some(id), Some(secret)) => {
                        builder = builder.with_access_key_id(id).with_secret_access_key(secret);
                    }
                    (None, None) => {}
                    _ => return Err(Error::Target("S3 takes an access key id with its secret".into())),
                }
                if let Some(token) = &credentials.session_token {
                    builder = builder.with_token(token.as_str());
                }
                Arc::new(builder.build().map_err(wrong)?)
            }
            Place::Azure { account, container, endpoint } => {
                let mut builder = MicrosoftAzureBuilder::new()
                    .with_account(account)
                    .with_container_name(container)
                    .with_retry(retry)
                    .with_client_options(options())
                    .with_http_connector(connector()?);
                if let Some(endpoint) = endpoint {
                    builder = builder.with_endpoint(endpoint.as_str().trim_end_matches('/').to_owned());
                }
                if let Some(key) = secret {
                    builder = builder.with_access_key(key);
                }
                Arc::new(builder.build().map_err(wrong)?)
            }
            Place::Gcs { bucket, endpoint } => {
                let mut builder = GoogleCloudStorageBuilder::new()
                    .with_bucket_name(bucket)
                    .with_retry(retry)
                    .with_client_options(options())
                    .with_http_connector(connector()?);
                if let Some(endpoint) = endpoint {
                    builder = builder.with_base_url(endpoint.as_str().trim_end_matches('/'));
                }
                if let Some(account) = secret {
                    builder = builder.with_service_account_key(account);
                }
                Arc::new(builder.build().map_err(wrong)?)
            }
        })
    }
}
