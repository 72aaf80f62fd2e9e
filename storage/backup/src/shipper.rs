use std::time::Duration;

use aesp_proto::Timestamp;

use crate::{
    Error, Version, Writer,
    archive::{Kind, Put, SegmentHead, name, write_segment},
    writer::Head,
};

/// Takes the journal of the store to the archive.
pub struct Shipper(Writer);

/// What a step of the shipper reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shipped {
    /// Everything up to this version is in the archive.
    pub up_to: Version,
    /// Every commit that had returned by this time is in the archive: now less this is the recovery point reached.
    pub restorable_to: Timestamp,
    /// The segments that this step wrote.
    pub segments: u64,
    /// The commits in them.
    pub commits: u64,
    /// Their bytes, as they lie in the archive.
    pub bytes: u64,
    /// The bytes that the journal took in the store before this step.
    pub journal_bytes: u64,
}

/// About how many bytes of records go into a segment.
const SEGMENT_BYTES: usize = 8 << 20;
/// How often a segment says that nothing was committed.
const IDLE: Duration = Duration::from_secs(60);

impl Shipper {
    /// Continues where the archive ends.
    #[must_use]
    pub fn new(writer: Writer) -> Self {
        Self(writer)
    }

    /// Takes what is committed to the archive, verifies it there, and trims the journal. Safe to cut off anywhere.
    ///
    /// # Errors
    /// [`Error::Fenced`] if another node took over: stop. [`Error::Gap`] if the journal was stopped: claim again, and take a
    /// snapshot.
    pub async fn step(&mut self) -> Result<Shipped, Error> {
        let writer = &self.0;
        writer.check().await?;
        let journal = writer.0.engine.journal();
        let mut out: Option<Shipped> = None;
        loop {
            let head = writer.head();
            let part = journal.read(head.to.0, SEGMENT_BYTES).await?;
            let ended = part.state.stopped.filter(|stop| stop.at <= head.to.0);
            let same = data_encoding::HEXLOWER.encode(&part.state.id) == writer.0.journal;
            let behind = part.state.trimmed > head.to.0;
            if same && behind && self.adopt(head).await? {
                continue;
            }
            if !same || behind || ended.is_some() {
                return match out {
                    Some(shipped) => Ok(shipped),
                    None => Err(Error::Gap { line: writer.0.line, at: head.to }),
                };
            }
            let shipped = out.get_or_insert(Shipped {
                up_to: head.to,
                restorable_to: head.to_time.max(part.time),
                segments: 0,
                commits: 0,
                bytes: 0,
                journal_bytes: part.journal_bytes,
            });
            shipped.restorable_to = shipped.restorable_to.max(part.time);
            let idle = part.records.is_empty() && part.state.stopped.is_none();
            if idle && part.time.since(head.to_time) < IDLE && head.to >= writer.wanted() {
                // The versions since were made by no commit: trims and the like.
                return Ok(*shipped);
            }
            let segment = SegmentHead {
                from: head.to,
                to: Version(part.up_to),
                to_time: part.time.max(head.to_time),
                commits: part.records.len() as u64,
                previous: head.tail,
            };
            if segment.to == segment.from {
                return Ok(*shipped);
            }
            let Some(size) = self.put(&segment, &write_segment(&part.records)).await? else { continue };
            shipped.bytes += size;
            shipped.segments += 1;
            shipped.commits += segment.commits;
            shipped.up_to = segment.to;
            journal.trim(segment.to.0).await?;
            if !part.more {
                return Ok(*shipped);
            }
        }
    }

    /// Writes a segment and returns its size; nothing if there was one already, behind which the next one belongs.
    async fn put(&self, segment: &SegmentHead, body: &[u8]) -> Result<Option<u64>, Error> {
        let writer = &self.0;
        let (line, archive) = (writer.0.line, &writer.0.archive.0);
        let object = name::segment(line, segment.from);
        match archive.put((Kind::Segment, line, &object), segment, body).await? {
            (Put::Written(tail), size) => {
                writer.set_head(segment, tail);
                Ok(Some(size))
            }
            (Put::Taken, _) => {
                writer.check().await?;
                self.adopt(writer.head()).await?;
                Ok(None)
            }
        }
    }

    /// Goes on behind the segment at the end of the line that the writer before us put there after we looked, if it did. It is
    /// of the same journal.
    async fn adopt(&self, head: Head) -> Result<bool, Error> {
        let writer = &self.0;
        match writer.0.archive.0.segment(writer.0.line, head.to).await {
            Ok((found, _, tail, _)) if found.previous == head.tail => {
                writer.set_head(&found, tail);
                Ok(true)
            }
            Ok(_) => {
                let object = name::segment(writer.0.line, head.to);
                Err(Error::damaged(object, "it does not follow the segment before it"))
            }
            Err(Error::Missing { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
