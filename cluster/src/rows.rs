//! What the cluster stores: plain rows of the platform, so that a node can read them before it has any keys.

use std::time::Duration;

use aesp_proto::{Incarnation, TenantId, Timestamp};
use aesp_storage::{Error, Kind, RightsPosition, Row, Transaction};
use serde::{Deserialize, Serialize};

use crate::{Load, Locality, MemberState};

/// A living node, in its own words. Whoever has no such row any more is dead, for ever: the row is written once when the node
/// joins, and removed with the commit that declares the node dead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeRow {
    pub(crate) name: String,
    /// Grows with every renewal.
    pub(crate) beat: u64,
    pub(crate) state: MemberState,
    pub(crate) endpoint: String,
    pub(crate) version: String,
    pub(crate) lease_ms: u64,
    /// Changes of rights up to here hold on the node. Says nothing while the node is joining.
    pub(crate) applied: RightsPosition,
    /// What the node's wall clock showed before the renewal.
    pub(crate) wall: Timestamp,
    pub(crate) load: Load,
    /// Drawn when the node joined. A node with the same name and number that joined a copy of the store has another one. Empty
    /// in rows of releases that speak protocol 1 only.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) birth: String,
    /// Where the node runs. Absent in rows of nodes that were not told, and of releases that don't know it.
    #[serde(default, skip_serializing_if = "Locality::is_unknown")]
    pub(crate) locality: Locality,
}

impl NodeRow {
    pub(crate) fn lease(&self) -> Duration {
        Duration::from_millis(self.lease_ms)
    }
}

impl Row for NodeRow {
    const KIND: Kind = Kind::NODE;
    const SEALED: bool = false;
    type Key = Incarnation;
}

/// How a node ended; for people. Kept for a day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeadRow {
    /// Empty if the node's row was damaged.
    pub(crate) name: String,
    /// Who declared it dead; the node itself if it left.
    pub(crate) by: Incarnation,
    pub(crate) at: Timestamp,
}

impl Row for DeadRow {
    const KIND: Kind = Kind::DEAD_NODE;
    const SEALED: bool = false;
    type Key = Incarnation;
}

/// What all nodes share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Setting {
    pub(crate) value: String,
}

impl Row for Setting {
    const KIND: Kind = Kind::CLUSTER;
    const SEALED: bool = false;
    type Key = String;
}

/// Names the cluster's id.
pub(crate) const ID: &str = "id";

/// Returns the id of the cluster that the store is, without being a node of it; nothing before the first node has joined.
///
/// # Errors
/// The store's.
pub async fn stored_id(tx: &Transaction) -> Result<Option<String>, Error> {
    let setting = tx.get::<Setting>(TenantId::PLATFORM, &ID.to_owned()).await?;
    Ok(setting.map(|setting| setting.value))
}

/// Names the order that a node is to drain.
pub(crate) fn drain_order(node: Incarnation) -> String {
    format!("drain-{node}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_what_they_were() {
        let row = NodeRow {
            name: "a".into(),
            beat: 3,
            state: MemberState::Serving,
            endpoint: "a:9444".into(),
            version: "0.1.0".into(),
            lease_ms: 2_000,
            applied: RightsPosition(9),
            wall: Timestamp(1_700_000_000_000),
            load: Load { sessions: 2, calls: 1 },
            birth: String::new(),
            locality: Locality::default(),
        };
        let text = r#"{"name":"a","beat":3,"state":"serving","endpoint":"a:9444","version":"0.1.0","lease_ms":2000,"applied":9,"wall":1700000000000,"load":{"sessions":2,"calls":1}}"#;
        assert_eq!(serde_json::to_string(&row).unwrap(), text);
        assert_eq!(serde_json::from_str::<NodeRow>(text).unwrap(), row);
        let born = NodeRow { birth: "ab".into(), ..row.clone() };
        let text = text.replace(r#""calls":1}"#, r#""calls":1},"birth":"ab""#);
        assert_eq!(serde_json::to_string(&born).unwrap(), text);
        assert_eq!(serde_json::from_str::<NodeRow>(&text).unwrap(), born);
        let locality = Locality { datacenter: "dc1".into(), zone: String::new() };
        let placed = NodeRow { locality, ..born };
        let text = text.replace(r#""birth":"ab""#, r#""birth":"ab","locality":{"datacenter":"dc1"}"#);
        assert_eq!(serde_json::to_string(&placed).unwrap(), text);
        assert_eq!(serde_json::from_str::<NodeRow>(&text).unwrap(), placed);
        let dead = DeadRow { name: "a".into(), by: Incarnation(2), at: Timestamp(5) };
        assert_eq!(serde_json::to_string(&dead).unwrap(), r#"{"name":"a","by":2,"at":5}"#);
        assert_eq!(serde_json::to_string(&Setting { value: "x".into() }).unwrap(), r#"{"value":"x"}"#);
        assert_eq!(drain_order(Incarnation(7)), "drain-7");
    }
}
