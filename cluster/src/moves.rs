//! The commits that decide: who is dead, and who owns a shard.

use std::collections::BTreeSet;

use aesp_proto::{Epoch, Incarnation, ShardId, TenantId, Timestamp};
use aesp_storage::{Error, ShardRow, Store, Transaction};
use bytes::Bytes;
use futures::future::try_join_all;

use crate::rows::{DeadRow, NodeRow, Setting, drain_order};

const PLATFORM: TenantId = TenantId::PLATFORM;

/// A shard that its owner is done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) shard: ShardId,
    pub(crate) epoch: Epoch,
    /// Who is to own it; nobody when it is given up.
    pub(crate) to: Option<Incarnation>,
}

/// Declares a node dead, unless its row is another one than `seen`. Returns whether it is dead now by this.
pub(crate) async fn declare_dead(
    store: &Store,
    node: Incarnation,
    seen: &Bytes,
    by: Incarnation,
    at: Timestamp,
) -> Result<bool, Error> {
    store
        .run_borrowing(|tx| {
            Box::pin(async move {
                let Some(found) = tx.find::<NodeRow>(PLATFORM, &node).await? else { return Ok(false) };
                if found.bytes != *seen {
                    return Ok(false);
                }
                let name = found.row.map(|row| row.name).unwrap_or_default();
                bury(tx, node, &DeadRow { name, by, at }).await?;
                Ok(true)
            })
        })
        .await
}

/// Ends this node's own life.
pub(crate) async fn leave(store: &Store, own: Incarnation, name: &str, at: Timestamp) -> Result<(), Error> {
    store
        .run_borrowing(|tx| {
            Box::pin(async move {
                if tx.find::<NodeRow>(PLATFORM, &own).await?.is_none() {
                    return Ok(());
                }
                bury(tx, own, &DeadRow { name: name.to_owned(), by: own, at }).await
            })
        })
        .await
}

async fn bury(tx: &Transaction, node: Incarnation, dead: &DeadRow) -> Result<(), Error> {
    tx.delete::<NodeRow>(PLATFORM, &node).await?;
    tx.delete::<Setting>(PLATFORM, &drain_order(node)).await?;
    tx.put(PLATFORM, &node, dead).await?;
    tx.tell_cluster()
}

/// Takes shards that nobody living owns; returns those that are this node's now. Nothing is taken if this node is dead.
pub(crate) async fn take(store: &Store, own: Incarnation, shards: &[ShardId]) -> Result<Vec<Taken>, Error> {
    store
        .run_borrowing(|tx| {
            Box::pin(async move {
                let mut taken = Vec::new();
                if is_gone(tx, own).await? {
                    return Ok(taken);
                }
                let mut gone = BTreeSet::new();
                // Together: one after the other could outlast this node's own next renewal, which conflicts.
                let rows = try_join_all(shards.iter().map(|shard| tx.shard_row(*shard))).await?;
                for (&shard, row) in shards.iter().zip(rows) {
                    match row.owner {
                        Some(owner) if owner == own => continue,
                        Some(owner) if gone.contains(&owner) => {}
                        Some(owner) if is_gone(tx, owner).await? => {
                            gone.insert(owner);
                        }
                        Some(_) => continue,
                        None => {}
                    }
                    let next = ShardRow { owner: Some(own), epoch: Epoch(row.epoch.0 + 1) };
                    tx.set_shard(shard, next)?;
                    taken.push(Taken { shard, row: next, from: row.owner });
                }
                if !taken.is_empty() {
                    tx.tell_cluster()?;
                }
                Ok(taken)
            })
        })
        .await
}

/// A shard that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) shard: ShardId,
    pub(crate) row: ShardRow,
    pub(crate) from: Option<Incarnation>,
}

/// What became of shards that were to be handed over. One that is in neither list was no longer this node's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HandedOver {
    /// With their new rows.
    pub(crate) moved: Vec<(ShardId, ShardRow)>,
    /// Their successors are dead.
    pub(crate) stay: Vec<(ShardId, Epoch)>,
}

/// Gives shards to their successors.
pub(crate) async fn hand_over(store: &Store, own: Incarnation, ended: &[Ended]) -> Result<HandedOver, Error> {
    store
        .run_borrowing(|tx| {
            Box::pin(async move {
                let mut out = HandedOver::default();
                let rows = try_join_all(ended.iter().map(|ended| tx.shard_row(ended.shard))).await?;
                for (&Ended { shard, epoch, to }, row) in ended.iter().zip(rows) {
                    if row != (ShardRow { owner: Some(own), epoch }) {
                        continue;
                    }
                    if let Some(to) = to
                        && is_gone(tx, to).await?
                    {
                        out.stay.push((shard, epoch));
                        continue;
                    }
                    let next = ShardRow { owner: to, epoch: Epoch(epoch.0 + 1) };
                    tx.set_shard(shard, next)?;
                    out.moved.push((shard, next));
                }
                if !out.moved.is_empty() {
                    tx.tell_cluster()?;
                }
                Ok(out)
            })
        })
        .await
}

