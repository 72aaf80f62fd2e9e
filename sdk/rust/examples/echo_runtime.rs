//! A Runtime with two tools. An administrator registers its certificate, and creates and activates the contracts `echo` and
//! `count_down`; then:
//!
//! ```text
//! AESP_ENDPOINT=https://localhost:9443 AESP_CA=ca.pem AESP_CERT=runtime.pem AESP_KEY=runtime.key \
//!     cargo run --example echo_runtime -- echo-1
//! ```

use std::{env, path::PathBuf, time::Duration};

use aesp_sdk::{Runtime, Tls, ToolFailure};
use anyhow::Context;
use serde_json::json;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let id = env::args().nth(1).context("usage: echo_runtime RUNTIME_ID")?;
    let variable = |name: &str| env::var(name).with_context(|| format!("{name} is not set"));
    let tls = Tls::from_files(
        variable("AESP_CA")?,
        Some((PathBuf::from(variable("AESP_CERT")?), PathBuf::from(variable("AESP_KEY")?))),
    )?;

    let runtime = Runtime::builder(id, tls)
        .endpoint(variable("AESP_ENDPOINT")?.parse()?)
        .tool("echo", async |_, args| Ok(args))
        .streaming_tool("count_down", async |_, args, mut chunks| {
            let from = args["from"].as_u64().ok_or_else(|| ToolFailure::new("`from` is not a number"))?;
            for n in (1..=from).rev() {
                chunks.send(&json!({ "n": n })).await?;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Ok(json!({ "counted": from }))
        })
        .build()?;

    let handle = runtime.handle();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            handle.drain("stopped at the terminal");
        }
    });
    runtime.run().await?;
    Ok(())
}
