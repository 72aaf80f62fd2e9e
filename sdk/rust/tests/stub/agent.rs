use std::{pin::Pin, sync::Arc};

use aesp_proto::{
    Error, ErrorCode,
    v1::{agent_service_server::AgentService, *},
};
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use super::server::Script;

pub struct Agent(pub Arc<Script>);

type Parts = Pin<Box<dyn Stream<Item = Result<InvokeStreamResponse, Status>> + Send>>;

fn unused<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("the stub does not play this"))
}

impl Agent {
    /// Refuses tokens that are not valid any more, as the Host does.
    fn authenticate<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let Some(token) = request.metadata().get("authorization") else { return Ok(()) };
        let token = token.to_str().unwrap().trim_start_matches("Bearer ");
        if self.0.valid_tokens.lock().unwrap().iter().any(|valid| valid == token) {
            return Ok(());
        }
        Err(Error::new(ErrorCode::AuthenticationFailed, "the token is not valid").into())
    }
}

#[tonic::async_trait]
impl AgentService for Agent {
    async fn create_session(
        &self,
        request: Request<CreateSessionRequest>,
    ) -> Result<Response<Session>, Status> {
        self.0.hear("create_session", &request, "")?;
        self.authenticate(&request)?;
        let ttl_seconds = request.get_ref().ttl_seconds;
        Ok(Response::new(Session { session_id: "ses_new".to_owned(), ttl_seconds, ..Session::default() }))
    }

    async fn get_session(&self, request: Request<GetSessionRequest>) -> Result<Response<Session>, Status> {
        self.0.hear("get_session", &request, &request.get_ref().session_id)?;
        Ok(Response::new(Session { session_id: request.into_inner().session_id, ..Session::default() }))
    }

    async fn renew_session(
        &self,
        request: Request<RenewSessionRequest>,
    ) -> Result<Response<Session>, Status> {
        self.0.hear("renew_session", &request, &request.get_ref().session_id)?;
        Ok(Response::new(Session { ttl_seconds: 60, expires_at_ms: 1234, ..Session::default() }))
    }

    async fn destroy_session(
        &self,
        request: Request<DestroySessionRequest>,
    ) -> Result<Response<DestroySessionResponse>, Status> {
        self.0.hear("destroy_session", &request, &request.get_ref().session_id)?;
        Ok(Response::new(DestroySessionResponse { cancelled_calls: u32::from(request.get_ref().force) }))
    }

    async fn list_tools(
        &self,
        request: Request<ListToolsRequest>,
    ) -> Result<Response<ListToolsResponse>, Status> {
        self.0.hear("list_tools", &request, "")?;
        self.authenticate(&request)?;
        // One tool a page, so that the client must turn pages.
        let at: usize = request.get_ref().page.as_ref().unwrap().cursor.parse().unwrap_or(0);
        let tools = self.0.tools.lock().unwrap();
        let next_cursor = if at + 1 < tools.len() { (at + 1).to_string() } else { String::new() };
        Ok(Response::new(ListToolsResponse {
            tools: tools.get(at).cloned().into_iter().collect(),
            next_cursor,
        }))
    }

    async fn invoke(&self, request: Request<InvokeRequest>) -> Result<Response<InvokeResponse>, Status> {
        self.0.hear("invoke", &request, &request.get_ref().invocation_id)?;
        self.authenticate(&request)?;
        let request = request.into_inner();
        let call = request.call.unwrap();
        let args = serde_json::from_slice(&call.args_json).unwrap();
        let replayed = self.0.ran.lock().unwrap().insert(request.invocation_id.clone(), args).is_some();
        let (status, error) = match call.name.as_str() {
            "broken" => (
                ResultStatus::Error,
                Some(ToolError { message: "no disk".to_owned(), r#type: "TOOL_FAILED".to_owned() }),
            ),
            _ => (ResultStatus::Success, None),
        };
        let content_json = if error.is_none() { call.args_json } else { Default::default() };
        let result = FunctionResult { name: call.name, status: status.into(), content_json, error };
        Ok(Response::new(InvokeResponse {
            invocation_id: request.invocation_id,
            correlation_id: request.on_behalf_of_dispatch_id,
            result: Some(result),
            event_id: "evt".to_owned(),
            replayed,
            receipt: None,
        }))
    }

    type InvokeStreamStream = Parts;

    async fn invoke_stream(&self, request: Request<InvokeRequest>) -> Result<Response<Parts>, Status> {
        self.0.hear("invoke_stream", &request, &request.get_ref().invocation_id)?;
        let request = request.into_inner();
        let call = request.call.unwrap();
        let part = |n: u64| InvokeStreamResponse {
            chunk_id: n,
            payload_json: n.to_string().into_bytes(),
            ..InvokeStreamResponse::default()
        };
        let mut parts: Vec<_> = (0..3).map(|n| Ok(part(n))).collect();
        match call.name.as_str() {
            "torn" => {}
            "refused" => {
                parts = vec![Err(Error::new(ErrorCode::AuthorizationDenied, "not you").into())];
            }
            _ => parts.push(Ok(InvokeStreamResponse {
                is_final: true,
                result: Some(FunctionResult {
                    status: ResultStatus::Success.into(),
                    content_json: call.args_json,
                    ..FunctionResult::default()
                }),
                ..InvokeStreamResponse::default()
            })),
        }
        Ok(Response::new(Box::pin(tokio_stream::iter(parts))))
    }

    async fn cancel_invocation(
        &self,
        request: Request<CancelInvocationRequest>,
    ) -> Result<Response<CancelInvocationResponse>, Status> {
        self.0.hear("cancel_invocation", &request, &request.get_ref().invocation_id)?;
        Ok(Response::new(CancelInvocationResponse { was_running: true }))
    }

    async fn list_sessions(
        &self,
        _: Request<ListSessionsRequest>,
    ) -> Result<Response<ListSessionsResponse>, Status> {
        unused()
    }
    async fn get_invocation(&self, _: Request<GetInvocationRequest>) -> Result<Response<Invocation>, Status> {
        unused()
    }
    async fn resolve_invocation(
        &self,
        _: Request<ResolveInvocationRequest>,
    ) -> Result<Response<Invocation>, Status> {
        unused()
    }
    async fn authorize_tool_call(
        &self,
        _: Request<AuthorizeToolCallRequest>,
    ) -> Result<Response<AuthorizeToolCallResponse>, Status> {
        unused()
    }
    async fn log_tool_result(
        &self,
        _: Request<LogToolResultRequest>,
    ) -> Result<Response<LogToolResultResponse>, Status> {
        unused()
    }
}
