use aesp_proto::{DispatchId, SessionId};
use bytes::{Buf, Bytes};
use prost::Message;

const AGENT: &str = "/aesp.v1.AgentService/";
/// The flag and the length before each gRPC message.
pub(super) const PREFIX_BYTES: usize = 5;

/// What a request is about, as far as its place is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    /// A session: its owner answers.
    Session(SessionId),
    /// A call in a session within the call of this dispatch: it belongs to what runs already.
    Within(SessionId, DispatchId),
    /// A session that does not exist yet: any owner of shards answers.
    NewSession,
    /// Anything else: answered where it came in.
    Nothing,
}

/// The RPCs of agents, by what may be done with a request whose answer was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Method {
    /// It reads, carries an id of its own, or comes to the same when it is done twice.
    pub(super) repeatable: bool,
    /// It answers in parts, each of which is permitted by itself.
    pub(super) streams: bool,
    /// It is a call, and may be one within another.
    nests: bool,
    /// It makes a session.
    creates: bool,
}

/// Returns what kind of RPC the path names, if its requests can be about a session of another node.
pub(super) fn method(path: &str) -> Option<Method> {
    let method = Method { repeatable: true, streams: false, nests: false, creates: false };
    Some(match path.strip_prefix(AGENT)? {
        "Invoke" => Method { nests: true, ..method },
        "InvokeStream" => Method { nests: true, streams: true, ..method },
        // Each attempt of AuthorizeToolCall draws an id of its own and is decided and recorded anew.
        "GetSession" | "ListTools" | "GetInvocation" | "RenewSession" | "CancelInvocation"
        | "AuthorizeToolCall" => method,
        "DestroySession" | "ResolveInvocation" | "LogToolResult" => Method { repeatable: false, ..method },
        "CreateSession" => Method { repeatable: false, creates: true, ..method },
        _ => return None,
    })
}

/// Every request that names a session names it in its first field; nothing else is looked at.
#[derive(Clone, PartialEq, Message)]
struct Named {
    #[prost(string, tag = "1")]
    session_id: String,
}

/// A call names the dispatch that it is within, too.
#[derive(Clone, PartialEq, Message)]
struct Nested {
    #[prost(string, tag = "6")]
    on_behalf_of_dispatch_id: String,
}

/// Returns what a request is about. One that can't be read, or names no session, is refused where it came in.
pub(super) fn about(method: Method, body: &Bytes) -> About {
    if method.creates {
        return About::NewSession;
    }
    let Some(message) = message(body) else { return About::Nothing };
    let named = Named::decode(message.clone()).ok().and_then(|named| named.session_id.parse().ok());
    let Some(session) = named else { return About::Nothing };
    let nested = method.nests.then(|| Nested::decode(message).ok()).flatten();
    match nested.and_then(|nested| nested.on_behalf_of_dispatch_id.parse().ok()) {
        Some(dispatch) => About::Within(session, dispatch),
        None => About::Session(session),
    }
}

/// Returns the flag and the length before a message.
pub(super) fn prefix(body: &Bytes) -> Option<(u8, usize)> {
    let mut prefix = body.get(..PREFIX_BYTES)?;
    Some((prefix.get_u8(), prefix.get_u32() as usize))
}

/// Takes the only message out of a unary request's body.
pub(super) fn message(body: &Bytes) -> Option<Bytes> {
    let (flag, length) = prefix(body)?;
    (flag == 0 && body.len() == PREFIX_BYTES + length).then(|| body.slice(PREFIX_BYTES..))
}

#[cfg(test)]
mod tests {
    use aesp_proto::{Operations, v1};

    use super::*;

    fn framed(message: &impl Message) -> Bytes {
        let message = message.encode_to_vec();
        let mut body = vec![0];
        body.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
        body.extend_from_slice(&message);
        body.into()
    }

    #[test]
    fn the_session_is_found_without_the_rest() {
        let session = SessionId::from_bytes([7; 16]);
        let call = v1::FunctionCall { name: "t".into(), args_json: "{}".into(), ..Default::default() };
        let request =
            v1::InvokeRequest { session_id: session.to_string(), call: Some(call), ..Default::default() };
        let invoke = method("/aesp.v1.AgentService/Invoke").unwrap();
        assert_eq!(about(invoke, &framed(&request)), About::Session(session));
        let dispatch = DispatchId::from_bytes([3; 16]);
        let within = v1::InvokeRequest { on_behalf_of_dispatch_id: dispatch.to_string(), ..request.clone() };
        for path in ["Invoke", "InvokeStream"] {
            let call = method(&format!("{AGENT}{path}")).unwrap();
            assert_eq!(about(call, &framed(&within)), About::Within(session, dispatch));
        }
        let malformed = v1::InvokeRequest { on_behalf_of_dispatch_id: "x".into(), ..request };
        assert_eq!(about(invoke, &framed(&malformed)), About::Session(session), "it is refused there");
        // Nothing else is within a call, whatever its sixth field is.
        let read = method("/aesp.v1.AgentService/GetSession").unwrap();
        assert_eq!(about(read, &framed(&within)), About::Session(session));
        let create = method("/aesp.v1.AgentService/CreateSession").unwrap();
        assert_eq!(about(create, &framed(&v1::CreateSessionRequest::default())), About::NewSession);
    }

    #[test]
    fn what_is_damaged_stays_where_it_is() {
        let invoke = method("/aesp.v1.AgentService/Invoke").unwrap();
        let nowhere = v1::InvokeRequest { session_id: "ses_?".into(), ..Default::default() };
        let mut short = framed(&nowhere).to_vec();
        short.pop();
        for body in [Bytes::new(), Bytes::from_static(&[0, 0, 0]), short.into(), framed(&nowhere)] {
            assert_eq!(about(invoke, &body), About::Nothing);
        }
    }

    #[test]
    fn every_rpc_of_agents_but_the_list_of_sessions_is_known() {
        let operations = Operations::load();
        let unknown: Vec<_> = operations
            .iter()
            .map(|(path, _)| path)
            .filter(|path| path.starts_with(AGENT) && method(path).is_none())
            .collect();
        assert_eq!(unknown, ["/aesp.v1.AgentService/ListSessions"]);
        assert_eq!(method("/aesp.v1.TenantService/GetTenant"), None);
    }
}
