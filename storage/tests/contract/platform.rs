use std::collections::BTreeSet;

use aesp_proto::{Epoch, Incarnation, Revision, ShardId, TenantId};
use aesp_storage::{
    Error, Kind, RightsPosition, RightsSince, Row, SHARDS, ShardRow, cluster_changes_key, revision_key,
    rights_key, row_key,
};
use futures::future::join_all;
use serde::{Deserialize, Serialize};

use crate::fixture::{Fixture, OTHER, TENANT, within};

pub(crate) async fn revisions_count_up(store: Fixture) {
    let watch = store.watch(&revision_key(TENANT));
    for expected in 1..=3 {
        let bumped =
            store.run_borrowing(|tx| Box::pin(async move { tx.bump_revision(TENANT).await })).await.unwrap();
        assert_eq!(bumped, Revision(expected));
    }
    within(watch).await.unwrap();
    let now = store.run_borrowing(|tx| Box::pin(async move { tx.revision(TENANT).await })).await.unwrap();
    assert_eq!(now, Revision(3));
}

pub(crate) async fn shards_are_fenced(store: Fixture) {
    let claim = || store.run_borrowing(|tx| Box::pin(async move { tx.claim_shards(1).await }));
    let first = claim().await.unwrap();
    assert_eq!(first.len(), usize::from(SHARDS));
    let second = claim().await.unwrap();
    assert!(first.iter().zip(&second).all(|(old, new)| old < new));
    let shard = ShardId(SHARDS - 1);
    let fence =
        |epoch: Epoch| store.run_borrowing(move |tx| Box::pin(async move { tx.fence(shard, epoch).await }));
    fence(second[255]).await.unwrap();
    let fenced = fence(first[255]).await;
    assert!(
        matches!(fenced, Err(Error::Fenced { shard: s, current }) if s == shard && current == second[255])
    );
}

pub(crate) async fn incarnations_are_never_given_twice(store: Fixture) {
    let take = |_| store.run_borrowing(|tx| Box::pin(async move { tx.next_incarnation().await }));
    let taken: BTreeSet<_> = join_all((0..10).map(take)).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(taken.len(), 10);
}

async fn bump(store: &Fixture, tenants: &[TenantId]) {
    store
        .run_borrowing(|tx| {
            Box::pin(async move {
                for tenant in tenants {
                    tx.bump_revision(*tenant).await?;
                }
                Ok::<_, Error>(())
            })
        })
        .await
        .unwrap();
}

async fn since(store: &Fixture, position: u64) -> RightsSince {
    let since = store
        .run_borrowing(|tx| Box::pin(async move { tx.rights_since(RightsPosition(position)).await }))
        .await
        .unwrap();
    let glance = store.run_borrowing(|tx| Box::pin(async move { tx.glance_rights_position().await }));
    assert_eq!(glance.await.unwrap(), since.position);
    since
}

fn changed(position: u64, tenants: &[TenantId]) -> RightsSince {
    RightsSince { position: RightsPosition(position), tenants: Some(tenants.iter().copied().collect()) }
}

pub(crate) async fn rights_are_logged_once_a_transaction(store: Fixture) {
    assert_eq!(since(&store, 0).await, changed(0, &[]));
    let watch = store.watch(&rights_key());
    bump(&store, &[TENANT, TENANT, OTHER]).await;
    within(watch).await.unwrap();
    bump(&store, &[OTHER]).await;
    assert_eq!(since(&store, 0).await, changed(2, &[TENANT, OTHER]));
    assert_eq!(since(&store, 1).await, changed(2, &[OTHER]));
    assert_eq!(since(&store, 2).await, changed(2, &[]));
    bump(&store, &[TENANT, TenantId::PLATFORM, OTHER]).await;
    let everybody = RightsSince { position: RightsPosition(3), tenants: None };
    assert_eq!(since(&store, 1).await, everybody, "the platform's rights are everybody's");
    let many: Vec<_> = (1..=100_u128).map(|n| TenantId::from_bytes(n.to_be_bytes())).collect();
    bump(&store, &many).await;
    assert_eq!(since(&store, 3).await, RightsSince { position: RightsPosition(4), tenants: None });
}

