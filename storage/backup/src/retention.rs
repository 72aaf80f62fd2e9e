use std::{collections::BTreeSet, time::Duration};

use aesp_proto::Timestamp;

use crate::{
    Archive, Error, SnapshotId, SnapshotInfo,
    archive::{Overview, name},
};

/// What to keep. The newest snapshot that can be restored is always kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Every point of so long is kept restorable.
    pub keep: Duration,
    /// At least so many snapshots are kept.
    pub least_snapshots: usize,
}

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Snapshots, complete or given up.
    pub snapshots: u64,
    /// Segments.
    pub segments: u64,
    /// Objects.
    pub objects: u64,
    /// Objects that the object store did not let go: they are locked.
    pub locked: u64,
}

impl Archive {
    /// Removes what the policy doesn't keep: snapshots, and the segments that no kept snapshot needs. Beneath an object lock the
    /// object store keeps what was removed until the lock ends.
    ///
    /// # Errors
    /// That of the object store; what was removed by then is gone.
    pub async fn retain(&self, policy: &Retention, now: Timestamp) -> Result<Removed, Error> {
        let overview = self.0.overview().await?;
        let kept = kept(&overview.snapshots, policy, now);
        let mut out = Removed::default();
        for snapshot in overview.snapshots.iter().filter(|snapshot| !kept.contains(&snapshot.id)) {
            // The manifest first: half a snapshot must not look like a whole one.
            self.remove(&name::manifest(snapshot.id), &mut out).await?;
            for (chunk, _) in self.0.objects.list(&name::chunks(snapshot.id)).await? {
                self.remove(&chunk, &mut out).await?;
            }
            out.snapshots += 1;
        }
        let newest = overview.snapshots.iter().map(|snapshot| snapshot.id).max();
        for unfinished in overview.unfinished.iter().filter(|unfinished| Some(unfinished.id) < newest) {
            for index in &unfinished.chunks {
                self.remove(&name::chunk(unfinished.id, *index), &mut out).await?;
            }
            out.snapshots += 1;
        }
        for object in segments_to_remove(&overview, &kept) {
            self.remove(&object, &mut out).await?;
            out.segments += 1;
        }
        Ok(out)
    }

    async fn remove(&self, object: &str, out: &mut Removed) -> Result<(), Error> {
        if self.0.objects.delete(object).await? {
            out.objects += 1;
        } else {
            out.locked += 1;
        }
        Ok(())
    }
}

fn kept(snapshots: &[SnapshotInfo], policy: &Retention, now: Timestamp) -> BTreeSet<SnapshotId> {
    let mut newest_first: Vec<_> = snapshots.iter().collect();
    newest_first.sort_by_key(|snapshot| std::cmp::Reverse(snapshot.id));
    let mut kept = BTreeSet::new();
    let (mut reaches_back, mut restorable) = (false, 0);
    for snapshot in newest_first {
        if reaches_back && restorable >= policy.least_snapshots.max(1) {
            break;
        }
        kept.insert(snapshot.id);
        if snapshot.restorable {
            restorable += 1;
            // From this one on, every point of the time to keep can be restored.
            reaches_back |= now.since(snapshot.from_time) >= policy.keep;
        }
    }
    kept
}

fn segments_to_remove(overview: &Overview, kept: &BTreeSet<SnapshotId>) -> Vec<String> {
    let newest = overview.lines.last().map(|line| line.line);
    let mut out = Vec::new();
    for line in &overview.lines {
        let needed = kept.iter().find(|id| id.line == line.line).map(|id| id.version);
        let begins = || line.segments.iter().map(|(from, _)| *from);
        match needed {
            // Each up to where the next begins. The last one stays: it tells where the line ends.
            Some(needed) => {
                let ended = begins().zip(begins().skip(1)).filter(|(_, to)| *to <= needed);
                out.extend(ended.map(|(from, _)| name::segment(line.line, from)));
            }
            // A snapshot of it may be on its way.
            None if Some(line.line) == newest => {}
            None => out.extend(begins().map(|from| name::segment(line.line, from))),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Line, Version};

    fn snapshot(version: u64, restorable: bool) -> SnapshotInfo {
        let time = Timestamp(i64::try_from(version).unwrap() * 1000);
        SnapshotInfo {
            id: SnapshotId { line: Line(1), version: Version(version) },
            from: Version(version),
            from_time: time,
            began: time,
            chunks: 1,
            rows: 1,
            bytes: 1,
            tenants: Vec::new(),
            key_provider: String::new(),
            restorable,
        }
    }

    fn kept_of(snapshots: &[SnapshotInfo], keep_s: u64, least_snapshots: usize) -> Vec<u64> {
        let policy = Retention { keep: Duration::from_secs(keep_s), least_snapshots };
        kept(snapshots, &policy, Timestamp(100_000)).iter().map(|id| id.version.0).collect()
    }

    #[test]
    fn every_point_of_the_time_to_keep_stays_restorable() {
        let all = [10, 30, 50, 70, 90].map(|version| snapshot(version, true));
        assert_eq!(kept_of(&all, 40, 1), [50, 70, 90], "60 needs the one at 50");
        assert_eq!(kept_of(&all, 0, 1), [90]);
        assert_eq!(kept_of(&all, 0, 0), [90], "one is always kept");
        assert_eq!(kept_of(&all, 0, 4), [30, 50, 70, 90]);
        assert_eq!(kept_of(&all, 1000, 1).len(), 5, "none is old enough");
        let unfit = [snapshot(10, true), snapshot(90, false)];
        assert_eq!(kept_of(&unfit, 0, 1), [10, 90], "one that can't be restored yet replaces none");
    }
}
