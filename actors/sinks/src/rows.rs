//! What sinks keep in the store. Their keys name a sink by the blind of its name under the platform's keys, which outlives every
//! tenant's: how far a deleted tenant's log was sent must stay readable.

use std::time::Duration;

use aesp_audit::Position;
use aesp_proto::{Incarnation, TenantId, Timestamp};
use aesp_storage::{Blind, Error, Kind, Row, Scan, Transaction};
use serde::{Deserialize, Serialize};

const PLATFORM: TenantId = TenantId::PLATFORM;

/// A sink that some node was configured with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkRow {
    /// Its name in the configuration.
    pub name: String,
    /// When it was first known. A sink that starts now gets no event of before.
    pub since: Timestamp,
}

impl Row for SinkRow {
    const KIND: Kind = Kind::AUDIT_SINK;
    type Key = Blind;
}

/// How a sink fares at one node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// When it was written.
    pub at: Timestamp,
    /// Events in hand that the sink has not taken.
    pub pending: u64,
    /// How long the one that waits longest has waited, in milliseconds.
    pub lag_ms: u64,
    /// Events that it took since the node's start.
    pub taken: u64,
    /// Events that it refused for good since then.
    pub refused: u64,
    /// The name of the cause for which it takes nothing at present; empty while it takes events.
    pub cause: String,
    /// What was seen.
    pub why: String,
}

impl Row for Report {
    const KIND: Kind = Kind::AUDIT_SINK_REPORT;
    type Key = (Blind, Incarnation);
}

/// How far a sink has settled a tenant's log. Numbers only; readable without the tenant's keys, which may be destroyed while its last
/// events are still to be sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CursorRow {
    pub(crate) position: Position,
    /// When the event there happened.
    pub(crate) at: Timestamp,
    /// Events that the sink took, and that it refused for good.
    pub(crate) taken: u64,
    pub(crate) refused: u64,
}

impl Row for CursorRow {
    const KIND: Kind = Kind::AUDIT_SINK_CURSOR;
    const SEALED: bool = false;
    type Key = Blind;
}

/// An event that a sink refused. The event itself is in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeadLetterRow {
    pub(crate) event: aesp_proto::EventId,
    pub(crate) why: String,
    pub(crate) at: Timestamp,
}

impl Row for DeadLetterRow {
    const KIND: Kind = Kind::AUDIT_DEAD_LETTER;
    type Key = (Blind, Position);
}

/// Returns the sink of this name as it is in keys, and its row, which is made if there is none.
pub(crate) async fn know(tx: &Transaction, name: &str, now: Timestamp) -> Result<(Blind, SinkRow), Error> {
    let id = tx.tenant_keys(PLATFORM).await?.blind(Kind::AUDIT_SINK, name);
    if let Some(row) = tx.get::<SinkRow>(PLATFORM, &id).await? {
        return Ok((id, row));
    }
    let row = SinkRow { name: name.to_owned(), since: now };
    tx.put(PLATFORM, &id, &row).await?;
    Ok((id, row))
}

/// Writes how the sink fares at this node.
pub(crate) async fn report(
    tx: &Transaction,
    sink: Blind,
    node: Incarnation,
    report: &Report,
) -> Result<(), Error> {
    tx.put(PLATFORM, &(sink, node), report).await
}

/// Removes the reports of nodes that are long gone.
pub(crate) async fn clear_old(tx: &Transaction, sink: Blind, now: Timestamp) -> Result<(), Error> {
    let scan = Scan { prefix: aesp_storage::encode(&sink), ..Scan::default() };
    for (key, report) in tx.scan::<Report>(PLATFORM, scan).await? {
        if now.since(report.at) > FORGOTTEN {
            tx.delete::<Report>(PLATFORM, &key).await?;
        }
    }
    Ok(())
}

/// A report that nobody has renewed for so long is removed.
const FORGOTTEN: Duration = Duration::from_secs(3_600);
