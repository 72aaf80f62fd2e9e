use std::sync::Arc;

use aesp_outbound::{Cause, Failure, Http, credential};
use aesp_proto::v1::AuditEvent;
use async_trait::async_trait;
use bytes::Bytes;
use prost::Message;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};

use super::{Means, Transport};
use crate::{Config, Severity, delivery::Receipt, format, parcel::Parcel};

/// OpenTelemetry logs: OTLP/HTTP with protobuf bodies, at `/v1/logs` below the target.
///
/// Source: OpenTelemetry protocol specification 1.x, "OTLP/HTTP"; opentelemetry-proto, logs.
pub(super) struct Otlp {
    http: Http,
    means: Means,
}

/// The messages of opentelemetry-proto, as far as they are needed.
mod wire {
    use prost::{Message, Oneof};

    /// `ExportLogsServiceResponse`.
    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Response {
        #[prost(message, optional, tag = "1")]
        pub(super) partial_success: Option<PartialSuccess>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct PartialSuccess {
        #[prost(int64, tag = "1")]
        pub(super) rejected_log_records: i64,
        #[prost(string, tag = "2")]
        pub(super) error_message: String,
    }

    /// `ExportLogsServiceRequest`.
    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Request {
        #[prost(message, repeated, tag = "1")]
        pub(super) resource_logs: Vec<ResourceLogs>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct ResourceLogs {
        #[prost(message, optional, tag = "1")]
        pub(super) resource: Option<Resource>,
        #[prost(message, repeated, tag = "2")]
        pub(super) scope_logs: Vec<ScopeLogs>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Resource {
        #[prost(message, repeated, tag = "1")]
        pub(super) attributes: Vec<KeyValue>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct ScopeLogs {
        #[prost(message, optional, tag = "1")]
        pub(super) scope: Option<Scope>,
        #[prost(message, repeated, tag = "2")]
        pub(super) log_records: Vec<LogRecord>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Scope {
        #[prost(string, tag = "1")]
        pub(super) name: String,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct LogRecord {
        #[prost(fixed64, tag = "1")]
        pub(super) time_unix_nano: u64,
        #[prost(int32, tag = "2")]
        pub(super) severity_number: i32,
        #[prost(string, tag = "3")]
        pub(super) severity_text: String,
        #[prost(message, optional, tag = "5")]
        pub(super) body: Option<AnyValue>,
        #[prost(message, repeated, tag = "6")]
        pub(super) attributes: Vec<KeyValue>,
        #[prost(fixed64, tag = "11")]
        pub(super) observed_time_unix_nano: u64,
        #[prost(string, tag = "12")]
        pub(super) event_name: String,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct KeyValue {
        #[prost(string, tag = "1")]
        pub(super) key: String,
        #[prost(message, optional, tag = "2")]
        pub(super) value: Option<AnyValue>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct AnyValue {
        #[prost(oneof = "Value", tags = "1")]
        pub(super) value: Option<Value>,
    }

    #[derive(Clone, PartialEq, Oneof)]
    pub(super) enum Value {
        #[prost(string, tag = "1")]
        String(String),
    }
}

fn text(text: impl Into<String>) -> wire::AnyValue {
    wire::AnyValue { value: Some(wire::Value::String(text.into())) }
}

fn attribute(key: &str, value: impl Into<String>) -> wire::KeyValue {
    wire::KeyValue { key: key.to_owned(), value: Some(text(value)) }
}

impl Otlp {
    pub(super) fn new(config: &Config, means: Means) -> Result<Self, String> {
        Ok(Self { http: Http::new(&config.endpoint())?, means })
    }

    async fn headers(&self) -> Result<HeaderMap, Failure> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        if let Some(token) = self.means.secret.newest().await? {
            headers.insert(AUTHORIZATION, credential("Bearer", token.expose())?);
        }
        Ok(headers)
    }

    fn request(&self, parcels: &[Arc<Parcel>]) -> Result<wire::Request, Failure> {
        let records = parcels.iter().map(|parcel| wire::LogRecord::decode(parcel.bytes.as_ref()));
        let records = records.collect::<Result<Vec<_>, _>>();
        let records = records.map_err(|error| Failure::new(Cause::Content, error.to_string()))?;
        let resource = wire::Resource {
            attributes: vec![
                attribute("service.name", "aesp"),
                attribute("service.version", env!("CARGO_PKG_VERSION")),
                attribute("service.instance.id", self.means.node.as_str()),
            ],
        };
        let scope = wire::Scope { name: "aesp.audit".into() };
        let scope_logs = vec![wire::ScopeLogs { scope: Some(scope), log_records: records }];
        Ok(wire::Request { resource_logs: vec![wire::ResourceLogs { resource: Some(resource), scope_logs }] })
    }
}

fn record(event: &AuditEvent) -> wire::LogRecord {
    let nanos = u64::try_from(event.timestamp_ms).unwrap_or(0).saturating_mul(1_000_000);
    let severity = Severity::of(event);
    let mut attributes: Vec<_> = format::texts(event)
        .into_iter()
        .map(|(name, value)| attribute(&format!("aesp.{name}"), value))
        .collect();
    attributes.push(attribute("aesp.event_id", event.event_id.as_str()));
    wire::LogRecord {
        time_unix_nano: nanos,
        observed_time_unix_nano: nanos,
        severity_number: severity.otel(),
        severity_text: severity.name().to_owned(),
        body: Some(text(format::value(event).to_string())),
        attributes,
        event_name: event.action.clone(),
    }
}

#[async_trait]
impl Transport for Otlp {
    fn encode(&self, event: &AuditEvent) -> Bytes {
        record(event).encode_to_vec().into()
    }

    async fn deliver(&self, parcels: &[Arc<Parcel>]) -> Result<Receipt, Failure> {
        let url = self.http.below("v1/logs").map_err(|why| Failure::new(Cause::Refused, why))?;
        let body = self.request(parcels)?.encode_to_vec();
        let answer = self.http.post(url, self.headers().await?, body.into()).await?.success()?;
        let answer = wire::Response::decode(answer.as_slice()).map_err(|error| {
            Failure::new(Cause::Garbled, format!("its answer is not that of an export: {error}"))
        })?;
        match answer.partial_success {
            // It does not say which: they are looked for by halves.
            Some(partial) if partial.rejected_log_records > 0 => Err(Failure::new(
                Cause::Content,
                format!("{} records rejected: {}", partial.rejected_log_records, partial.error_message),
            )),
            _ => Ok(Receipt::all(parcels.len())),
        }
    }
}
