use aesp_proto::Timestamp;
use aesp_storage::{JournalRecord, decode_changes};
use futures::{Stream, StreamExt, TryStreamExt, stream};

use crate::{
    Archive, Error, Progress, SnapshotId, Version,
    archive::{Chain, LineState, SegmentHead, Shared, name},
    restore::{chunks_of, segments_of},
};

/// What a verification found to be in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Its rows.
    pub rows: u64,
    /// The segments from its beginning on.
    pub segments: u64,
    /// The commits in them.
    pub commits: u64,
    /// The first version that can be restored.
    pub from: Version,
    /// The last version that can be restored.
    pub to: Version,
    /// Every commit that had returned by this time can be restored.
    pub to_time: Timestamp,
    /// The bytes that were read.
    pub bytes: u64,
}

/// How many objects are fetched ahead.
const AHEAD: usize = 4;

impl Archive {
    /// Reads a snapshot and every segment after it, and checks the chain, the digests and that everything decodes.
    ///
    /// # Errors
    /// [`Error::Damaged`] or [`Error::Missing`] names the first object that is not as it was written.
    pub async fn verify(
        &self,
        id: SnapshotId,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Report, Error> {
        let (manifest, chunks) = self.0.manifest(id).await?;
        let overview = self.0.overview().await?;
        let line = overview.line(id.line).ok_or_else(|| Error::Missing { object: name::line(id.line) })?;
        let segments = segments_of(line, id.version)?;
        let sizes = chunks.iter().map(|chunk| chunk.size);
        let mut seen = Progress::over(sizes.chain(segments.iter().map(|(_, size)| *size)));
        let mut done = |size: u64| {
            seen.count(size);
            progress(seen);
        };
        let mut rows = 0;
        let mut loaded = chunks_of(&self.0, id, &chunks);
        while let Some((changes, size)) = loaded.try_next().await? {
            rows += decode_changes(&changes)?.len() as u64;
            done(size);
        }
        drop(loaded);
        if rows != manifest.rows {
            return Err(Error::damaged(name::manifest(id), "its chunks have not as many rows as it says"));
        }
        let mut commits = 0;
        let mut followed = self.0.follow(line, &segments);
        while let Some((_, records, size)) = followed.try_next().await? {
            for record in &records {
                record.changes()?;
            }
            commits += records.len() as u64;
            done(size);
        }
        drop(followed);
        if let Some(broken) = &line.broken {
            return Err(Error::damaged(name::segments(id.line), broken));
        }
        if line.to < manifest.from {
            return Err(Error::Missing { object: name::segment(id.line, line.to) });
        }
        Ok(Report {
            snapshot: id,
            rows,
            segments: segments.len() as u64,
            commits,
            from: manifest.from,
            to: line.to,
            to_time: line.to_time,
            bytes: seen.done_bytes,
        })
    }
}

/// A segment that was read: its head, its commits and its size.
pub(crate) type Followed = (SegmentHead, Vec<JournalRecord>, u64);

impl Shared {
    /// Reads segments of a line, in order, each checked against the one before.
    pub(crate) fn follow<'a>(
        &'a self,
        line: &'a LineState,
        segments: &'a [(Version, u64)],
    ) -> impl Stream<Item = Result<Followed, Error>> + Unpin + 'a {
        let first = segments.first().map_or(line.head.from, |(from, _)| *from);
        let mut chain = Chain::before(line, first);
        let read = |(from, _): &'a (Version, u64)| self.segment(line.line, *from);
        let check = move |read: Result<(SegmentHead, Vec<JournalRecord>, _, u64), Error>| {
            let (head, records, digest, size) = read?;
            chain.follow(&head, digest)?;
            Ok((head, records, size))
        };
        Box::pin(stream::iter(segments).map(read).buffered(AHEAD).map(check))
    }
}
