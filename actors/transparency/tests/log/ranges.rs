//! Exports of a time range: they show that these are all events of the range that the log has, or say what they do not show.

use std::time::Duration;

use aesp_audit::{Against, Report, TimeRange, verify_with};
use aesp_cluster::Fence;
use aesp_proto::{Clock, TenantId, Timestamp};
use aesp_storage::Kind;
use aesp_transparency::{Error, Options, Sealer};

use crate::world::World;

/// Ten minutes of a log: 3 events each 30 s, in commits of their own, sealed after each but the last.
struct Sealed {
    world: World,
    tenant: TenantId,
    fence: Fence,
    sealer: Sealer,
    began: Timestamp,
}

const EVENTS: usize = 60;

async fn sealed(seed: u64) -> Sealed {
    let world = World::new(seed).await;
    let tenant = world.tenant().await;
    let (sealer, fence) = (world.sealer(Options::default()).await, world.take(1, tenant).await);
    let began = world.clock.now();
    for _ in 0..20 {
        world.record(tenant, 3).await;
        world.seal(&sealer, tenant, fence).await;
        world.clock.advance(Duration::from_secs(30));
    }
    Sealed { world, tenant, fence, sealer, began }
}

impl Sealed {
    fn range(&self, start: i64, end: Option<i64>) -> TimeRange {
        let at = |seconds: i64| Timestamp(self.began.0 + seconds * 1_000);
        TimeRange { start: at(start), end: end.map(at) }
    }

    async fn export(&self, start: i64, end: Option<i64>) -> Vec<u8> {
        self.world.export_of(self.tenant, Some(self.range(start, end))).await
    }

    async fn verified(&self, export: &[u8], range: Option<TimeRange>) -> Result<Report, String> {
        let against = Against { range, ..Against::default() };
        let verified = verify_with(export, &self.world.trust().await, against);
        verified.map_err(|broken| broken.to_string())
    }
}

#[tokio::test]
async fn a_part_of_the_log_shows_that_it_is_all_of_its_time() {
    let sealed = sealed(1).await;
    let export = sealed.export(200, Some(300)).await;
    let report = sealed.verified(&export, None).await.unwrap();
    let shown = report.range.clone().unwrap();
    // At 210, 240 and 270 seconds.
    assert_eq!((shown.events, shown.sealed_events), (9, 9));
    assert_eq!(shown.not_proven, Vec::<String>::new());
    let (first, last) = shown.first_last.unwrap();
    assert_eq!((first.leaf, last.leaf), (21, 29));
    assert_eq!((shown.before.unwrap().leaf, shown.behind.unwrap().leaf), (20, 30));
    assert!(
        shown.margin_before_ms.unwrap() >= 60_000 && shown.margin_behind_ms.unwrap() >= 60_000,
        "{report:?}"
    );
    assert!(report.part.is_some() && report.sealed_trusted);
    assert!(report.events < EVENTS as u64, "all of the log was exported");
    assert_eq!(report.unsealed(), 0);
    // A smaller range within it may be asked about, a larger one not.
    let within = sealed.verified(&export, Some(sealed.range(240, Some(250)))).await.unwrap();
    assert_eq!(within.range.unwrap().events, 3);
    let other = sealed.verified(&export, Some(sealed.range(100, Some(300)))).await.unwrap_err();
    assert!(other.contains("another time range"), "{other}");
    let whole = sealed.world.export(sealed.tenant).await;
    let asked = sealed.verified(&whole, Some(sealed.range(200, Some(300)))).await.unwrap();
    let asked = asked.range.unwrap();
    assert_eq!((asked.events, asked.margin_before_ms, asked.not_proven.len()), (9, None, 0));
}

