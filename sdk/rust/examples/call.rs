//! Calls a tool and prints its result:
//!
//! ```text
//! AESP_ENDPOINT=https://localhost:9443 AESP_CA=ca.pem AESP_API_KEY=aesp_… \
//!     cargo run --example call -- echo '{"text": "hello"}'
//! ```

use std::{env, io::Write, time::Duration};

use aesp_sdk::{Client, Credentials, Tls};
use anyhow::Context;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let (tool, args) = match env::args().skip(1).collect::<Vec<_>>().as_slice() {
        [tool] => (tool.clone(), serde_json::json!({})),
        [tool, args] => (tool.clone(), serde_json::from_str(args).context("the arguments are not JSON")?),
        _ => anyhow::bail!("usage: call TOOL [JSON]"),
    };
    let variable = |name: &str| env::var(name).with_context(|| format!("{name} is not set"));

    let client = Client::builder(Tls::from_files(variable("AESP_CA")?, None)?)
        .endpoint(variable("AESP_ENDPOINT")?.parse()?)
        .credentials(Credentials::ApiKey(variable("AESP_API_KEY")?.into()))
        .build()?;
    let session = client.session(Duration::from_secs(60)).await?;
    let result = session.call(tool, args).timeout(Duration::from_secs(30)).await;
    session.close(true).await?;

    let result = result?;
    let event = result.event_id.clone();
    writeln!(std::io::stdout(), "{:#}\nrecorded as {event}", result.into_content()?)?;
    Ok(())
}
