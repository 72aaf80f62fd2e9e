use std::{sync::Arc, time::Duration};

use aesp_proto::TenantId;
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
/// What is not exported of one tenant either: it is the nodes' of the cluster that it leaves, or nobody may use it elsewhere, or it is
/// signed by that cluster and made anew from the log by the next.
const LEFT_BEHIND: [Kind; 7] = [
    Kind::CREDITS,
    Kind::REFRESH_FAMILY,
    Kind::LOG_TILE,
    Kind::LOG_BUNDLE,
    Kind::LOG_STATE,
    Kind::LOG_CHECKPOINT,
    Kind::LOG_LEAF,
];

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
    end: Vec<u8>,
    /// The one whose rows are read; nothing for all.
    tenant: Option<TenantId>,
    digest: digest::Context,
}

impl Pass {
    pub(super) async fn begin(
        engine: &Arc<dyn Engine>,
        kept: Option<Duration>,
        tenant: Option<TenantId>,
    ) -> Result<Self, Error> {
        let range = match tenant {
            Some(tenant) => Range::prefix(tenant.as_bytes()),
            None => Range::new([0], Range::prefix(&[u8::MAX]).end),
        };
        Ok(Self {
            snapshot: engine.snapshot().await?,
            engine: Arc::clone(engine),
            opened: Instant::now(),
            kept,
            renewed: false,
            next: range.start,
            end: range.end,
            tenant,
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
        let mut rows = Vec::new();
        // A page may be left out as a whole.
        while rows.is_empty() {
            let rest = Range::new(self.next.as_slice(), self.end.as_slice());
            let read = self.snapshot.range(&rest.limit(PAGE_ROWS)).await?;
            let Some((last, _)) = read.last() else { break };
            self.next = [last.as_ref(), &[0]].concat();
            rows = read.into_iter().filter(|(key, _)| self.wants(key)).collect();
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

    fn wants(&self, key: &[u8]) -> bool {
        let is = |left: &Kind| key.get(16..18) == Some(&left.to_bytes()[..]);
        let left_behind = self.tenant.is_some() && LEFT_BEHIND.iter().any(is);
        !left_behind && !LEFT_OUT.iter().any(is) && key != rebirth::life_key()
    }

    /// Makes sure that what was read stood in the store at one moment.
    pub(super) async fn confirm(self) -> Result<(), Error> {
        if !self.renewed {
            return Ok(());
        }
        let mut again = Self::begin(&self.engine, self.kept, self.tenant).await?;
        while !again.page().await?.is_empty() {}
        let same = self.digest.finish().as_ref() == again.digest.finish().as_ref();
        if same { Ok(()) } else { Err(Error::Changed) }
    }
}
