use std::{env, io::Write, path::PathBuf, sync::Arc, time::Duration};

use aesp_node::{
    Drain, Node,
    config::{Sources, load},
};
use aesp_proto::v1::{
    agent_service_server::AgentServiceServer, runtime_service_server::RuntimeServiceServer,
};
use aesp_sdk::{Client, Credentials, Endpoint};
use aesp_tests::{Certificate, Host, Process, Worker};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::{governed::HOUR, side::Side};

/// The bare relay as a process, with its agent and its Runtime.
pub(crate) struct Relay {
    process: Process,
    session: aesp_sdk::Session,
    _worker: Worker,
}

/// Nothing is to be ended in order.
struct NoDrain;

#[async_trait::async_trait]
impl Drain for NoDrain {
    async fn hand_over(&self) {}

    async fn leave(&self) {}

    async fn send_runtimes_away(&self, _: Duration) {}
    async fn finish_calls(&self) {}
    async fn close(&self) {}
}

/// Serves the relay behind the node's own listeners, with a Host's certificates.
pub(crate) async fn serve(config: PathBuf) -> anyhow::Result<()> {
    let listeners = ["listen.grpc", "listen.https", "listen.metrics"];
    let flags = listeners.map(|key| (key.to_owned(), format!("--{key}"), "127.0.0.1:0".to_owned()));
    let config = load(&Sources { file: Some(config), flags: flags.to_vec(), ..Sources::default() })?;
    let relay = aesp_tests::relay::Relay::default();
    let routes =
        Routes::new(AgentServiceServer::new(relay.clone())).add_service(RuntimeServiceServer::new(relay));
    let host = aesp_node::Host {
        https: Default::default(),
        routes,
        jwks: Arc::new(String::new),
        ready: Arc::new(Vec::new),
        registry: prometheus::Registry::new(),
        peers: None,
        lost: Box::pin(std::future::pending()),
        gave_up: Box::pin(std::future::pending()),
        drain: Box::new(NoDrain),
        refused: Arc::new(|_, _| ()),
    };
    let node = Node::bind(config, host).await?;
    writeln!(std::io::stderr(), "{}", json!({ "grpc": node.addresses()?.grpc }))?;
    node.run(CancellationToken::new()).await
}

impl Relay {
    /// Starts it with the certificates of `host`.
    pub(crate) async fn start(host: &Host) -> anyhow::Result<Self> {
        let mut command = Command::new(env::current_exe()?);
        command.args(["relay", "--config"]).arg(host.folder().join("data/aesp.toml"));
        let mut process = Process::start(command, &host.folder().join("relay.log"))?;
        let port = process.line("the relay listens", |line| {
            let entry: Value = serde_json::from_str(line).ok()?;
            entry["grpc"].as_str()?.rsplit_once(':')?.1.parse::<u16>().ok()
        });
        let endpoint: Endpoint = format!("https://localhost:{}", port.await?).parse()?;
        let certificate: Certificate = host.issue("relay-worker").await?;
        let tls = host.tls(Some(&certificate))?;
        let runtime = aesp_sdk::Runtime::builder("relay-worker", tls)
            .endpoint(endpoint.clone())
            .concurrency(4_096)
            .tool("echo", async |_, args| Ok(args));
        let worker = Worker::start(runtime).await?;
        let client = Client::builder(host.tls(None)?)
            .endpoint(endpoint)
            .credentials(Credentials::Token("none".into()))
            .build()?;
        Ok(Self { process, session: client.session(HOUR).await?, _worker: worker })
    }

    pub(crate) fn side(&self) -> anyhow::Result<Side> {
        Ok(Side { name: "relay", sessions: vec![self.session.clone()], pid: self.process.id() })
    }
}
