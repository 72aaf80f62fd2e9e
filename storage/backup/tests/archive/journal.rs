use aesp_backup::{Error, Point, Scope, Shipper, Version};
use aesp_storage::{Commit, Engine, LmdbEngine, LmdbOptions, StopReason};
use bytes::Bytes;

use crate::fixture::{Fixture, LIMIT_BYTES, back_up, commit, options, raw, restored, rows, set, snapshot};

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_beyond_its_limit_ends_and_the_store_goes_on() {
    let fixture = Fixture::new().await;
    let archive = fixture.archive().await;
    let writer = archive.claim(&fixture.engine, 200_000).await.unwrap();
    back_up(&writer).await;
    let mut last_journalled = 0;
    for n in 0..10 {
        let version = fixture.set(&n.to_string(), &[n; 40_000]).await;
        let state = fixture.engine.journal().state().await.unwrap().unwrap();
        match state.stopped {
            None => last_journalled = version,
            Some(stop) => {
                assert_eq!(stop.why, StopReason::Limit);
                assert!(stop.at >= last_journalled && stop.at < version);
                break;
            }
        }
    }
    assert_eq!(rows(&fixture.engine).await.len(), fixture_rows(last_journalled, &fixture).await);
    // What it still has is shipped; then the line is at its end.
    let mut shipper = Shipper::new(writer.clone());
    let shipped = shipper.step().await.unwrap();
    assert!(shipped.up_to.0 >= last_journalled);
    assert!(matches!(shipper.step().await, Err(Error::Gap { .. })));
    assert!(matches!(snapshot(&writer).await, Err(Error::Gap { .. })));
    // A new line needs a new snapshot.
    let writer = archive.claim(&fixture.engine, LIMIT_BYTES).await.unwrap();
    assert_eq!(writer.line().0, 2);
    let after = fixture.set("after", b"the gap").await;
    back_up(&writer).await;
    assert_eq!(restored(&archive, Point::Latest).await.unwrap().0, rows(&fixture.engine).await);
    let (_, before) = restored(&archive, Point::Version(Version(last_journalled))).await.unwrap();
    assert_eq!(before.version.0, last_journalled);
    let lost = restored(&archive, Point::Version(Version(after - 1))).await;
    assert!(matches!(lost, Err(Error::Gap { .. })), "{lost:?}");
}

/// As many rows as were written, the one included that came when the journal was full.
async fn fixture_rows(last_journalled: u64, fixture: &Fixture) -> usize {
    let part = fixture.engine.journal().read(0, usize::MAX).await.unwrap();
    assert_eq!(part.records.last().unwrap().version, last_journalled);
    part.records.len() + 1
}

