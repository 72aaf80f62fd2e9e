use anyhow::Context;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::Host;

/// Returns the sum of a node's counters or gauges whose line begins so, for example `aesp_peer_links` or
/// `aesp_forwarded_requests_total{outcome="answered"}`.
///
/// # Errors
/// When the node does not answer.
pub async fn scrape(host: &Host, metric: &str) -> anyhow::Result<f64> {
    let mut stream = TcpStream::connect(host.metrics()).await?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let lines = answer.lines().filter(|line| line.starts_with(metric));
    let values: Vec<f64> = lines
        .map(|line| {
            line.rsplit(' ').next().and_then(|value| value.parse().ok()).context("a line has no value")
        })
        .collect::<anyhow::Result<_>>()?;
    Ok(values.iter().sum())
}
