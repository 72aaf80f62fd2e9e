//! When which version of the cluster was. FoundationDB restores to versions; people think in times. The table is in the store,
//! so that it comes back with it.

use aesp_proto::{TenantId, Timestamp};
use aesp_storage::{Engine, Error, Kind, Range, Row, Scan, Store, Transaction, encode, row_key};
use serde::{Deserialize, Serialize};

/// Versions in a millisecond, while the cluster is not recovering.
///
/// Source: FoundationDB 7.3, `CORE_VERSIONSPERSECOND`.
const VERSIONS_PER_MS: u64 = 1_000;
/// Marks of so long are in one row.
const SLOT_MS: i64 = 600_000;
const NAME: &str = "backup-times-";

/// At this time everything up to this version, and nothing after it, was committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark(pub(super) Timestamp, pub(super) u64);

#[derive(Debug, Default, Serialize, Deserialize)]
struct Slot {
    marks: Vec<Mark>,
}

impl Row for Slot {
    const KIND: Kind = Kind::CLUSTER;
    const SEALED: bool = false;
    type Key = String;
}

/// Marks in the order of time, which is that of versions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Times(Vec<Mark>);

impl Times {
    /// Takes marks that may be from several clocks: of those that contradict each other the later ones are left out.
    fn of(marks: impl IntoIterator<Item = Mark>) -> Self {
        let mut times = Vec::<Mark>::new();
        for mark in marks {
            if times.last().is_none_or(|last| last.0 <= mark.0 && last.1 <= mark.1) {
                times.push(mark);
            }
        }
        Self(times)
    }

    /// Returns the last version that was committed by `time`; nothing before the first mark. Between two marks it counts with
    /// the clock, up to the next mark.
    pub(super) fn version_at(&self, time: Timestamp) -> Option<u64> {
        let next = self.0.partition_point(|mark| mark.0 <= time);
        let Mark(at, version) = *self.0.get(next.checked_sub(1)?)?;
        let since = u64::try_from(time.since(at).as_millis()).unwrap_or(u64::MAX);
        let counted = version.saturating_add(since.saturating_mul(VERSIONS_PER_MS));
        Some(self.0.get(next).map_or(counted, |next| counted.min(next.1)))
    }

    /// Returns when a version was; nothing before the first mark.
    pub(super) fn time_of(&self, version: u64) -> Option<Timestamp> {
        let next = self.0.partition_point(|mark| mark.1 <= version);
        let Mark(at, marked) = *self.0.get(next.checked_sub(1)?)?;
        let since = i64::try_from((version - marked) / VERSIONS_PER_MS).unwrap_or(i64::MAX);
        let counted = Timestamp(at.0.saturating_add(since));
        Some(self.0.get(next).map_or(counted, |next| counted.min(next.0)))
    }
}

fn name(at: Timestamp) -> String {
    format!("{NAME}{:012}", at.0.div_euclid(SLOT_MS).max(0))
}

/// Adds a mark, and forgets those from before `oldest`.
pub(super) async fn mark(tx: &Transaction, mark: Mark, oldest: Timestamp) -> Result<(), Error> {
    let name = name(mark.0);
    let mut slot: Slot = tx.get(TenantId::PLATFORM, &name).await?.unwrap_or_default();
    slot.marks.push(mark);
    tx.put(TenantId::PLATFORM, &name, &slot).await?;
    let (first, end) = (key(NAME), key(&self::name(oldest)));
    if first < end { tx.clear_range_raw(&first, &end) } else { Ok(()) }
}

/// Returns the store's keys of all marks, the first and the first behind them.
pub(super) fn keys() -> (Vec<u8>, Vec<u8>) {
    (key(NAME), key("backup-times."))
}

/// The part of a row's key that the name alone decides.
fn key(name: &str) -> Vec<u8> {
    row_key(TenantId::PLATFORM, Kind::CLUSTER, name.as_bytes())
}