#[tokio::test(flavor = "multi_thread")]
async fn the_journal_gives_way_when_the_store_is_full() {
    let fixture = Fixture::of(LmdbOptions { map_size_bytes: 4 << 20, ..options() }).await;
    let _writer = fixture.writer().await;
    let mut written = 0_u32;
    let refused = loop {
        let put = set(&format!("{written:05}"), &[1; 20_000]);
        match fixture.engine.commit(Commit { mutations: vec![put], ..Commit::default() }).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, aesp_storage::Error::Full), "{refused}");
    let without = {
        let plain = Fixture::of(LmdbOptions { map_size_bytes: 4 << 20, ..options() }).await;
        let mut written = 0_u32;
        while plain
            .engine
            .commit(Commit {
                mutations: vec![set(&format!("{written:05}"), &[1; 20_000])],
                ..Commit::default()
            })
            .await
            .is_ok()
        {
            written += 1;
        }
        written
    };
    assert!(written * 10 >= without * 9, "{written} rows with a journal, {without} without");
    let stopped = fixture.engine.journal().state().await.unwrap().unwrap().stopped;
    assert_eq!(stopped.map(|stop| stop.why), Some(StopReason::NoRoom));
    let revoke = Commit { mutations: vec![set("revoked", b"1")], use_reserve: true, ..Commit::default() };
    fixture.engine.commit(revoke).await.expect("space is kept back for revocations");
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_never_go_back() {
    let fixture = Fixture::new().await;
    let writer = fixture.writer().await;
    for n in 0..20 {
        fixture.set("a", &[n]).await;
    }
    back_up(&writer).await;
    // Never shipped: lost with the store.
    let lost = fixture.set("a", b"lost").await;
    let folder = tempfile::tempdir().unwrap();
    let engine = LmdbEngine::open(folder.path(), options()).await.unwrap();
    let archive = fixture.archive().await;
    let done = archive.restore(Point::Latest, Scope::Everything, &engine, &mut |_| {}).await.unwrap();
    let next = commit(&engine, vec![set("b", b"1")]).await;
    assert!(next > lost && next > done.version_base.0, "{next} after {lost}");
    assert!(engine.snapshot().await.unwrap().version() >= next);
    // The restored store goes on in the same archive, as a line of its own.
    let writer = archive.claim(&engine, LIMIT_BYTES).await.unwrap();
    assert_eq!(writer.line().0, 2);
    back_up(&writer).await;
    assert_eq!(restored(&archive, Point::Latest).await.unwrap().0, rows(&engine).await);
    // The lost one must not write into it any more.
    let behind = archive.claim(&fixture.engine, LIMIT_BYTES).await;
    assert!(matches!(behind, Err(Error::StoreBehind { .. })), "{behind:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_tenant_is_restored_with_the_platform() {
    use aesp_proto::TenantId;
    use aesp_storage::{Kind, Mutation, row_key};

    let fixture = Fixture::new().await;
    let writer = fixture.writer().await;
    let other = row_key(TenantId::from_bytes([9; 16]), Kind::SESSION, b"x");
    let platform = row_key(TenantId::PLATFORM, Kind::CLUSTER, b"x");
    for key in [&other, &platform, &raw("x")] {
        commit(&fixture.engine, vec![Mutation::Set { key: key.clone(), value: Bytes::from_static(b"1") }])
            .await;
    }
    back_up(&writer).await;
    for key in [&other, &raw("y")] {
        commit(&fixture.engine, vec![Mutation::Set { key: key.clone(), value: Bytes::from_static(b"2") }])
            .await;
    }
    Shipper::new(writer.clone()).step().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let engine = LmdbEngine::open(folder.path(), options()).await.unwrap();
    let scope = Scope::Tenant(crate::fixture::TENANT);
    fixture.archive().await.restore(Point::Latest, scope, &engine, &mut |_| {}).await.unwrap();
    let keys: Vec<_> = rows(&engine).await.into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, [platform, raw("x"), raw("y")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn destroyed_keys_are_not_brought_back() {
    use aesp_storage::{Kind, Mutation, row_key};

    let tenant = crate::fixture::TENANT;
    let keys = row_key(tenant, Kind::TENANT_KEYS, &[]);
    let fixture = Fixture::new().await;
    let writer = fixture.writer().await;
    commit(&fixture.engine, vec![Mutation::Set { key: keys.clone(), value: Bytes::from_static(b"wrapped") }])
        .await;
    let info = back_up(&writer).await;
    assert_eq!(info.tenants, [tenant]);
    let before = fixture.set("x", b"1").await;
    commit(&fixture.engine, vec![Mutation::Clear { key: keys.clone() }]).await;
    Shipper::new(writer.clone()).step().await.unwrap();
    let (found, done) = restored(&fixture.archive().await, Point::Version(Version(before))).await.unwrap();
    assert_eq!((done.destroyed, done.unread_after), (vec![tenant], None));
    assert!(found.iter().any(|(key, _)| *key == raw("x")) && !found.iter().any(|(key, _)| *key == keys));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_key_can_be_changed() {
    let fixture = Fixture::new().await;
    let archive = fixture.archive().await;
    let writer = archive.claim(&fixture.engine, LIMIT_BYTES).await.unwrap();
    fixture.set("a", b"1").await;
    back_up(&writer).await;
    assert_eq!(archive.rotate_key().await.unwrap(), 2);
    fixture.set("b", b"2").await;
    Shipper::new(writer).step().await.unwrap();
    let (found, _) = restored(&fixture.archive().await, Point::Latest).await.unwrap();
    assert_eq!(found.len(), 2);
}
