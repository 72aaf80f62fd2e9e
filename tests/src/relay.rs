//! The bare relay that the governed call is compared with: the same hops, messages and TLS, and nothing in between. It
//! authenticates nobody, checks nothing and records nothing; it exists for `make bench` alone.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use aesp_proto::v1::{
    AnnounceRuntimeResponse, FulfillStatus, FulfillToolsResponse, HostFrame, InvokeRequest, InvokeResponse,
    RuntimeFrame, Session, ToolCall, ToolResult, agent_service_server, host_frame, runtime_frame,
    runtime_service_server,
};
use aesp_proto::{Entropy, SessionId};
use dashmap::DashMap;
use futures::{Stream, StreamExt};
use tokio::sync::{RwLock, mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// Relays calls to the one Runtime that is connected.
#[derive(Clone, Default)]
pub struct Relay(Arc<Inner>);

#[derive(Default)]
struct Inner {
    pending: DashMap<u64, oneshot::Sender<ToolResult>>,
    runtime: RwLock<Option<mpsc::Sender<Result<HostFrame, Status>>>>,
    next: AtomicU64,
}

impl Relay {
    async fn relay(&self, request: InvokeRequest) -> Result<InvokeResponse, Status> {
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        self.0.pending.insert(id, answer);
        let mut dispatch_id = vec![0; 16];
        dispatch_id[8..].copy_from_slice(&id.to_be_bytes());
        let call = ToolCall {
            invocation_id: request.invocation_id.clone(),
            correlation_id: request.correlation_id.clone(),
            call: request.call,
            dispatch_id,
            deadline_ms: 60_000,
            ..ToolCall::default()
        };
        let runtime = self.0.runtime.read().await.clone().ok_or_else(|| Status::unavailable("no Runtime"))?;
        let frame = HostFrame { frame: Some(host_frame::Frame::Call(call)), ..HostFrame::default() };
        runtime.send(Ok(frame)).await.map_err(|_| Status::unavailable("no Runtime"))?;
        let result = answered.await.map_err(|_| Status::unavailable("the Runtime left"))?;
        Ok(InvokeResponse {
            invocation_id: request.invocation_id,
            correlation_id: request.correlation_id,
            result: result.result,
            ..InvokeResponse::default()
        })
    }

    async fn received(&self, frame: RuntimeFrame, out: &mpsc::Sender<Result<HostFrame, Status>>) {
        use host_frame::Frame as Host;
        let answer = match frame.frame {
            Some(runtime_frame::Frame::Result(result)) => {
                let id =
                    result.dispatch_id.get(8..16).and_then(|id| id.try_into().ok()).map(u64::from_be_bytes);
                let waiting = id.and_then(|id| self.0.pending.remove(&id));
                let acknowledged =
                    Host::Ack(aesp_proto::v1::ResultAck { dispatch_id: result.dispatch_id.clone() });
                if let Some((_, waiting)) = waiting {
                    // A caller that has gone needs no answer.
                    drop(waiting.send(result));
                }
                acknowledged
            }
            Some(runtime_frame::Frame::Announce(_)) => Host::Announced(AnnounceRuntimeResponse {
                lease_ms: 60_000,
                heartbeat_ms: 20_000,
                negotiated_version: "1.0".into(),
                ..AnnounceRuntimeResponse::default()
            }),
            Some(runtime_frame::Frame::Fulfill(fulfil)) => Host::Fulfilled(FulfillToolsResponse {
                status: FulfillStatus::FulfillSuccess.into(),
                fulfilled: fulfil.tool_names,
                ..FulfillToolsResponse::default()
            }),
            Some(runtime_frame::Frame::Heartbeat(beat)) => Host::Heartbeat(beat),
            _ => return,
        };
        // A Runtime that has gone needs no answer.
        drop(out.send(Ok(HostFrame { frame: Some(answer), ..HostFrame::default() })).await);
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl runtime_service_server::RuntimeService for Relay {
    type ConnectStream = Answers<HostFrame>;

    async fn connect(
        &self,
        request: Request<Streaming<RuntimeFrame>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let mut inbound = request.into_inner();
        let (out, frames) = mpsc::channel(1024);
        *self.0.runtime.write().await = Some(out.clone());
        let relay = self.clone();
        tokio::spawn(async move {
            while let Some(Ok(frame)) = inbound.next().await {
                relay.received(frame, &out).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(frames))))
    }
}

/// Answers an RPC that the comparison does not use.
fn unused<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("the bare relay only relays calls"))
}

#[tonic::async_trait]
impl agent_service_server::AgentService for Relay {
    type InvokeStreamStream = Answers<aesp_proto::v1::InvokeStreamResponse>;

    async fn create_session(
        &self,
        _: Request<aesp_proto::v1::CreateSessionRequest>,
    ) -> Result<Response<Session>, Status> {
        let session_id = SessionId::random(&Entropy::from_seed(1)).to_string();
        Ok(Response::new(Session { session_id, ttl_seconds: 3600, ..Session::default() }))
    }

    async fn invoke(&self, request: Request<InvokeRequest>) -> Result<Response<InvokeResponse>, Status> {
        self.relay(request.into_inner()).await.map(Response::new)
    }

    async fn get_session(
        &self,
        _: Request<aesp_proto::v1::GetSessionRequest>,
    ) -> Result<Response<Session>, Status> {
        unused()
    }
    async fn list_sessions(
        &self,
        _: Request<aesp_proto::v1::ListSessionsRequest>,
    ) -> Result<Response<aesp_proto::v1::ListSessionsResponse>, Status> {
        unused()
    }
    async fn renew_session(
        &self,
        _: Request<aesp_proto::v1::RenewSessionRequest>,
    ) -> Result<Response<Session>, Status> {
        unused()
    }
    async fn destroy_session(
        &self,
        _: Request<aesp_proto::v1::DestroySessionRequest>,
    ) -> Result<Response<aesp_proto::v1::DestroySessionResponse>, Status> {
        unused()
    }
    async fn list_tools(
        &self,
        _: Request<aesp_proto::v1::ListToolsRequest>,
    ) -> Result<Response<aesp_proto::v1::ListToolsResponse>, Status> {
        unused()
    }
    async fn invoke_stream(
        &self,
        _: Request<InvokeRequest>,
    ) -> Result<Response<Self::InvokeStreamStream>, Status> {
        unused()
    }
    async fn cancel_invocation(
        &self,
        _: Request<aesp_proto::v1::CancelInvocationRequest>,
    ) -> Result<Response<aesp_proto::v1::CancelInvocationResponse>, Status> {
        unused()
    }
    async fn get_invocation(
        &self,
        _: Request<aesp_proto::v1::GetInvocationRequest>,
    ) -> Result<Response<aesp_proto::v1::Invocation>, Status> {
        unused()
    }
    async fn resolve_invocation(
        &self,
        _: Request<aesp_proto::v1::ResolveInvocationRequest>,
    ) -> Result<Response<aesp_proto::v1::Invocation>, Status> {
        unused()
    }
    async fn authorize_tool_call(
        &self,
        _: Request<aesp_proto::v1::AuthorizeToolCallRequest>,
    ) -> Result<Response<aesp_proto::v1::AuthorizeToolCallResponse>, Status> {
        unused()
    }
    async fn log_tool_result(
        &self,
        _: Request<aesp_proto::v1::LogToolResultRequest>,
    ) -> Result<Response<aesp_proto::v1::LogToolResultResponse>, Status> {
        unused()
    }
}