#[tokio::test]
async fn at_the_ends_of_the_log_it_says_what_is_not_proven() {
    let sealed = sealed(2).await;
    let shown = async |start, end| {
        let export = sealed.export(start, end).await;
        sealed.verified(&export, None).await.unwrap().range.unwrap()
    };
    // From the beginning on nothing can be missing before.
    let first = shown(0, Some(100)).await;
    assert_eq!((first.events, first.margin_before_ms, first.not_proven.len()), (12, None, 0), "{first:?}");
    let open = shown(500, None).await;
    assert_eq!(open.events, 9);
    assert!(open.not_proven.len() == 1 && open.not_proven[0].contains("behind these"), "{open:?}");
    // What is not sealed yet is told apart.
    sealed.world.record(sealed.tenant, 4).await;
    let unsealed = shown(595, Some(700)).await;
    assert_eq!(
        (unsealed.events, unsealed.sealed_events, unsealed.not_proven.len()),
        (4, 0, 2),
        "{unsealed:?}"
    );
    sealed.world.clock.advance(Duration::from_secs(200));
    sealed.world.record(sealed.tenant, 1).await;
    sealed.world.seal(&sealed.sealer, sealed.tenant, sealed.fence).await;
    let later = shown(595, Some(700)).await;
    assert_eq!((later.events, later.sealed_events, later.not_proven.len()), (4, 4, 0), "{later:?}");
    let nothing = shown(601, Some(640)).await;
    assert_eq!((nothing.events, nothing.not_proven.len()), (0, 0), "{nothing:?}");
}

#[tokio::test]
async fn no_part_of_it_can_be_left_out_or_made_up() {
    let sealed = sealed(3).await;
    let good = String::from_utf8(sealed.export(200, Some(300)).await).unwrap();
    let lines: Vec<&str> = good.split_inclusive('\n').collect();
    let told = r#"{"line":"range""#;
    assert!(lines[1].starts_with(told), "{}", lines[1]);
    // Whatever line is left out or comes twice.
    for at in 0..lines.len() {
        let without: String = [&lines[..at], &lines[at + 1..]].concat().concat();
        assert!(sealed.verified(without.as_bytes(), None).await.is_err(), "line {}", at + 1);
        let twice: String = [&lines[..=at], &lines[at..]].concat().concat();
        assert!(sealed.verified(twice.as_bytes(), None).await.is_err(), "line {}", at + 1);
    }
    // The Host's own words about what comes before are held against the signed roots.
    let wrong = good.replacen(r#""first_leaf":"#, r#""first_leaf":1"#, 1);
    assert!(sealed.verified(wrong.as_bytes(), None).await.unwrap_err().contains("line 2"));
    let mut shorter = lines.clone();
    // A whole commit is left out at the beginning: found before the trailer is, for the tree that follows is not the sealed one.
    let batches: Vec<usize> =
        (0..lines.len()).filter(|at| lines[*at].starts_with(r#"{"line":"batch""#)).collect();
    shorter.drain(batches[0]..batches[1]);
    let broken = sealed.verified(shorter.concat().as_bytes(), None).await.unwrap_err();
    assert!(broken.contains("checkpoint") || broken.contains("sealed"), "{broken}");
}

#[tokio::test]
async fn an_event_that_was_taken_from_the_store_is_missed_in_its_range() {
    let sealed = sealed(4).await;
    let rows = sealed.world.rows(sealed.tenant, Kind::AUDIT_EVENT).await;
    let batches = sealed.world.rows(sealed.tenant, Kind::AUDIT_BATCH).await;
    // A commit with all its events, and its batch.
    for (key, _) in rows[24..27].iter().chain(&batches[8..9]) {
        sealed.world.overwrite(key.clone(), None).await;
    }
    let export = sealed.export(200, Some(300)).await;
    let broken = sealed.verified(&export, None).await.unwrap_err();
    assert!(broken.contains("missing") || broken.contains("sealed"), "{broken}");
}

#[tokio::test]
async fn nothing_is_shown_of_a_log_that_was_never_sealed() {
    let world = World::new(5).await;
    let tenant = world.tenant().await;
    world.record(tenant, 3).await;
    let range = TimeRange { start: Timestamp(1), end: None };
    assert!(matches!(world.log(tenant).section(range).await, Err(Error::Empty)));
}
