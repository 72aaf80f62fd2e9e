use aesp_sdk::{
    CallResult, Client, Error, Session,
    v1::{
        AnnounceRuntime, FulfillTools, FunctionResult, HostFrame, ResultStatus, RuntimeFrame, ToolCall,
        ToolResult, host_frame, runtime_frame::Frame, runtime_service_client::RuntimeServiceClient,
    },
};
use aesp_tests::{Certificate, Host, World, soon};
use serde_json::json;
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Streaming;

pub(crate) const SUCCESS: i32 = ResultStatus::Success as i32;

/// A Runtime that says whatever the test wants.
pub(crate) struct Raw {
    pub(crate) frames: mpsc::UnboundedSender<RuntimeFrame>,
    pub(crate) heard: Streaming<HostFrame>,
}

impl Raw {
    /// Connects as `worker`, and fulfils `echo`.
    pub(crate) async fn connect(world: &World) -> Self {
        Self::connect_as(world, "worker", &world.certificate, &["echo"]).await
    }

    pub(crate) async fn connect_as(
        world: &World,
        runtime_id: &str,
        certificate: &Certificate,
        tools: &[&str],
    ) -> Self {
        Self::connect_to(&world.host, runtime_id, certificate, tools).await
    }

    pub(crate) async fn connect_to(
        host: &Host,
        runtime_id: &str,
        certificate: &Certificate,
        tools: &[&str],
    ) -> Self {
        let tls = host.tls(Some(certificate)).unwrap();
        let client = Client::builder(tls).endpoint(host.endpoint()).build().unwrap();
        let (frames, sent) = mpsc::unbounded_channel();
        let mut service = RuntimeServiceClient::new(client.channel());
        let announce = AnnounceRuntime {
            runtime_id: runtime_id.into(),
            protocol_version: "1.0".into(),
            initial_credits: 8,
            ..Default::default()
        };
        let fulfil = FulfillTools {
            tool_names: tools.iter().map(|&tool| tool.to_owned()).collect(),
            ..Default::default()
        };
        frames.send(RuntimeFrame { frame: Some(Frame::Announce(announce)) }).unwrap();
        let answer = soon("it connects", service.connect(UnboundedReceiverStream::new(sent))).await;
        let mut raw = Self { frames, heard: answer.unwrap().unwrap().into_inner() };
        raw.hear(|frame| matches!(frame, host_frame::Frame::Announced(_)).then_some(())).await;
        raw.say(Frame::Fulfill(fulfil));
        raw.hear(|frame| matches!(frame, host_frame::Frame::Fulfilled(_)).then_some(())).await;
        raw
    }

    pub(crate) fn say(&self, frame: Frame) {
        self.frames.send(RuntimeFrame { frame: Some(frame) }).unwrap();
    }

    pub(crate) async fn hear<T>(&mut self, wanted: impl Fn(host_frame::Frame) -> Option<T>) -> T {
        loop {
            let heard =
                soon("the Host says something", self.heard.message()).await.unwrap().unwrap().unwrap();
            if let Some(found) = heard.frame.and_then(&wanted) {
                return found;
            }
        }
    }

    pub(crate) async fn call(&mut self) -> ToolCall {
        self.hear(|frame| match frame {
            host_frame::Frame::Call(call) => Some(call),
            _ => None,
        })
        .await
    }

    pub(crate) fn answer(&self, call: &ToolCall, status: i32, content: Vec<u8>) {
        let name = call.call.as_ref().map(|call| call.name.clone()).unwrap_or_default();
        let result = FunctionResult { name, status, content_json: content.into(), error: None };
        self.say(Frame::Result(ToolResult {
            dispatch_id: call.dispatch_id.clone(),
            result: Some(result),
            ..Default::default()
        }));
    }
}

/// Starts a call of `echo`.
pub(crate) fn calling(session: &Session, text: &str) -> JoinHandle<Result<CallResult, Error>> {
    let call = session.call("echo", json!({ "text": text })).timeout(std::time::Duration::from_secs(20));
    tokio::spawn(async move { call.send().await })
}

/// The Runtime and the session are as good as before.
pub(crate) async fn goes_on(raw: &mut Raw, session: &Session) {
    let running = calling(session, "on");
    let call = raw.call().await;
    raw.answer(&call, SUCCESS, br#"{"text":"on"}"#.to_vec());
    let result = soon("the call ends", running).await.unwrap().unwrap().unwrap();
    assert_eq!(result.into_content().unwrap(), json!({ "text": "on" }));
}