/// Tells whether a node is over for ever. Every node had its row before it owned anything.
async fn is_gone(tx: &Transaction, node: Incarnation) -> Result<bool, Error> {
    Ok(tx.find::<NodeRow>(PLATFORM, &node).await?.is_none())
}

#[cfg(test)]
mod tests {
    use aesp_storage::{RightsPosition, SHARDS};

    use super::*;
    use crate::{Load, Locality, MemberState};

    async fn join(store: &Store, node: u64) -> Bytes {
        let row = NodeRow {
            name: format!("node-{node}"),
            beat: 1,
            state: MemberState::Serving,
            endpoint: String::new(),
            version: String::new(),
            lease_ms: 2_000,
            applied: RightsPosition(0),
            wall: Timestamp(0),
            load: Load::default(),
            birth: String::new(),
            locality: Locality::default(),
        };
        let row = &row;
        store
            .run_borrowing(|tx| {
                Box::pin(async move {
                    tx.put(PLATFORM, &Incarnation(node), row).await?;
                    Ok::<_, Error>(tx.find::<NodeRow>(PLATFORM, &Incarnation(node)).await?.unwrap().bytes)
                })
            })
            .await
            .unwrap()
    }

    fn all() -> Vec<ShardId> {
        (0..SHARDS).map(ShardId).collect()
    }

    #[tokio::test]
    async fn shards_of_the_living_stay_and_those_of_the_dead_are_taken_once() {
        let store = Store::for_tests();
        let (one, two) = (Incarnation(1), Incarnation(2));
        let seen = join(&store, 1).await;
        join(&store, 2).await;
        assert_eq!(take(&store, one, &all()).await.unwrap().len(), usize::from(SHARDS));
        assert_eq!(take(&store, two, &all()).await.unwrap(), [], "their owner lives");
        assert!(!declare_dead(&store, one, &Bytes::from_static(b"older"), two, Timestamp(1)).await.unwrap());
        assert!(declare_dead(&store, one, &seen, two, Timestamp(1)).await.unwrap());
        assert!(!declare_dead(&store, one, &seen, two, Timestamp(1)).await.unwrap(), "once");
        let taken = take(&store, two, &all()).await.unwrap();
        assert_eq!(taken.len(), usize::from(SHARDS));
        assert_eq!((taken[0].from, taken[0].row.epoch), (Some(one), Epoch(2)));
        assert_eq!(take(&store, one, &all()).await.unwrap(), [], "the dead take nothing");
    }

    #[tokio::test]
    async fn owners_that_nobody_knows_are_gone() {
        let store = Store::for_tests();
        store.run(|tx| Box::pin(async move { tx.claim_shards(77).await })).await.unwrap();
        join(&store, 80).await;
        assert_eq!(take(&store, Incarnation(80), &all()).await.unwrap().len(), usize::from(SHARDS));
    }

    #[tokio::test]
    async fn only_the_owner_hands_over_and_only_to_the_living() {
        let store = Store::for_tests();
        let (one, two) = (Incarnation(1), Incarnation(2));
        join(&store, 1).await;
        join(&store, 2).await;
        take(&store, one, &all()).await.unwrap();
        let ended = |shard, epoch, to| Ended { shard: ShardId(shard), epoch: Epoch(epoch), to };
        let batch = [
            ended(0, 1, Some(two)),
            ended(1, 1, None),
            ended(2, 1, Some(Incarnation(9))),
            ended(3, 0, Some(two)),
        ];
        let out = hand_over(&store, one, &batch).await.unwrap();
        let next = |owner| ShardRow { owner, epoch: Epoch(2) };
        assert_eq!(out.moved, [(ShardId(0), next(Some(two))), (ShardId(1), next(None))]);
        assert_eq!(out.stay, [(ShardId(2), Epoch(1))]);
        assert_eq!(
            hand_over(&store, one, &batch[..2]).await.unwrap(),
            HandedOver::default(),
            "they are gone"
        );
        leave(&store, one, "node-1", Timestamp(4)).await.unwrap();
        leave(&store, one, "node-1", Timestamp(5)).await.unwrap();
        let dead =
            store.run(|tx| Box::pin(async move { tx.get::<DeadRow>(PLATFORM, &Incarnation(1)).await }));
        assert_eq!(dead.await.unwrap().unwrap().at, Timestamp(4));
    }
}
