use std::pin::Pin;

use aesp_proto::v1::{runtime_service_server::RuntimeService, *};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_stream::{Stream, wrappers::UnboundedReceiverStream};
use tonic::{Request, Response, Status, Streaming};

use super::soon;

pub struct Runtimes(pub mpsc::UnboundedSender<RuntimePeer>);

type Frames = Pin<Box<dyn Stream<Item = Result<HostFrame, Status>> + Send>>;

#[tonic::async_trait]
impl RuntimeService for Runtimes {
    type ConnectStream = Frames;

    async fn connect(&self, request: Request<Streaming<RuntimeFrame>>) -> Result<Response<Frames>, Status> {
        let (sender, frames) = mpsc::unbounded_channel();
        let peer = RuntimePeer {
            incoming: request.into_inner(),
            outgoing: Some(sender),
            answers_heartbeats: true,
            lease_remaining_ms: None,
        };
        self.0.send(peer).map_err(|_| Status::unavailable("the stub is gone"))?;
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(frames))))
    }
}

/// The Host's end of one Runtime's connection.
pub struct RuntimePeer {
    incoming: Streaming<RuntimeFrame>,
    outgoing: Option<mpsc::UnboundedSender<Result<HostFrame, Status>>>,
    pub answers_heartbeats: bool,
    /// What frames say.
    pub lease_remaining_ms: Option<u32>,
}

impl RuntimePeer {
    /// Reads the next frame; `None` when the connection is over. Answers heartbeats on the way.
    pub async fn next(&mut self) -> Option<runtime_frame::Frame> {
        loop {
            let frame = soon("a frame of the Runtime", self.incoming.message()).await.ok()??.frame.unwrap();
            match frame {
                runtime_frame::Frame::Heartbeat(beat) if self.answers_heartbeats => {
                    self.send(host_frame::Frame::Heartbeat(beat));
                }
                frame => return Some(frame),
            }
        }
    }

    pub fn send(&self, frame: host_frame::Frame) {
        if let Some(outgoing) = &self.outgoing {
            drop(
                outgoing
                    .send(Ok(HostFrame { frame: Some(frame), lease_remaining_ms: self.lease_remaining_ms })),
            );
        }
    }

    /// Ends the connection with a refusal.
    pub fn refuse(&self, status: Status) {
        drop(self.outgoing.as_ref().unwrap().send(Err(status)));
    }

    /// Ends the connection from the Host's side.
    pub fn close(&mut self) {
        self.outgoing = None;
    }

    /// Reads the announcement and accepts it, then reads the offer and accepts all of it.
    pub async fn welcome(&mut self, lease_ms: u32, heartbeat_ms: u32) -> (AnnounceRuntime, Vec<String>) {
        let announced = self.accept(lease_ms, heartbeat_ms).await;
        let offered = self.offer().await;
        self.fulfilled(&offered, &[]);
        (announced, offered)
    }

    pub async fn accept(&mut self, lease_ms: u32, heartbeat_ms: u32) -> AnnounceRuntime {
        let Some(runtime_frame::Frame::Announce(announced)) = self.next().await else {
            panic!("no announcement")
        };
        let connection_id = "con_stub".to_owned();
        let answer = AnnounceRuntimeResponse { connection_id, lease_ms, heartbeat_ms, ..Default::default() };
        self.send(host_frame::Frame::Announced(answer));
        announced
    }

    pub async fn offer(&mut self) -> Vec<String> {
        loop {
            match self.next().await {
                Some(runtime_frame::Frame::Fulfill(offer)) => return offer.tool_names,
                Some(runtime_frame::Frame::Report(_)) => {}
                other => panic!("no offer but {other:?}"),
            }
        }
    }

    pub fn fulfilled(&self, fulfilled: &[String], rejected: &[(&str, &str)]) {
        let rejected = rejected
            .iter()
            .map(|(name, reason)| RejectedTool { name: (*name).to_owned(), reason: (*reason).to_owned() })
            .collect();
        self.send(host_frame::Frame::Fulfilled(FulfillToolsResponse {
            fulfilled: fulfilled.to_vec(),
            rejected,
            ..Default::default()
        }));
    }

    /// Sends a call under the dispatch id that `n` makes.
    pub fn call(&self, n: u8, name: &str, args: &Value) {
        self.send(host_frame::Frame::Call(call(n, name, args)));
    }

    /// Reads frames until a result comes; panics on anything else but chunks of other calls.
    pub async fn result(&mut self) -> ToolResult {
        match self.next().await {
            Some(runtime_frame::Frame::Result(result)) => result,
            other => panic!("no result but {other:?}"),
        }
    }

    pub fn acknowledge(&self, result: &ToolResult) {
        self.send(host_frame::Frame::Ack(ResultAck { dispatch_id: result.dispatch_id.clone() }));
    }
}

pub fn call(n: u8, name: &str, args: &Value) -> ToolCall {
    ToolCall {
        invocation_id: format!("inv-{n}"),
        dispatch_id: vec![n; 16],
        call: Some(FunctionCall {
            name: name.to_owned(),
            args_json: serde_json::to_vec(args).unwrap().into(),
            ..Default::default()
        }),
        session_id: "ses_x".to_owned(),
        ..Default::default()
    }
}
