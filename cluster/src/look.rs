use std::{collections::BTreeMap, sync::Arc, time::Duration};

use aesp_proto::{Incarnation, ShardId, TenantId};
use aesp_storage::{RightsPosition, ShardRow, Store, Transaction};
use bytes::Bytes;
use futures::future::{try_join, try_join3};

use crate::{
    MemberState,
    observer::Observer,
    peer::Peer,
    placement::{Member, Placed},
    rows::NodeRow,
};

/// The cluster as the store showed it at one moment.
#[derive(Clone, Debug)]
pub(crate) struct View {
    /// Everybody who is not dead.
    pub(crate) nodes: BTreeMap<Incarnation, Node>,
    /// In the order of the shards; none for a row that makes no sense.
    pub(crate) shards: Vec<Option<ShardRow>>,
    /// The end of the log of changed rights.
    pub(crate) rights: RightsPosition,
}

/// The nodes as the store showed them at one moment: as much of a [`View`] as a barrier has to know.
#[derive(Debug)]
pub(crate) struct Census {
    pub(crate) nodes: BTreeMap<Incarnation, Node>,
    /// The end of the log of changed rights.
    pub(crate) rights: RightsPosition,
}

impl Census {
    /// Looks, without a conflict with anybody.
    pub(crate) async fn take(store: &Store) -> Result<Self, aesp_storage::Error> {
        let read = store.run(|tx| {
            Box::pin(async move {
                let nodes = tx.glance_all::<NodeRow>(TenantId::PLATFORM);
                let (nodes, rights) = try_join(nodes, tx.glance_rights_position()).await?;
                Ok(Self { nodes: named(nodes), rights })
            })
        });
        read.await
    }
}

/// A node's row.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) bytes: Bytes,
    /// None if it can't be read.
    pub(crate) row: Option<NodeRow>,
}

impl View {
    /// Looks, without a conflict with anybody.
    pub(crate) async fn take(store: &Store) -> Result<Self, aesp_storage::Error> {
        store.run(|tx| Box::pin(Self::read(tx))).await
    }

    async fn read(tx: &Transaction) -> Result<Self, aesp_storage::Error> {
        let nodes = tx.glance_all::<NodeRow>(TenantId::PLATFORM);
        let (nodes, shards, rights) = try_join3(nodes, tx.shard_rows(), tx.glance_rights_position()).await?;
        Ok(Self { nodes: named(nodes), shards: shards.into_iter().map(Result::ok).collect(), rights })
    }

    pub(crate) fn row(&self, node: Incarnation) -> Option<&NodeRow> {
        self.nodes.get(&node)?.row.as_ref()
    }

    /// Returns who can be reached, and where.
    pub(crate) fn peers(&self) -> Arc<[Peer]> {
        self.rows()
            .filter(|(_, row)| !row.endpoint.is_empty())
            .map(|(incarnation, row)| Peer {
                incarnation,
                name: row.name.clone(),
                endpoint: row.endpoint.clone(),
                birth: row.birth.clone(),
            })
            .collect()
    }

    /// Returns the rows that can be read.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (Incarnation, &NodeRow)> {
        self.nodes.iter().filter_map(|(node, seen)| Some((*node, seen.row.as_ref()?)))
    }

    /// Returns the nodes that take shards, but for those whose lease must be over, who will be dead soon.
    pub(crate) fn members(&self, observer: &Observer, now: Duration) -> Vec<Member> {
        self.rows()
            .filter(|(node, row)| row.state == MemberState::Serving && !observer.is_overdue(*node, now))
            .map(|(node, row)| Member { node, name: row.name.clone() })
            .collect()
    }

    /// Returns the shards whose rows make sense.
    pub(crate) fn placed(&self) -> Vec<Placed> {
        let placed = |(row, shard): (&Option<ShardRow>, u16)| {
            let row = (*row)?;
            let free = row.owner.is_none_or(|owner| !self.nodes.contains_key(&owner));
            Some(Placed { shard: ShardId(shard), row, free })
        };
        self.shards.iter().zip(0..).filter_map(placed).collect()
    }
}

fn named(rows: Vec<(Incarnation, aesp_storage::Found<NodeRow>)>) -> BTreeMap<Incarnation, Node> {
    let node = |found: aesp_storage::Found<NodeRow>| Node { bytes: found.bytes, row: found.row.ok() };
    rows.into_iter().map(|(incarnation, found)| (incarnation, node(found))).collect()
}
