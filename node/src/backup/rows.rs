//! What backups keep in the store, for the nodes that come after: plain settings of the cluster.

use aesp_proto::{TenantId, Timestamp};
use aesp_storage::{Error, Kind, Row, Transaction};
use serde::{Deserialize, Serialize};

/// The last drill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DrillRow {
    pub(crate) at: Timestamp,
    pub(crate) passed: bool,
    /// Why it failed.
    pub(crate) reason: String,
    pub(crate) rpo_ms: u64,
    pub(crate) rto_ms: u64,
    pub(crate) version: u64,
}

/// Asks for a snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OrderRow {
    /// How many were asked for.
    pub(super) number: u64,
    /// When the last one was.
    pub(super) at: Timestamp,
}

impl Row for DrillRow {
    const KIND: Kind = Kind::CLUSTER;
    const SEALED: bool = false;
    type Key = String;
}

impl Row for OrderRow {
    const KIND: Kind = Kind::CLUSTER;
    const SEALED: bool = false;
    type Key = String;
}

const DRILL: &str = "backup-drill";
const ORDER: &str = "backup-order";

impl DrillRow {
    pub(super) async fn keep(&self, tx: &Transaction) -> Result<(), Error> {
        tx.put(TenantId::PLATFORM, &DRILL.to_owned(), self).await
    }
}

/// Returns the last drill that anybody made.
pub(crate) async fn last_drill(tx: &Transaction) -> Result<Option<DrillRow>, Error> {
    tx.get(TenantId::PLATFORM, &DRILL.to_owned()).await
}

/// Returns the last order of a snapshot.
pub(super) async fn order(tx: &Transaction) -> Result<OrderRow, Error> {
    let row = tx.get(TenantId::PLATFORM, &ORDER.to_owned()).await?;
    Ok(row.unwrap_or_default())
}

/// Asks the node that takes the backups for a snapshot.
pub(crate) async fn order_snapshot(tx: &Transaction, now: Timestamp) -> Result<(), Error> {
    let order = OrderRow { number: order(tx).await?.number + 1, at: now };
    tx.put(TenantId::PLATFORM, &ORDER.to_owned(), &order).await
}