pub(crate) async fn a_pruned_or_damaged_log_means_everybody(store: Fixture) {
    for _ in 0..4 {
        bump(&store, &[TENANT]).await;
    }
    store.run_borrowing(|tx| Box::pin(async move { tx.prune_rights(RightsPosition(2)) })).await.unwrap();
    let everybody = RightsSince { position: RightsPosition(4), tenants: None };
    assert_eq!(since(&store, 1).await, everybody);
    assert_eq!(since(&store, 2).await, changed(4, &[TENANT]));
    assert_eq!(since(&store, 9).await, everybody, "a log that ends earlier is another one");
    let key = &row_key(TenantId::PLATFORM, Kind::RIGHTS_CHANGE, &4_u64.to_be_bytes());
    store.run_borrowing(|tx| Box::pin(async move { tx.set_raw(key, &[7; 17]) })).await.unwrap();
    assert_eq!(since(&store, 2).await, everybody);
}

pub(crate) async fn shards_move(store: Fixture) {
    let shard = ShardId(17);
    let watch = store.watch(&cluster_changes_key());
    let row = ShardRow { owner: Some(Incarnation(5)), epoch: Epoch(1) };
    let moved = store.run_borrowing(|tx| {
        Box::pin(async move {
            assert_eq!(tx.shard_row(shard).await?, ShardRow::default());
            tx.set_shard(shard, row)?;
            tx.tell_cluster()?;
            tx.shard_row(shard).await
        })
    });
    assert_eq!(moved.await.unwrap(), row);
    within(watch).await.unwrap();
    let rows = store.run_borrowing(|tx| Box::pin(async move { tx.shard_rows().await })).await.unwrap();
    assert_eq!(rows.len(), usize::from(SHARDS));
    for (number, seen) in rows.into_iter().enumerate() {
        assert_eq!(seen.unwrap(), if number == 17 { row } else { ShardRow::default() });
    }
}

pub(crate) async fn damaged_shards_hide_nothing_else(store: Fixture) {
    let key = &row_key(TenantId::PLATFORM, Kind::SHARD, &3_u16.to_be_bytes());
    store
        .run_borrowing(|tx| {
            Box::pin(async move {
                tx.claim_shards(9).await?;
                tx.set_raw(key, b"short")
            })
        })
        .await
        .unwrap();
    let rows = store.run_borrowing(|tx| Box::pin(async move { tx.shard_rows().await })).await.unwrap();
    assert!(matches!(rows[3], Err(Error::Damaged { .. })));
    assert_eq!(rows.iter().filter(|row| row.is_ok()).count(), usize::from(SHARDS) - 1);
    let fence = store.run_borrowing(|tx| Box::pin(async move { tx.fence(ShardId(3), Epoch(1)).await }));
    assert!(matches!(fence.await, Err(Error::Damaged { .. })), "nobody writes in it");
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Plain {
    name: String,
}

impl Row for Plain {
    const KIND: Kind = Kind::NODE;
    const SEALED: bool = false;
    type Key = Incarnation;
}

pub(crate) async fn damaged_rows_are_found(store: Fixture) {
    let row = Plain { name: "a".into() };
    let damaged = &row_key(TenantId::PLATFORM, Kind::NODE, &2_u64.to_be_bytes());
    let stray = &row_key(TenantId::PLATFORM, Kind::NODE, b"odd");
    let written = &row;
    store
        .run_borrowing(|tx| {
            Box::pin(async move {
                tx.put(TenantId::PLATFORM, &Incarnation(1), written).await?;
                tx.set_raw(damaged, b"\x01{\"name\":")?;
                tx.set_raw(stray, b"\x01{}")
            })
        })
        .await
        .unwrap();
    let find = |node| {
        store.run_borrowing(move |tx| {
            Box::pin(async move { tx.find::<Plain>(TenantId::PLATFORM, &Incarnation(node)).await })
        })
    };
    assert_eq!(find(1).await.unwrap().unwrap().row.unwrap(), row);
    assert!(find(2).await.unwrap().unwrap().row.is_err());
    assert!(find(3).await.unwrap().is_none());
    let all = store
        .run_borrowing(|tx| Box::pin(async move { tx.find_all::<Plain>(TenantId::PLATFORM).await }))
        .await
        .unwrap();
    let all: Vec<_> = all.into_iter().map(|(node, found)| (node, found.row.ok(), found.bytes)).collect();
    assert_eq!((all[0].0, &all[0].1), (Incarnation(1), &Some(row)));
    assert_eq!((all[1].0, &all[1].1, all[1].2.as_ref()), (Incarnation(2), &None, &b"\x01{\"name\":"[..]));
    assert_eq!(all.len(), 2);
}
