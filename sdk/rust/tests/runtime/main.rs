//! The Runtime against a stub of the Host.

mod calls;
mod connections;
#[path = "../stub/mod.rs"]
mod stub;
mod tools;

use std::time::Duration;

use aesp_proto::{Error, v1::ToolResult};
use aesp_sdk::{Entropy, Runtime, RuntimeBuilder, RuntimeHandle, RuntimeStatus, ToolFailure};
use serde_json::Value;
use stub::{Pki, soon};
use tokio::task::JoinHandle;

type Run = JoinHandle<Result<(), Error>>;

fn builder(pki: &Pki) -> RuntimeBuilder {
    Runtime::builder("worker-1", pki.tls_with_identity())
        .entropy(Entropy::from_seed(1))
        .reconnect(Duration::from_millis(5), Duration::from_millis(50))
        .tool("echo", async |_, args| Ok(args))
}

fn start(builder: RuntimeBuilder) -> (RuntimeHandle, Run) {
    let runtime = builder.build().expect("is complete");
    (runtime.handle(), tokio::spawn(runtime.run()))
}

async fn until(
    handle: &RuntimeHandle,
    what: &str,
    holds: impl FnMut(&RuntimeStatus) -> bool,
) -> RuntimeStatus {
    let mut status = handle.status();
    let status = soon(what, status.wait_for(holds)).await.expect("runs");
    status.clone()
}

fn content(result: &ToolResult) -> Value {
    let result = result.result.as_ref().expect("has a result");
    serde_json::from_slice(&result.content_json).expect("is JSON")
}

fn failure(result: &ToolResult) -> ToolFailure {
    result.result.clone().expect("has a result").error.expect("failed").into()
}
