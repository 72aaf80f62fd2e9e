use std::collections::{BTreeMap, BTreeSet};

use aesp_proto::Timestamp;
use aesp_storage::JournalRecord;

use super::{
    Archive, Digest, Kind, LineHead, Manifest, ManifestChunk, OfLine, OfSnapshot, Opened, SegmentHead,
    Shared, name, read_segment,
};
use crate::{ArchiveInfo, Error, Line, LineInfo, SnapshotId, SnapshotInfo, Version};

/// A line as it lies in the archive.
pub(crate) struct LineState {
    pub(crate) line: Line,
    pub(crate) head: LineHead,
    /// The digest of its beginning.
    pub(crate) begin: Digest,
    /// Where its segments begin, in order, and their sizes.
    pub(crate) segments: Vec<(Version, u64)>,
    /// The last version that it holds.
    pub(crate) to: Version,
    /// Every commit that had returned by then is in it.
    pub(crate) to_time: Timestamp,
    /// The digest of its last segment.
    pub(crate) tail: Digest,
    /// What is wrong with the segments after [`to`](Self::to), if there are any.
    pub(crate) broken: Option<String>,
}

/// A snapshot that was begun and not completed.
pub(crate) struct Unfinished {
    pub(crate) id: SnapshotId,
    pub(crate) chunks: BTreeSet<u32>,
}

/// A snapshot with the state of its line.
pub(crate) struct Overview {
    pub(crate) lines: Vec<LineState>,
    pub(crate) snapshots: Vec<SnapshotInfo>,
    pub(crate) unfinished: Vec<Unfinished>,
}

impl Overview {
    pub(crate) fn line(&self, line: Line) -> Option<&LineState> {
        self.lines.iter().find(|state| state.line == line)
    }

    /// Returns the last version and time that can be restored, if there is a snapshot for them.
    pub(crate) fn end(&self) -> (Version, Timestamp) {
        // Nothing may have been committed between the last segment and a snapshot.
        let snapshots = self.snapshots.iter().filter(|snapshot| snapshot.restorable);
        let snapshots = snapshots.map(|snapshot| (snapshot.from, snapshot.from_time));
        let ends = self.lines.iter().map(|line| (line.to, line.to_time)).chain(snapshots);
        ends.fold((Version(0), Timestamp(0)), |(to, time), end| (to.max(end.0), time.max(end.1)))
    }

    /// Returns the last version that the archive knows of.
    pub(crate) fn last_version(&self) -> Version {
        let snapshots = self.snapshots.iter().map(|snapshot| snapshot.from);
        snapshots.max().unwrap_or_default().max(self.end().0)
    }
}

impl Archive {
    /// Returns everything that the archive holds.
    ///
    /// # Errors
    /// That of the object store, or [`Error::Damaged`] names what says nothing of itself any more.
    pub async fn info(&self) -> Result<ArchiveInfo, Error> {
        let overview = self.0.overview().await?;
        let lines = overview.lines.into_iter().map(|line| LineInfo {
            line: line.line,
            from: line.segments.first().map_or(line.head.from, |(from, _)| *from),
            to: line.to,
            to_time: line.to_time,
            segments: line.segments.len() as u64,
            bytes: line.segments.iter().map(|(_, size)| size).sum(),
            broken: line.broken,
        });
        Ok(ArchiveInfo {
            cluster: self.0.cluster.clone(),
            format: super::FORMAT,
            key_provider: self.0.keys.provider().to_owned(),
            lines: lines.collect(),
            snapshots: overview.snapshots,
        })
    }

    /// Returns the complete snapshots, oldest first.
    ///
    /// # Errors
    /// As [`info`](Self::info).
    pub async fn list(&self) -> Result<Vec<SnapshotInfo>, Error> {
        Ok(self.0.overview().await?.snapshots)
    }
}

impl Shared {
    pub(crate) async fn overview(&self) -> Result<Overview, Error> {
        let lines = self.lines().await?;
        let mut chunks: BTreeMap<SnapshotId, BTreeSet<u32>> = BTreeMap::new();
        let mut complete = BTreeSet::new();
        for (object, _) in self.objects.list(name::SNAPSHOTS).await? {
            match name::of_snapshot(&object) {
                Some(OfSnapshot::Chunk(id, index)) => {
                    chunks.entry(id).or_default().insert(index);
                }
                Some(OfSnapshot::Manifest(id)) => {
                    complete.insert(id);
                }
                None => {}
            }
        }
        let mut snapshots = Vec::new();
        for id in &complete {
            chunks.remove(id);
            match self.manifest(*id).await {
                Ok((manifest, parts)) => {
                    let line = lines.iter().find(|line| line.line == id.line);
                    let restorable = line.is_some_and(|line| line.to >= manifest.from);
                    snapshots.push(info(manifest, &parts, restorable));
                }
                // One that is broken must not hide the others; `verify` says what is wrong with it.
                Err(error @ (Error::Damaged { .. } | Error::OtherCluster { .. })) => {
                    tracing::warn!(%id, error = %error, "the manifest of a snapshot is broken");
                }
                Err(error) => return Err(error),
            }
        }
        let unfinished = chunks.into_iter().map(|(id, chunks)| Unfinished { id, chunks }).collect();
        Ok(Overview { lines, snapshots, unfinished })
    }

