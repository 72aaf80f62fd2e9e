use aesp_backup::{Error, Point, Retention, Shipper, SnapshotStep, Snapshotter};
use aesp_proto::Timestamp;

use crate::fixture::{CHUNK, Fixture, back_up, restored, rows};

#[tokio::test(flavor = "multi_thread")]
async fn the_one_that_was_overtaken_stops() {
    let fixture = Fixture::new().await;
    let first = fixture.writer().await;
    let (mut shipper, mut snapshotter) =
        (Shipper::new(first.clone()), Snapshotter::new(first.clone(), CHUNK));
    fixture.set("a", b"1").await;
    shipper.step().await.unwrap();
    let second = fixture.writer().await;
    assert_eq!(second.line(), first.line(), "the same line goes on");
    fixture.set("b", b"2").await;
    assert!(matches!(shipper.step().await, Err(Error::Fenced { current: 2 })));
    assert!(matches!(snapshotter.step().await, Err(Error::Fenced { current: 2 })));
    back_up(&second).await;
    assert_eq!(
        restored(&fixture.archive().await, Point::Latest).await.unwrap().0,
        rows(&fixture.engine).await
    );
}

/// Both go on at every turn; whoever wins, nothing is lost or doubled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_that_fight_harm_nothing() {
    let fixture = Fixture::new().await;
    let fight = async {
        let mut shipped = 0;
        for _ in 0..10 {
            let writer = match fixture.archive().await.claim(&fixture.engine, 1 << 30).await {
                Ok(writer) => writer,
                Err(Error::Fenced { .. }) => continue,
                Err(error) => panic!("{error}"),
            };
            for n in 0..3_u8 {
                fixture.set(&n.to_string(), &[n; 30]).await;
                match Shipper::new(writer.clone()).step().await {
                    Ok(step) => shipped += step.segments,
                    Err(Error::Fenced { .. }) => break,
                    Err(error) => panic!("{error}"),
                }
            }
        }
        shipped
    };
    let (one, ()) = tokio::join!(fight, async {
        for _ in 0..10 {
            if let Ok(writer) = fixture.archive().await.claim(&fixture.engine, 1 << 30).await {
                fixture.set("other", b"1").await;
                match Shipper::new(writer).step().await {
                    Ok(_) | Err(Error::Fenced { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
    });
    let info = back_up(&fixture.writer().await).await;
    let archive = fixture.archive().await;
    assert_eq!(archive.info().await.unwrap().lines.len(), 1);
    archive.verify(info.id, &mut |_| {}).await.unwrap();
    assert_eq!(restored(&archive, Point::Latest).await.unwrap().0, rows(&fixture.engine).await);
    println!("{one} segments by the first");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_was_cut_off_goes_on_where_it_was() {
    let fixture = Fixture::new().await;
    for n in 0..50 {
        fixture.set(&format!("{n:02}"), &[n; 50]).await;
    }
    let writer = fixture.writer().await;
    for _ in 0..3 {
        // One chunk each, and then the process is gone.
        let mut snapshotter = Snapshotter::resume(writer.clone(), CHUNK).await.unwrap();
        assert!(matches!(snapshotter.step().await.unwrap(), SnapshotStep::Chunk { .. }));
        fixture.set("00", b"changed meanwhile").await;
    }
    let before = fixture.files("chunks").len();
    assert_eq!(before, 3);
    let info = back_up(&writer).await;
    assert!(info.chunks > 5 && fixture.files("chunks").len() as u64 == info.chunks);
    assert_eq!(info.rows, 50);
    assert_eq!(
        restored(&fixture.archive().await, Point::Latest).await.unwrap().0,
        rows(&fixture.engine).await
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_kept_is_removed_and_the_rest_can_be_restored() {
    let fixture = Fixture::new().await;
    let writer = fixture.writer().await;
    for round in 0..4_u8 {
        fixture.set("a", &[round]).await;
        back_up(&writer).await;
    }
    let archive = fixture.archive().await;
    let segments = fixture.files("segments").len();
    let policy = Retention { keep: std::time::Duration::ZERO, least_snapshots: 2 };
    let removed = archive.retain(&policy, Timestamp(i64::MAX)).await.unwrap();
    assert_eq!((removed.snapshots, removed.locked), (2, 0));
    assert!(removed.segments > 0 && fixture.files("segments").len() < segments);
    let left = archive.list().await.unwrap();
    assert_eq!(left.len(), 2);
    for snapshot in &left {
        archive.verify(snapshot.id, &mut |_| {}).await.unwrap();
        restored(&archive, Point::Version(snapshot.from)).await.unwrap();
    }
    assert_eq!(archive.retain(&policy, Timestamp(i64::MAX)).await.unwrap().objects, 0, "once is enough");
    // Also when nothing was committed after the only one that is kept.
    let newest = back_up(&writer).await;
    archive.retain(&Retention { least_snapshots: 1, ..policy }, Timestamp(i64::MAX)).await.unwrap();
    archive.verify(newest.id, &mut |_| {}).await.unwrap();
    // And the line goes on.
    fixture.set("b", b"1").await;
    Shipper::new(fixture.writer().await).step().await.unwrap();
    assert_eq!(restored(&archive, Point::Latest).await.unwrap().0, rows(&fixture.engine).await);
}
