use std::{collections::BTreeSet, time::Duration};

use aesp_proto::{TenantId, Timestamp};

use crate::{
    Error, SnapshotId, SnapshotInfo, Version, Writer,
    archive::{ChunkEnd, ChunkHead, Kind, Manifest, ManifestChunk, Opened, Put, name, snapshot_info},
};

/// Copies the rows to the archive, a chunk at a time, each in a short read transaction of its own, while the store is in use.
/// A chunk is as of the version at which it was read; a restore replays the journal on the chunks from the first one's version
/// on, which gives every version from the last one's on exactly.
pub struct Snapshotter {
    writer: Writer,
    options: SnapshotOptions,
    begun: Option<Begun>,
}

struct Begun {
    id: SnapshotId,
    began: Timestamp,
    chunks: Vec<ManifestChunk>,
    tenants: BTreeSet<TenantId>,
    /// Where the next chunk begins; nothing after the last one.
    next: Option<Vec<u8>>,
}

/// How a snapshot is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotOptions {
    /// The rows that one chunk takes, in bytes before compression.
    pub chunk_bytes: usize,
    /// The most bytes of rows a second; [`SnapshotStep::Chunk`] says when the next step is due.
    pub bytes_per_second: u64,
}

impl Default for SnapshotOptions {
    fn default() -> Self {
        Self { chunk_bytes: 4 << 20, bytes_per_second: 32 << 20 }
    }
}

/// What a step did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotStep {
    /// One chunk more is in the archive. Wait so long before the next step.
    Chunk {
        /// How long to wait, so that the rate is kept.
        pause: Duration,
        /// The rows copied by now.
        rows: u64,
        /// The bytes of rows copied by now.
        bytes: u64,
    },
    /// The snapshot is complete. It can be restored once the shipper has reached its [`from`](SnapshotInfo::from).
    Complete(SnapshotInfo),
}

impl Snapshotter {
    /// Begins a snapshot.
    #[must_use]
    pub fn new(writer: Writer, options: SnapshotOptions) -> Self {
        Self { writer, options, begun: None }
    }

