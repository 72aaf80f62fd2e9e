use aesp_proto::SessionId;
use bytes::{Buf, Bytes};
use prost::Message;

const AGENT: &str = "/aesp.v1.AgentService/";
/// The flag and the length before each gRPC message.
const PREFIX_BYTES: usize = 5;

/// What a request is about, as far as its place is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    /// A session: its owner answers.
    Session(SessionId),
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
    /// It makes a session.
    creates: bool,
}

/// Returns what kind of RPC the path names, if its requests can be about a session of another node.
pub(super) fn method(path: &str) -> Option<Method> {
    let kind = |repeatable, streams| Some(Method { repeatable, streams, creates: false });
    match path.strip_prefix(AGENT)? {
        // Each attempt of AuthorizeToolCall draws an id of its own and is decided and recorded anew.
        "Invoke" | "GetSession" | "ListTools" | "GetInvocation" | "RenewSession" | "CancelInvocation"
        | "AuthorizeToolCall" => kind(true, false),
        "InvokeStream" => kind(true, true),
        "DestroySession" | "ResolveInvocation" | "LogToolResult" => kind(false, false),
        "CreateSession" => Some(Method { repeatable: false, streams: false, creates: true }),
        _ => None,
    }
}

/// Every request that names a session names it in its first field; nothing else is looked at.
#[derive(Clone, PartialEq, Message)]
struct Named {
    #[prost(string, tag = "1")]
    session_id: String,
}

/// Returns what a request is about. One that can't be read, or names no session, is refused where it came in.
pub(super) fn about(method: Method, body: &Bytes) -> About {
    if method.creates {
        return About::NewSession;
    }
    let Some(message) = message(body) else { return About::Nothing };
    let named = Named::decode(message).ok().and_then(|named| named.session_id.parse().ok());
    named.map_or(About::Nothing, About::Session)
}

/// Takes the only message out of a unary request's body.
pub(super) fn message(body: &Bytes) -> Option<Bytes> {
    let mut prefix = body.get(..PREFIX_BYTES)?;
    let compressed = prefix.get_u8() != 0;
    let length = prefix.get_u32() as usize;
    (!compressed && body.len() == PREFIX_BYTES + length).then(|| body.slice(PREFIX_BYTES..))
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
