mod choice;
mod shredded;

use std::{collections::BTreeMap, sync::Arc};

use aesp_proto::{TenantId, Timestamp};
use aesp_storage::{Keep, LmdbEngine, Restoring};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};

use self::{choice::choose, shredded::Destroyed};
use crate::{
    Archive, Error, Point, Progress, Scope, SnapshotId, Version,
    archive::{ChunkEnd, ChunkHead, Kind, LineState, ManifestChunk, Opened, Shared, name},
};

/// What was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Every commit up to this version is in it, and none above.
    pub version: Version,
    /// When the last of them was made.
    pub time: Timestamp,
    /// The last version in the whole archive.
    pub archive_version: Version,
    /// Every version of the restored store is above this: above all that the archive holds, and what was never shipped.
    pub version_base: Version,
    /// The snapshot that it was restored from.
    pub snapshot: SnapshotId,
    /// How many commits were replayed on it.
    pub commits: u64,
    /// How many rows there are now, by the code of their kind.
    pub rows_by_kind: BTreeMap<u16, u64>,
    /// All rows.
    pub rows: u64,
    /// The bytes of their keys and values.
    pub bytes: u64,
    /// SHA-256 of all rows in order: `key length (4) | key | value length (4) | value`.
    pub digest: [u8; 32],
    /// The tenants whose keys were destroyed after the point. They were not brought back: their values stay unreadable.
    pub destroyed: Vec<TenantId>,
    /// What of the archive after the point could not be read, so that keys destroyed there could not be found.
    pub unread_after: Option<String>,
}

/// How far the versions of a restored store are above the archive's: more than a lost store can have committed after its last
/// segment, and few enough that there is room for millions of restores.
const VERSION_GAP: u64 = 1 << 40;
/// How many objects are fetched ahead.
const AHEAD: usize = 4;
/// How much is written in one transaction.
const BATCH_BYTES: usize = 16 << 20;

impl Archive {
    /// Restores into an empty store. One that fails leaves a store that can't be opened: remove it. Whoever opens the restored
    /// one must give it a new life before it serves.
    ///
    /// Keys that were destroyed after the point are not brought back.
    ///
    /// # Errors
    /// [`Error::NotEmpty`], [`Error::BeyondEnd`], [`Error::BeforeBegin`], [`Error::NoSnapshot`], or what is wrong with the archive.
    pub async fn restore(
        &self,
        at: Point,
        scope: Scope,
        into: &LmdbEngine,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Restored, Error> {
        let overview = self.0.overview().await?;
        let (snapshot, line) = choose(&overview, at)?;
        let (id, archive_version) = (snapshot.id, overview.last_version());
        let (manifest, chunks) = self.0.manifest(id).await?;
        let segments = segments_of(line, id.version)?;
        let sizes = chunks.iter().map(|chunk| chunk.size);
        let mut seen = Progress::over(sizes.chain(segments.iter().map(|(_, size)| *size)));
        let mut done = |size: u64| {
            seen.count(size);
            progress(seen);
        };
        let restoring = into.begin_restore().await?.ok_or(Error::NotEmpty)?;
        let mut batch = Batch { restoring, keep: keep(scope), changes: Vec::new(), bytes: 0 };
        let mut loaded = chunks_of(&self.0, id, &chunks);
        while let Some((rows, size)) = loaded.try_next().await? {
            batch.push(rows).await?;
            done(size);
        }
        drop(loaded);
        let mut end = (manifest.from, manifest.from_time);
        let mut commits = 0;
        let mut replayed = self.0.follow(line, &segments);
        'segments: while let Some((head, records, size)) = replayed.try_next().await? {
            for record in &records {
                // What the first segment has from before the snapshot.
                if record.version <= id.version.0 {
                    continue;
                }
                let (version, time) = (Version(record.version), record.time()?);
                if is_after(at, version, time) {
                    break 'segments;
                }
                batch.push(record.encoded_changes()?).await?;
                commits += 1;
                // What was committed before the last chunk was read is in it, as of then.
                end = (version.max(manifest.from), time.max(manifest.from_time));
            }
            done(size);
            if let Point::Version(version) = at
                && head.to >= version
            {
                break;
            }
        }
        drop(replayed);
        let (destroyed, unread_after) = match at {
            Point::Latest => (Destroyed::default(), None),
            _ => self.0.destroyed_after(&overview, line, end.0).await,
        };
        batch.push(destroyed.removal()).await?;
        batch.write().await?;
        let version_base = Version(archive_version.0.saturating_add(VERSION_GAP));
        batch.restoring.finish(version_base.0).await?;
        let inventory = into.inventory().await?;
        Ok(Restored {
            version: end.0,
            time: end.1,
            archive_version,
            version_base,
            snapshot: id,
            commits,
            rows_by_kind: inventory.rows_by_kind,
            rows: inventory.rows,
            bytes: inventory.bytes,
            digest: inventory.digest,
            destroyed: destroyed.tenants(),
            unread_after,
        })
    }
}

fn is_after(at: Point, version: Version, time: Timestamp) -> bool {
    match at {
        Point::Latest => false,
        Point::Version(last) => version > last,
        Point::Time(last) => time > last,
    }
}

fn keep(scope: Scope) -> Keep {
    match scope {
        Scope::Everything => Arc::new(|_| true),
        Scope::Tenant(tenant) => Arc::new(move |key: &[u8]| {
            key.starts_with(tenant.as_bytes()) || key.starts_with(TenantId::PLATFORM.as_bytes())
        }),
    }
}

/// Returns the segments that a snapshot of `version` needs: from the one in which that lies on.
pub(crate) fn segments_of(line: &LineState, version: Version) -> Result<Vec<(Version, u64)>, Error> {
    let first = line.segments.partition_point(|(from, _)| *from <= version).saturating_sub(1);
    match line.segments.get(first) {
        Some((from, _)) if *from > version.max(line.head.from) => {
            Err(Error::Missing { object: format!("{} from version {version} on", name::segments(line.line)) })
        }
        _ => Ok(line.segments[first..].to_vec()),
    }
}

/// Reads the chunks of a snapshot, in order: their rows and sizes.
pub(crate) fn chunks_of<'a>(
    archive: &'a Shared,
    id: SnapshotId,
    chunks: &'a [ManifestChunk],
) -> impl futures::Stream<Item = Result<(Bytes, u64), Error>> + Unpin + 'a {
    let read = move |(index, expected): (usize, &'a ManifestChunk)| async move {
        let object = name::chunk(id, u32::try_from(index).unwrap_or(u32::MAX));
        let opened: Opened<ChunkHead> = archive.get(Kind::Chunk, id.line, &object).await?;
        if opened.digest != expected.digest {
            return Err(Error::damaged(object, "it is not the one that the manifest names"));
        }
        let (_, rows) = ChunkEnd::split(&object, opened.body)?;
        Ok((rows, opened.size))
    };
    Box::pin(stream::iter(chunks.iter().enumerate()).map(read).buffered(AHEAD))
}

/// Collects changes, and writes them many at a time.
struct Batch {
    restoring: Restoring,
    keep: Keep,
    changes: Vec<Bytes>,
    bytes: usize,
}

impl Batch {
    async fn push(&mut self, changes: Bytes) -> Result<(), Error> {
        self.bytes += changes.len();
        self.changes.push(changes);
        if self.bytes >= BATCH_BYTES { self.write().await } else { Ok(()) }
    }

    async fn write(&mut self) -> Result<(), Error> {
        self.bytes = 0;
        let changes = std::mem::take(&mut self.changes);
        Ok(self.restoring.load(changes, Arc::clone(&self.keep)).await?)
    }
}
