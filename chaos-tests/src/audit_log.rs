//! The tenant's audit log as its export has it.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
};

use aesp_proto::{WriterId, v1::AuditLeaf};
use anyhow::Context;
use data_encoding::BASE64;
use prost::Message;
use serde::Deserialize;

use crate::history::CallKey;

/// The record of something that concerns a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) event: String,
    pub(crate) action: String,
    pub(crate) succeeded: bool,
    pub(crate) reason: String,
    pub(crate) key: CallKey,
    /// Which writer, so which incarnation of which node, appended it.
    pub(crate) writer: String,
}

impl Record {
    /// Tells whether it settles the outcome of its call: there must be one at most.
    pub(crate) fn settles(&self) -> bool {
        match self.action.as_str() {
            "tool.settle" => true,
            // Other failures of a call leave it open: nothing is kept, and it may be asked again.
            "tool.invoke" => self.succeeded || self.reason.starts_with("TOOL_FAILED"),
            _ => false,
        }
    }

    /// Tells whether only the session's owner can have written it, because its shard's fence was checked in the same
    /// transaction.
    pub(crate) fn is_fenced(&self) -> bool {
        self.settles() || self.action == "tool.intent"
    }
}

#[derive(Deserialize)]
struct Line {
    line: String,
    #[serde(default)]
    leaf: String,
    view: Option<View>,
}

#[derive(Deserialize)]
struct View {
    event_id: String,
    action: String,
    outcome: String,
    #[serde(default)]
    session_id: String,
    #[serde(default)]
    invocation_id: String,
    #[serde(default)]
    reason: String,
}

/// Reads the records of calls in an export, in the order of their commits.
///
/// # Errors
/// When the file is no export.
pub(crate) fn read(export: &Path) -> anyhow::Result<Vec<Record>> {
    let mut records = Vec::new();
    for (number, line) in BufReader::new(File::open(export)?).lines().enumerate() {
        let at = || format!("line {} of {}", number + 1, export.display());
        let line: Line = serde_json::from_str(&line?).with_context(at)?;
        if line.line == "event" {
            records.extend(record(line).with_context(at)?);
        }
    }
    Ok(records)
}

fn record(line: Line) -> anyhow::Result<Option<Record>> {
    let view = line.view.context("an event without its view")?;
    if !view.action.starts_with("tool.") || view.session_id.is_empty() || view.invocation_id.is_empty() {
        return Ok(None);
    }
    let leaf = AuditLeaf::decode(BASE64.decode(line.leaf.as_bytes())?.as_slice())?;
    Ok(Some(Record {
        event: view.event_id,
        action: view.action,
        succeeded: view.outcome == "OUTCOME_SUCCESS",
        reason: view.reason,
        key: CallKey { session: view.session_id.into(), invocation: view.invocation_id },
        writer: WriterId::from_slice(&leaf.writer_id)?.to_string(),
    }))
}
