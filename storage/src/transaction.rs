use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use aesp_proto::TenantId;
use bytes::Bytes;
use tokio::{sync::OnceCell, time::Instant};

use crate::{
    Commit, Error, Observed, Snapshot, TenantKeys, audit_keys::Made, limits, overlay::Overlay,
    request::Request, rights, store::Shared,
};

/// One attempt to read and write the store as if nobody else did. Made by [`Store::run`](crate::Store::run) only.
///
/// Reads come from one snapshot, with the transaction's own writes over it. Writes are kept until the commit.
pub struct Transaction {
    pub(crate) shared: Arc<Shared>,
    started: Instant,
    snapshot: OnceCell<Box<dyn Snapshot>>,
    state: Mutex<State>,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) overlay: Overlay,
    /// The keys that were read, with their values in the snapshot.
    pub(crate) points: HashMap<Vec<u8>, Option<Bytes>>,
    /// The ranges that were read.
    pub(crate) ranges: Vec<Observed>,
    bytes: usize,
    failure: Option<Error>,
    /// Keys that were found to hold in this transaction's snapshot.
    pub(crate) keys: HashMap<TenantId, Arc<TenantKeys>>,
    /// Tenants whose keys this transaction destroys.
    pub(crate) destroyed: Vec<TenantId>,
    /// Rows that are known to have no chunks.
    pub(crate) whole: HashSet<Vec<u8>>,
    /// What this transaction adds to the log of changed rights.
    pub(crate) rights: Option<rights::Entry>,
    use_reserve: bool,
    /// Audit keys that this transaction draws.
    pub(crate) made: Made,
}

impl Transaction {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let started = Instant::now();
        Self { shared, started, snapshot: OnceCell::new(), state: Mutex::default() }
    }

    /// Lets this transaction use the space that is kept back, so that revocations succeed on a full store.
    pub fn use_reserve(&self) {
        self.state().use_reserve = true;
    }

    /// Returns what was attached to the store, if it is of this type.
    #[must_use]
    pub fn attached<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.shared.attached.get().and_then(|attached| Arc::clone(attached).downcast().ok())
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when the transaction is over at the latest.
    pub(crate) fn deadline(&self) -> Instant {
        self.started + limits::TRANSACTION_TIME
    }

    pub(crate) fn check_time(&self) -> Result<(), Error> {
        if Instant::now() > self.deadline() { Err(self.remember(Error::Timeout)) } else { Ok(()) }
    }

    pub(crate) async fn snapshot(&self) -> Result<&dyn Snapshot, Error> {
        let opened = self.snapshot.get_or_try_init(|| self.shared.engine.snapshot()).await;
        opened.map(Box::as_ref).map_err(|error| self.remember(error))
    }

    /// Keeps the engine's failure, so that a closure that swallows it does not commit a half.
    pub(crate) fn remember(&self, error: Error) -> Error {
        self.state().failure.get_or_insert_with(|| error.clone());
        error
    }

    pub(crate) fn failure(&self) -> Option<Error> {
        self.state().failure.clone()
    }

    /// Counts bytes towards the size of the transaction.
    pub(crate) fn charge(&self, state: &mut State, bytes: usize) -> Result<(), Error> {
        state.bytes = state.bytes.saturating_add(bytes);
        limits::check("transaction", state.bytes, limits::MAX_TRANSACTION_BYTES)
    }

    /// Ends the attempt. There is nothing to commit if nothing was written: a snapshot is consistent in itself.
    pub(crate) fn into_commit(self, request: &Request) -> (Option<Commit>, Vec<TenantId>, Made) {
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        if state.overlay.is_empty() {
            return (None, Vec::new(), Made::default());
        }
        let use_reserve = state.use_reserve || state.overlay.only_removes();
        let points = state.points.into_iter().map(|(key, value)| Observed::Point { key, value });
        let mut observed: Vec<_> = points.chain(state.ranges).collect();
        let mut mutations = state.overlay.into_mutations();
        request.add_to(&mut observed, &mut mutations);
        let commit = Commit { snapshot: self.snapshot.into_inner(), observed, mutations, use_reserve };
        (Some(commit), state.destroyed, state.made)
    }
}
