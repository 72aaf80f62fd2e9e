use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use aesp_proto::{Clock, Entropy, SystemClock, Timestamp};
use aesp_storage::{Engine, JournalState, LmdbEngine};
use bytes::Bytes;
use data_encoding::HEXLOWER;

use crate::{
    Archive, Error, Line, Version,
    archive::{Digest, Kind, LineHead, LineState, Put, SegmentHead, name},
};

/// The right to write to an archive, and the store whose journal it takes. Cheap to clone: a [`Shipper`](crate::Shipper) and a
/// [`Snapshotter`](crate::Snapshotter) share one.
#[derive(Clone)]
pub struct Writer(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) archive: Archive,
    pub(crate) engine: LmdbEngine,
    number: u64,
    pub(crate) line: Line,
    pub(crate) journal: String,
    head: Mutex<Head>,
    /// A snapshot needs the line to reach so far.
    wanted: AtomicU64,
}

/// Where the line ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    pub(crate) to: Version,
    pub(crate) to_time: Timestamp,
    pub(crate) tail: Digest,
}

impl Archive {
    /// Takes over the writing of the archive. Earlier writers are fenced off. Begins the journal of the store if there is none,
    /// and a new line of the archive if the last one can't be continued: take a snapshot then.
    ///
    /// # Errors
    /// [`Error::StoreBehind`] if the store is not the one that the archive was written from, [`Error::Fenced`] if another node
    /// does the same at this moment.
    pub async fn claim(&self, engine: &LmdbEngine, journal_limit_bytes: u64) -> Result<Writer, Error> {
        // Before the number is taken: a store of the past must not stop the one that is right.
        if let Some(last) = self.0.lines().await?.last() {
            refuse_the_past(engine, last).await?;
        }
        let number = self.take_number().await?;
        // In this order: what was trimmed by now is in the archive by then.
        let journal = engine.journal();
        let state = journal.state().await?;
        let lines = self.0.overview().await?.lines;
        let continued = lines.last().filter(|last| {
            state.as_ref().is_some_and(|state| {
                last.broken.is_none() && last.head.journal == id(state) && continues(state, last.to)
            })
        });
        let (line, state, head) = if let Some(last) = continued {
            // With the limit that holds now; one that has ended is left as it is until all of it is shipped.
            let ended = state.filter(|state| state.stopped.is_some());
            let state = match ended {
                Some(ended) => ended,
                None => journal.start(journal_limit_bytes).await?,
            };
            (last.line, state, Head { to: last.to, to_time: last.to_time, tail: last.tail })
        } else {
            // One that goes on goes on; the line begins where it does.
            let state = journal.start(journal_limit_bytes).await?;
            let (begins, end) = (Version(state.trimmed), lines.last().map_or(Version(0), |line| line.to));
            if begins < end {
                return Err(Error::StoreBehind { archive: end, store: begins });
            }
            let line = Line(lines.last().map_or(0, |line| line.line.0) + 1);
            let head = self.begin_line(line, &state).await?;
            (line, state, head)
        };
        let inner = Inner {
            archive: self.clone(),
            engine: engine.clone(),
            number,
            line,
            journal: id(&state),
            head: Mutex::new(head),
            wanted: AtomicU64::new(0),
        };
        Ok(Writer(Arc::new(inner)))
    }

    async fn take_number(&self) -> Result<u64, Error> {
        let number = self.last_writer().await? + 1;
        // Random, so that of two at the same moment each knows its own.
        let id = HEXLOWER.encode(&Entropy::from_system().bytes());
        let object = serde_json::json!({ "format": 1, "id": id, "began": SystemClock.now() }).to_string();
        match self.0.objects.create(&name::writer(number), Bytes::from(object)).await? {
            Put::Written(_) => Ok(number),
            Put::Taken => Err(Error::Fenced { current: self.last_writer().await? }),
        }
    }

    async fn last_writer(&self) -> Result<u64, Error> {
        let writers = self.0.objects.list(name::WRITERS).await?;
        Ok(writers.iter().filter_map(|(name, _)| name::number(name)).max().unwrap_or(0))
    }

    async fn begin_line(&self, line: Line, state: &JournalState) -> Result<Head, Error> {
        let began = SystemClock.now();
        let (from, object) = (Version(state.trimmed), name::line(line));
        let head = LineHead { journal: id(state), from, began };
        match self.0.put((Kind::Line, line, &object), &head, &[]).await? {
            (Put::Written(tail), _) => Ok(Head { to: from, to_time: began, tail }),
            (Put::Taken, _) => Err(Error::Fenced { current: self.last_writer().await? }),
        }
    }
}

fn id(state: &JournalState) -> String {
    HEXLOWER.encode(&state.id)
}

/// Makes sure that the store reaches to where the archive does.
async fn refuse_the_past(engine: &LmdbEngine, last: &LineState) -> Result<(), Error> {
    let store = Version(engine.snapshot().await?.version());
    if store < last.to { Err(Error::StoreBehind { archive: last.to, store }) } else { Ok(()) }
}

/// Tells whether the journal has everything above the version that the archive reaches, and something that it has not.
fn continues(state: &JournalState, to: Version) -> bool {
    let goes_on = state.stopped.is_none_or(|stop| stop.at > to.0);
    state.began <= to.0 && state.trimmed <= to.0 && goes_on
}

impl Writer {
    /// Returns the line that is written.
    #[must_use]
    pub fn line(&self) -> Line {
        self.0.line
    }

    /// Returns up to where everything is in the archive.
    #[must_use]
    pub fn shipped_to(&self) -> Version {
        self.head().to
    }

    pub(crate) fn head(&self) -> Head {
        *self.0.head.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_head(&self, segment: &SegmentHead, tail: Digest) {
        *self.0.head.lock().unwrap_or_else(PoisonError::into_inner) =
            Head { to: segment.to, to_time: segment.to_time, tail };
    }

    /// Says that the line must reach so far, even if nothing is committed any more.
    pub(crate) fn want(&self, version: Version) {
        self.0.wanted.fetch_max(version.0, Ordering::Relaxed);
    }

    pub(crate) fn wanted(&self) -> Version {
        Version(self.0.wanted.load(Ordering::Relaxed))
    }

    /// Makes sure that nobody has taken over.
    pub(crate) async fn check(&self) -> Result<(), Error> {
        let current = self.0.archive.last_writer().await?;
        if current > self.0.number { Err(Error::Fenced { current }) } else { Ok(()) }
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Writer({} of line {})", self.0.number, self.0.line)
    }
}
