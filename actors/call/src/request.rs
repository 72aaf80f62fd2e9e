use std::time::Duration;

use aesp_proto::{DispatchId, Error, SessionId, v1};
use bytes::Bytes;

/// The longest correlation id, in characters.
const CORRELATION_ID_MAX: usize = 64;

/// A client's name for a call: 1 to 64 visible ASCII characters, unique in its session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct InvocationId(String);

impl InvocationId {
    /// Checks the text.
    ///
    /// # Errors
    /// `INVALID_REQUEST`.
    pub fn parse(text: String) -> Result<Self, Error> {
        let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
        if text.is_empty() || text.len() > 64 || !visible {
            return Err(Error::invalid("invocation_id must be 1 to 64 visible ASCII characters")
                .remedy("choose a new random id, a UUID for example, for every call"));
        }
        Ok(Self(text))
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A call as it was asked for: well-formed, nothing else.
#[derive(Clone, Debug)]
pub struct CallRequest {
    pub(crate) session: SessionId,
    pub(crate) invocation: InvocationId,
    pub(crate) tool: String,
    pub(crate) version: Option<String>,
    pub(crate) arguments: Bytes,
    pub(crate) correlation_id: String,
    pub(crate) timeout: Option<Duration>,
    pub(crate) on_behalf_of: Option<DispatchId>,
}

impl CallRequest {
    /// Checks the form of a request; `default_correlation_id` names it when the client does not.
    ///
    /// # Errors
    /// `INVALID_REQUEST`, which names the field.
    pub fn parse(request: v1::InvokeRequest, default_correlation_id: &str) -> Result<Self, Error> {
        let call = request.call.ok_or_else(|| Error::invalid("call is missing"))?;
        if request.correlation_id.chars().count() > CORRELATION_ID_MAX {
            return Err(Error::invalid("correlation_id is longer than 64 characters"));
        }
        if call.name.is_empty() || call.name.len() > 64 {
            return Err(Error::invalid("call.name must be 1 to 64 characters"));
        }
        let on_behalf_of = match request.on_behalf_of_dispatch_id.as_str() {
            "" => None,
            text => Some(text.parse().map_err(|_| Error::invalid("on_behalf_of_dispatch_id is malformed"))?),
        };
        Ok(Self {
            session: session_id(&request.session_id)?,
            invocation: InvocationId::parse(request.invocation_id)?,
            tool: call.name,
            version: (!call.version.is_empty()).then_some(call.version),
            arguments: call.args_json,
            correlation_id: if request.correlation_id.is_empty() {
                default_correlation_id.to_owned()
            } else {
                request.correlation_id
            },
            timeout: (request.timeout_ms > 0).then(|| Duration::from_millis(request.timeout_ms.into())),
            on_behalf_of,
        })
    }
}

/// Reads a session id of a request.
///
/// # Errors
/// `SESSION_INVALID`, as for a session that does not exist.
pub fn session_id(text: &str) -> Result<SessionId, Error> {
    text.parse().map_err(|_| {
        Error::new(v1::ErrorCode::SessionInvalid, "session_id is malformed")
            .remedy("create a session first: AgentService.CreateSession")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> v1::InvokeRequest {
        v1::InvokeRequest {
            session_id: SessionId::from_bytes([1; 16]).to_string(),
            invocation_id: "i-1".into(),
            call: Some(v1::FunctionCall { name: "t".into(), ..Default::default() }),
            ..Default::default()
        }
    }

    #[test]
    fn a_well_formed_request_keeps_what_it_says() {
        let parsed = CallRequest::parse(request(), "corr").expect("well-formed");
        assert_eq!(parsed.correlation_id, "corr");
        assert_eq!(parsed.version, None);
        assert_eq!(parsed.timeout, None);
    }

    #[test]
    fn each_malformed_field_is_refused() {
        type Spoil = fn(&mut v1::InvokeRequest);
        let spoils: [(&str, Spoil); 7] = [
            ("session", |r| r.session_id = "ses_x".into()),
            ("no call", |r| r.call = None),
            ("empty invocation", |r| r.invocation_id.clear()),
            ("blank invocation", |r| r.invocation_id = "a b".into()),
            ("long invocation", |r| r.invocation_id = "x".repeat(65)),
            ("long correlation", |r| r.correlation_id = "x".repeat(65)),
            ("dispatch", |r| r.on_behalf_of_dispatch_id = "x".into()),
        ];
        for (what, spoil) in spoils {
            let mut request = request();
            spoil(&mut request);
            assert!(CallRequest::parse(request, "c").is_err(), "{what}");
        }
    }
}