    pub(crate) async fn lines(&self) -> Result<Vec<LineState>, Error> {
        let mut lines: BTreeMap<Line, Vec<(Version, u64)>> = BTreeMap::new();
        for (object, size) in self.objects.list(name::LINES).await? {
            match name::of_line(&object) {
                Some(OfLine::Begin(line)) => {
                    lines.entry(line).or_default();
                }
                Some(OfLine::Segment(line, from)) => lines.entry(line).or_default().push((from, size)),
                None => {}
            }
        }
        let mut out = Vec::new();
        for (line, segments) in lines {
            out.push(self.line(line, segments).await?);
        }
        Ok(out)
    }

    async fn line(&self, line: Line, mut segments: Vec<(Version, u64)>) -> Result<LineState, Error> {
        segments.sort();
        let begin: Opened<LineHead> = self.get(Kind::Line, line, &name::line(line)).await?;
        let mut state = LineState {
            line,
            to: begin.clear.from,
            to_time: begin.clear.began,
            head: begin.clear,
            begin: begin.digest,
            tail: begin.digest,
            segments,
            broken: None,
        };
        // The last one tells where the line ends. What can't be read any more is left out.
        while let Some((from, _)) = state.segments.last().copied() {
            match self.segment(line, from).await {
                Ok((head, _, digest, _)) => {
                    (state.to, state.to_time, state.tail) = (head.to, head.to_time, digest);
                    break;
                }
                Err(error @ (Error::Damaged { .. } | Error::OtherCluster { .. })) => {
                    state.broken = Some(error.to_string());
                    state.segments.pop();
                }
                Err(error) => return Err(error),
            }
        }
        Ok(state)
    }

    /// Reads a segment: its head, its commits, its digest and its size.
    pub(crate) async fn segment(
        &self,
        line: Line,
        from: Version,
    ) -> Result<(SegmentHead, Vec<JournalRecord>, Digest, u64), Error> {
        let object = name::segment(line, from);
        let opened: Opened<SegmentHead> = self.get(Kind::Segment, line, &object).await?;
        if opened.clear.from != from {
            return Err(Error::damaged(object, "it begins elsewhere than its name says"));
        }
        let records = read_segment(&object, &opened.clear, opened.body)?;
        Ok((opened.clear, records, opened.digest, opened.size))
    }

    /// Reads the manifest of a snapshot.
    pub(crate) async fn manifest(&self, id: SnapshotId) -> Result<(Manifest, Vec<ManifestChunk>), Error> {
        let object = name::manifest(id);
        let opened: Opened<Manifest> = match self.get(Kind::Manifest, id.line, &object).await {
            Err(Error::Missing { .. }) => return Err(Error::NoSuchSnapshot(id)),
            other => other?,
        };
        let chunks: Vec<ManifestChunk> = serde_json::from_slice(&opened.body).map_err(|error| {
            Error::damaged(&object, format!("its list of chunks makes no sense: {error}"))
        })?;
        if opened.clear.snapshot != id || chunks.len() as u64 != opened.clear.chunks {
            return Err(Error::damaged(object, "it contradicts itself"));
        }
        Ok((opened.clear, chunks))
    }
}

pub(crate) fn info(manifest: Manifest, chunks: &[ManifestChunk], restorable: bool) -> SnapshotInfo {
    SnapshotInfo {
        id: manifest.snapshot,
        from: manifest.from,
        from_time: manifest.from_time,
        began: manifest.began,
        chunks: manifest.chunks,
        rows: manifest.rows,
        bytes: chunks.iter().map(|chunk| chunk.size).sum(),
        tenants: manifest.tenants,
        key_provider: manifest.key_provider,
        restorable,
    }
}

/// Follows the segments of a line, and finds one that is missing, doubled or out of order.
pub(crate) struct Chain {
    line: Line,
    /// Where the next one begins, and the digest that it must name.
    next: Option<(Version, Digest)>,
}

impl Chain {
    /// Begins before the segment at `from`.
    pub(crate) fn before(state: &LineState, from: Version) -> Self {
        let next = (from == state.head.from).then_some((from, state.begin));
        Self { line: state.line, next }
    }

    /// Makes sure that this is where the next segment begins.
    pub(crate) fn expect(&self, from: Version) -> Result<(), Error> {
        match self.next {
            Some((next, _)) if from > next => Err(Error::Missing { object: name::segment(self.line, next) }),
            Some((next, _)) if from < next => {
                let object = name::segment(self.line, from);
                Err(Error::damaged(object, "it lies within the segment before it"))
            }
            _ => Ok(()),
        }
    }

    /// Takes the next segment.
    pub(crate) fn follow(&mut self, head: &SegmentHead, digest: Digest) -> Result<(), Error> {
        self.expect(head.from)?;
        if self.next.is_some_and(|(_, previous)| previous != head.previous) {
            let object = name::segment(self.line, head.from);
            return Err(Error::damaged(object, "it does not follow the segment before it"));
        }
        self.next = Some((head.to, digest));
        Ok(())
    }
}
