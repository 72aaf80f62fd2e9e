use std::collections::BTreeSet;

use aesp_proto::{Epoch, Revision, ShardId};
use aesp_storage::{Error, SHARDS, revision_key};
use futures::future::join_all;

use crate::fixture::{Fixture, TENANT, within};

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
