use std::{sync::Arc, time::Duration};

use aesp_storage::{Engine, Kind, Range, Snapshot};
use aws_lc_rs::digest;
use bytes::Bytes;
use tokio::time::Instant;

use super::Error;
use crate::rebirth;

/// Rows that are read at once.
const PAGE_ROWS: usize = 1_000;
/// What is not exported: what only means something to nodes that live.
const LEFT_OUT: [Kind; 3] = [Kind::REQUEST, Kind::NODE, Kind::DEAD_NODE];

/// Reads every row in order. An engine that keeps no snapshot for long is read in several; two passes that read the same then
/// prove that all of it was so at the moment between them, because no value that was changed comes back (it has another nonce).
pub(super) struct Pass {
    engine: Arc<dyn Engine>,
    snapshot: Box<dyn Snapshot>,
    opened: Instant,
    /// For how long the engine keeps a snapshot; nothing for as long as one likes.
    kept: Option<Duration>,
    renewed: bool,
    next: Vec<u8>,
    digest: digest::Context,
}

impl Pass {
    pub(super) async fn begin(engine: &Arc<dyn Engine>, kept: Option<Duration>) -> Result<Self, Error> {
        Ok(Self {
            snapshot: engine.snapshot().await?,
            engine: Arc::clone(engine),
            opened: Instant::now(),
            kept,
            renewed: false,
            next: Vec::new(),
            digest: digest::Context::new(&digest::SHA256),
        })
    }

    /// Returns the next rows; none at the end.
    pub(super) async fn page(&mut self) -> Result<Vec<(Bytes, Bytes)>, Error> {
        if self.kept.is_some_and(|kept| self.opened.elapsed() > kept) {
            self.snapshot = self.engine.snapshot().await?;
            self.opened = Instant::now();
            self.renewed = true;
        }
        let end = Range::prefix(&[u8::MAX]).end;
        let mut rows = Vec::new();
        // A page may be left out as a whole.
        while rows.is_empty() {
            let mut start = self.next.clone();
            if start.is_empty() {
                start.push(0);
            }
            let read = self.snapshot.range(&Range::new(start, end.as_slice()).limit(PAGE_ROWS)).await?;
            let Some((last, _)) = read.last() else { break };
            self.next = [last.as_ref(), &[0]].concat();
            rows = read.into_iter().filter(|(key, _)| wanted(key)).collect();
        }
        for (key, value) in &rows {
            self.digest.update(&(key.len() as u64).to_be_bytes());
            self.digest.update(key);
            self.digest.update(&(value.len() as u64).to_be_bytes());
            self.digest.update(value);
        }
        Ok(rows)
    }

    pub(super) fn version(&self) -> u64 {
        self.snapshot.version()
    }

    /// Makes sure that what was read stood in the store at one moment.
    pub(super) async fn confirm(self) -> Result<(), Error> {
        if !self.renewed {
            return Ok(());
        }
        let mut again = Self::begin(&self.engine, self.kept).await?;
        while !again.page().await?.is_empty() {}
        let same = self.digest.finish().as_ref() == again.digest.finish().as_ref();
        if same { Ok(()) } else { Err(Error::Changed) }
    }
}

fn wanted(key: &[u8]) -> bool {
    let kind = key.get(16..18);
    let left_out = LEFT_OUT.iter().any(|left| kind == Some(&left.to_bytes()[..]));
    !left_out && key != rebirth::life_key()
}
