use aesp_proto::{Error, v1::EnterpriseError};
use tokio::time::Instant;

/// How a single-flight attempt failed, for all who waited for it.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) at: Instant,
    details: EnterpriseError,
}

impl Failure {
    pub(crate) fn new(error: &Error) -> Self {
        Self { at: Instant::now(), details: error.to_details() }
    }

    pub(crate) fn error(&self) -> Error {
        Error::from_details(self.details.clone())
    }
}