    /// Continues the snapshot of this line that was cut off last, if there is one; otherwise begins one.
    ///
    /// # Errors
    /// That of the object store.
    pub async fn resume(writer: Writer, options: SnapshotOptions) -> Result<Self, Error> {
        let overview = writer.0.archive.0.overview().await?;
        let newest = overview.snapshots.iter().map(|snapshot| snapshot.id).max();
        let unfinished = overview
            .unfinished
            .iter()
            .filter(|unfinished| unfinished.id.line == writer.0.line && Some(unfinished.id) > newest);
        let mut out = Self::new(writer.clone(), options);
        if let Some(unfinished) = unfinished.max_by_key(|unfinished| unfinished.id) {
            let id = unfinished.id;
            match out.read(id, unfinished.chunks.len()).await {
                Ok(begun) => out.begun = begun,
                // Begun anew: what can't be read is of no use.
                Err(error @ (Error::Damaged { .. } | Error::Missing { .. })) => {
                    tracing::warn!(%id, error = %error, "a snapshot that was cut off can't be continued");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(out)
    }

    /// Reads how far a snapshot has come.
    async fn read(&self, id: SnapshotId, chunks: usize) -> Result<Option<Begun>, Error> {
        let mut begun: Option<Begun> = None;
        for index in 0..u32::try_from(chunks).unwrap_or(u32::MAX) {
            let chunk = self.writer.read_chunk(id, index).await?;
            begun.get_or_insert_with(|| Begun::new(id, chunk.part.time)).push(chunk);
        }
        Ok(begun)
    }

    /// Copies the next chunk, or completes the snapshot. Safe to cut off anywhere: [`resume`](Self::resume) goes on.
    ///
    /// # Errors
    /// [`Error::Fenced`] if another node took over: stop. [`Error::Gap`] if the journal was stopped: the snapshot is of no use.
    pub async fn step(&mut self) -> Result<SnapshotStep, Error> {
        self.writer.check().await?;
        self.check_journal().await?;
        match &self.begun {
            Some(begun) if begun.is_copied() => self.complete().await,
            _ => self.copy().await,
        }
    }

    async fn check_journal(&self) -> Result<(), Error> {
        let state = self.writer.0.engine.journal().state().await?;
        let same = state.is_some_and(|state| {
            state.stopped.is_none() && data_encoding::HEXLOWER.encode(&state.id) == self.writer.0.journal
        });
        if same { Ok(()) } else { Err(Error::Gap { line: self.writer.0.line, at: self.writer.shipped_to() }) }
    }

    async fn copy(&mut self) -> Result<SnapshotStep, Error> {
        let engine = &self.writer.0.engine;
        if self.begun.is_none() {
            // The snapshot is named for the version of its first chunk, and no other has that.
            engine.journal().advance().await?;
        }
        let from = self.begun.as_ref().and_then(|begun| begun.next.clone()).unwrap_or_default();
        let chunk = engine.copy_chunk(from, self.options.chunk_bytes).await?;
        let line = self.writer.0.line;
        let (version, time) = (Version(chunk.version), chunk.time);
        let begun = self.begun.get_or_insert_with(|| Begun::new(SnapshotId { line, version }, time));
        let index = u32::try_from(begun.chunks.len()).unwrap_or(u32::MAX);
        let (rows, bytes) = (chunk.rows, chunk.bytes);
        let head = ChunkHead { snapshot: begun.id, index, version, time, rows, bytes };
        let end = ChunkEnd { next: chunk.next, tenants: chunk.tenants };
        let (object, body) = (name::chunk(begun.id, index), end.before(&chunk.changes)?);
        let put = self.writer.0.archive.0.put((Kind::Chunk, line, &object), &head, &body).await?;
        match put {
            (Put::Written(digest), size) => {
                let part = ManifestChunk { digest, size, version, time, rows, bytes };
                begun.push(ReadChunk { part, end });
            }
            (Put::Taken, _) => {
                self.writer.check().await?;
                // Ours, from a step that was cut off after it was written.
                begun.push(self.writer.read_chunk(begun.id, index).await?);
            }
        }
        let pause = Duration::from_secs_f64(bytes as f64 / self.options.bytes_per_second.max(1) as f64);
        Ok(SnapshotStep::Chunk { pause, rows: begun.rows(), bytes: begun.bytes() })
    }

    async fn complete(&mut self) -> Result<SnapshotStep, Error> {
        let Some(begun) = &self.begun else { return self.copy().await };
        let (archive, id) = (&self.writer.0.archive.0, begun.id);
        // The chunks were read in this order.
        let last = begun.chunks.last().map_or((id.version, begun.began), |chunk| (chunk.version, chunk.time));
        let manifest = Manifest {
            snapshot: id,
            from: last.0,
            from_time: last.1,
            began: begun.began,
            chunks: begun.chunks.len() as u64,
            rows: begun.rows(),
            bytes: begun.bytes(),
            tenants: begun.tenants.iter().copied().collect(),
            key_provider: archive.keys.provider().to_owned(),
        };
        let body = serde_json::to_vec(&begun.chunks).map_err(|error| Error::Target(error.to_string()))?;
        let object = name::manifest(id);
        let (put, _) = archive.put((Kind::Manifest, id.line, &object), &manifest, &body).await?;
        if put == Put::Taken {
            // Ours, as a chunk may be, or else that of another writer.
            self.writer.check().await?;
        }
        self.writer.want(manifest.from);
        let restorable = self.writer.shipped_to() >= manifest.from;
        let info = snapshot_info(manifest, &begun.chunks, restorable);
        self.begun = None;
        Ok(SnapshotStep::Complete(info))
    }
}

/// A chunk as it lies in the archive.
struct ReadChunk {
    part: ManifestChunk,
    end: ChunkEnd,
}

impl Writer {
    async fn read_chunk(&self, id: SnapshotId, index: u32) -> Result<ReadChunk, Error> {
        let object = name::chunk(id, index);
        let chunk: Opened<ChunkHead> = self.0.archive.0.get(Kind::Chunk, id.line, &object).await?;
        let (end, _) = ChunkEnd::split(&object, chunk.body)?;
        let ChunkHead { version, time, rows, bytes, .. } = chunk.clear;
        let part = ManifestChunk { digest: chunk.digest, size: chunk.size, version, time, rows, bytes };
        Ok(ReadChunk { part, end })
    }
}

impl Begun {
    fn new(id: SnapshotId, began: Timestamp) -> Self {
        Self { id, began, chunks: Vec::new(), tenants: BTreeSet::new(), next: None }
    }

    fn is_copied(&self) -> bool {
        !self.chunks.is_empty() && self.next.is_none()
    }

    fn push(&mut self, chunk: ReadChunk) {
        self.next = chunk.end.next;
        self.tenants.extend(chunk.end.tenants);
        self.chunks.push(chunk.part);
    }

    fn rows(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.rows).sum()
    }

    fn bytes(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.bytes).sum()
    }
}
