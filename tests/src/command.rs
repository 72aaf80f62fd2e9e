//! Commands that print JSON.

use std::process::Stdio;

use anyhow::{Context, ensure};
use serde_json::Value;
use tokio::process::Command;

use crate::{Certificate, soon};

/// Runs a command to its end and returns the JSON that it printed.
///
/// # Errors
/// When it fails, with what it said.
pub async fn json_of(mut command: Command) -> anyhow::Result<Value> {
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = soon("the command ends", command.output()).await??;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}: {said}", output.status);
    serde_json::from_slice(&output.stdout).with_context(|| format!("{command:?} printed no JSON: {said}"))
}

/// Takes a text out of what a command printed.
///
/// # Errors
/// When it is not there.
pub fn text(value: &Value, field: &str) -> anyhow::Result<String> {
    value[field].as_str().map(str::to_owned).with_context(|| format!("the command showed no {field}"))
}

/// Runs an `aesp pki` that issues a certificate.
///
/// # Errors
/// When it fails.
pub async fn issued(command: Command) -> anyhow::Result<Certificate> {
    let issued = json_of(command).await?;
    Ok(Certificate {
        certificate: text(&issued, "certificate")?.into(),
        key: text(&issued, "key")?.into(),
        identity: text(&issued, "identity")?,
        serial: text(&issued, "serial")?,
    })
}
