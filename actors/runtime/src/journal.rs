//! Stands in for aesp-audit until that compiles.
#![allow(missing_docs, reason = "temporary")]
use aesp_proto::{
    Entropy, ErrorCode, TenantId,
    v1::{EventType, Outcome},
};
use std::{borrow::Cow, net::IpAddr};
#[derive(Clone, Debug, Default)]
pub struct Recorder;
#[derive(Debug, thiserror::Error)]
#[error("audit")]
pub struct Error;
impl Error {
    pub fn code(&self) -> ErrorCode {
        ErrorCode::ServiceUnavailable
    }
    pub fn is_retryable(&self) -> bool {
        true
    }
}
impl From<Error> for aesp_proto::Error {
    fn from(e: Error) -> Self {
        Self::internal(e)
    }
}
#[derive(Debug)]
pub struct Refused {
    pub source_ip: Option<IpAddr>,
    pub action: Cow<'static, str>,
    pub reason: Cow<'static, str>,
    pub tenant: Option<TenantId>,
}
#[derive(Clone, Debug, Default)]
pub struct Details {
    pub resource: String,
    pub reason: String,
    pub source_ip: String,
    pub correlation_id: String,
    pub fields: Vec<(String, String)>,
}
#[derive(Clone, Debug)]
pub struct Event {
    pub details: Details,
    pub action: String,
}
impl Event {
    pub fn new(_: &Entropy, _: TenantId, _: EventType, action: impl Into<String>, _: Outcome) -> Self {
        Self { details: Details::default(), action: action.into() }
    }
}
impl Recorder {
    pub async fn append(&self, _: Vec<Event>) -> Result<(), Error> {
        Ok(())
    }
    pub fn observe_refused(&self, _: Refused) {}
}