/// Reads all marks.
///
/// # Errors
/// The store's.
pub(super) async fn load(store: &Store) -> Result<Times, Error> {
    const PAGE: usize = 500;
    let (mut marks, mut after) = (Vec::new(), None);
    loop {
        let scan = Scan { prefix: NAME.into(), after: after.take(), limit: PAGE, reverse: false };
        let scan = &scan;
        let page = store
            .run_borrowing(|tx| {
                Box::pin(async move { tx.scan::<Slot>(TenantId::PLATFORM, scan.clone()).await })
            })
            .await?;
        let full = page.len() == PAGE;
        after = page.last().map(|(name, _)| encode(name));
        marks.extend(page.into_iter().flat_map(|(_, slot)| slot.marks));
        if !full {
            return Ok(Times::of(marks));
        }
    }
}

/// Reads all marks from an engine's rows alone: of a store that is no more than its times.
///
/// # Errors
/// The engine's.
pub(super) async fn load_raw(engine: &dyn Engine) -> Result<Times, Error> {
    let (from, to) = keys();
    let rows = engine.snapshot().await?.range(&Range::new(from, to)).await?;
    let slots = rows.iter().filter_map(|(_, row)| serde_json::from_slice::<Slot>(row.get(1..)?).ok());
    Ok(Times::of(slots.flat_map(|slot| slot.marks)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn times(marks: &[(i64, u64)]) -> Times {
        Times::of(marks.iter().map(|(at, version)| Mark(Timestamp(*at), *version)))
    }

    #[test]
    fn between_marks_the_versions_count_with_the_clock() {
        // The cluster recovered between the second and the third: its versions made a leap.
        let times = times(&[(10_000, 5_000_000), (20_000, 15_000_000), (30_000, 200_000_000)]);
        assert_eq!(times.version_at(Timestamp(9_999)), None);
        assert_eq!(times.version_at(Timestamp(10_250)), Some(5_250_000));
        assert_eq!(times.version_at(Timestamp(29_999)), Some(24_999_000));
        assert_eq!(
            times.version_at(Timestamp(30_001)),
            Some(200_001_000),
            "after the last, as long as the backup goes"
        );
        assert_eq!(times.time_of(4_999_999), None);
        assert_eq!(times.time_of(5_250_000), Some(Timestamp(10_250)));
        assert_eq!(times.time_of(100_000_000), Some(Timestamp(30_000)), "somewhere in the leap");
    }

    #[test]
    fn a_clock_that_went_back_is_not_believed() {
        let times = times(&[(10_000, 100), (9_000, 200), (11_000, 300), (12_000, 250)]);
        assert_eq!(times, self::times(&[(10_000, 100), (11_000, 300)]));
    }

    #[tokio::test]
    async fn marks_are_kept_for_as_long_as_they_are_wanted() {
        let store = Store::for_tests();
        let add = async |at: i64, version: u64, oldest: i64| {
            let mark = Mark(Timestamp(at), version);
            store.run(move |tx| Box::pin(self::mark(tx, mark, Timestamp(oldest)))).await.unwrap();
        };
        for step in 0..100_i64 {
            add(step * 60_000, 1_000 * u64::try_from(step).unwrap(), 0).await;
        }
        assert_eq!(load(&store).await.unwrap().0.len(), 100);
        add(6_000_000, 200_000, 3_000_000).await;
        let left = load(&store).await.unwrap();
        assert_eq!((left.0.len(), left.0[0].0), (51, Timestamp(3_000_000)));
    }

    proptest! {
        #[test]
        fn no_time_gets_a_version_from_after_it(steps in prop::collection::vec((1_i64..60_000, 0_u64..200_000_000), 1..30), at in 0_i64..2_000_000) {
            let (mut time, mut version, mut marks) = (0, 0, Vec::new());
            for (later, more) in steps {
                (time, version) = (time + later, version + more);
                marks.push((time, version));
            }
            let times = times(&marks);
            if let Some(found) = times.version_at(Timestamp(at)) {
                for (marked, version) in &marks {
                    let fits = if *marked <= at { found >= *version } else { found <= *version };
                    prop_assert!(fits, "{found} at {at}, but {version} at {marked}");
                }
                // The way back tells a time that is not later, but for what a leap hides.
                prop_assert!(times.time_of(found).is_some());
            } else {
                prop_assert!(at < marks[0].0);
            }
        }
    }
}
