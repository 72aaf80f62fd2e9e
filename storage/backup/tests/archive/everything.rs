//! What holds on every object store.

use std::time::Duration;

use aesp_backup::{Archive, Error, Point, Retention, Shipper, Target};
use aesp_proto::Timestamp;

use crate::fixture::{Fixture, LIMIT_BYTES, back_up, cluster, restored, rows};

/// Backs up, restores, fences an overtaken writer, and removes what is old.
pub(crate) async fn comes_back(fixture: &Fixture, target: &Target) {
    let archive = Archive::open(target, &cluster(), fixture.key()).await.unwrap();
    let writer = archive.claim(&fixture.engine, LIMIT_BYTES).await.unwrap();
    for n in 0..20_u8 {
        fixture.set(&n.to_string(), &[n; 100]).await;
    }
    let info = back_up(&writer).await;
    fixture.set("after", b"the snapshot").await;
    Shipper::new(writer.clone()).step().await.unwrap();
    archive.verify(info.id, &mut |_| {}).await.unwrap();
    assert_eq!(restored(&archive, Point::Latest).await.unwrap().0, rows(&fixture.engine).await);
    // Whoever takes over fences the other, wherever the archive is.
    archive.claim(&fixture.engine, LIMIT_BYTES).await.unwrap();
    assert!(matches!(Shipper::new(writer).step().await, Err(Error::Fenced { .. })));
    let next = archive.claim(&fixture.engine, LIMIT_BYTES).await.unwrap();
    let newest = back_up(&next).await;
    let policy = Retention { keep: Duration::ZERO, least_snapshots: 1 };
    assert_eq!(archive.retain(&policy, Timestamp(i64::MAX)).await.unwrap().snapshots, 1);
    archive.verify(newest.id, &mut |_| {}).await.unwrap();
}

/// Finds that the object store takes other credentials only.
pub(crate) async fn is_refused(fixture: &Fixture, target: &Target) {
    let wrong = Archive::open(target, &cluster(), fixture.key()).await;
    assert!(matches!(wrong, Err(Error::Refused(_))), "{wrong:?}");
}
