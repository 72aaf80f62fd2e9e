use std::{fs, path::Path};

use anyhow::{Context, ensure};
use data_encoding::BASE64;
use serde_json::Value;
use tokio::process::Command;

use crate::{screen::short, stage::Stage, steps::newest};

/// Exports acme's log, verifies it, changes one byte of one record, and verifies it again.
pub(crate) async fn found_out(stage: &Stage) -> anyhow::Result<Vec<String>> {
    let newest = newest(stage).await?;
    let good = stage.host.folder().join("acme.jsonl");
    let mut export = stage.host.command();
    export.env("AESP_API_KEY", stage.host.administrator_key());
    export.args(["audit", "export", "--tenant", "acme", "--file"]).arg(&good);
    let (ok, said) = outcome(export).await?;
    ensure!(ok, "the export failed: {said}");
    let (ok, said) = verify(stage, &good).await?;
    ensure!(ok, "the true log does not verify: {said}");

    let (text, line) = tampered(&fs::read_to_string(&good)?)?;
    let bad = stage.host.folder().join("acme-tampered.jsonl");
    fs::write(&bad, text)?;
    let (ok, found) = verify(stage, &bad).await?;
    ensure!(!ok, "the tampered log verifies");
    ensure!(found.contains(&format!("line {line}")), "it does not name line {line}: {found}");
    Ok(vec![
        format!("acme's log, newest record {} ({}), verifies offline", newest["id"], newest["action"]),
        format!("one bit of the record on line {line} changed: {}", short(&found)),
    ])
}

async fn verify(stage: &Stage, file: &Path) -> anyhow::Result<(bool, String)> {
    let mut verify = stage.host.command();
    verify.args(["audit", "verify"]).arg(file);
    outcome(verify).await
}

async fn outcome(mut command: Command) -> anyhow::Result<(bool, String)> {
    let output = command.output().await?;
    let said = if output.status.success() { &output.stdout } else { &output.stderr };
    Ok((output.status.success(), String::from_utf8_lossy(said).into_owned()))
}

/// Changes one bit in the middle of the log; returns the text and the line, counted from 1.
fn tampered(log: &str) -> anyhow::Result<(String, usize)> {
    let mut lines: Vec<String> = log.lines().map(str::to_owned).collect();
    let events: Vec<usize> =
        (0..lines.len()).filter(|&n| lines[n].starts_with(r#"{"line":"event""#)).collect();
    let victim = *events.get(events.len() / 2).context("the log has no record")?;
    let mut value: Value = serde_json::from_str(&lines[victim])?;
    let mut leaf = BASE64.decode(value["leaf"].as_str().context("no leaf")?.as_bytes())?;
    let middle = leaf.len() / 2;
    leaf[middle] ^= 1;
    value["leaf"] = BASE64.encode(&leaf).into();
    lines[victim] = value.to_string();
    Ok((lines.join("\n") + "\n", victim + 1))
}
