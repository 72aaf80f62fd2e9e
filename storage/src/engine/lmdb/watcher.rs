use std::{
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use bytes::Bytes;
use heed::RoTxn;
use tokio::sync::oneshot;

use super::environment::{Environment, explain};
use crate::{
    Error,
    engine::{Mutation, watches::Watches},
};

/// The thread that looks for what other processes have written, while anybody watches, and clears up after dead ones.
pub(super) struct Watcher {
    environment: Arc<Environment>,
    state: Arc<WatchState>,
    thread: Option<JoinHandle<()>>,
}

/// What the watcher and the writer know together.
#[derive(Default)]
pub(super) struct WatchState {
    watches: Watches,
    /// The last version that this process wrote.
    own: AtomicU64,
    /// Whether another process wrote before one of ours.
    foreign: AtomicBool,
    ended: Mutex<bool>,
    woken: Condvar,
}

/// How soon a change by another process is seen.
const POLL: Duration = Duration::from_millis(5);
/// How often the places of dead readers are cleared.
const CLEAR_UP: Duration = Duration::from_secs(1);

impl WatchState {
    /// The writer has the lock and is about to write `version`.
    pub(super) fn began(&self, version: u64) {
        if self.own.load(Ordering::SeqCst) + 1 != version {
            self.foreign.store(true, Ordering::SeqCst);
        }
    }

    pub(super) fn committed(&self, version: u64) {
        self.own.store(version, Ordering::SeqCst);
    }

    /// Wakes who watches a key that these mutations, which are committed, touched.
    pub(super) fn touched(&self, environment: &Environment, mutations: &[Mutation]) {
        let keys = self.watches.touched(mutations);
        if keys.is_empty() {
            return;
        }
        let looked = environment.env.read_txn().and_then(|txn| self.look(environment, &txn, &keys));
        if let Err(error) = looked {
            tracing::warn!(error = %explain(error), "could not look for watched changes");
            // The watcher looks again.
            self.foreign.store(true, Ordering::SeqCst);
        }
    }

    fn look(&self, environment: &Environment, txn: &RoTxn<'_>, keys: &[Vec<u8>]) -> heed::Result<()> {
        for key in keys {
            self.watches.now(key, environment.rows.get(txn, key)?);
        }
        Ok(())
    }

    /// Looks at every watched key if another process has written since version `seen`; returns the version looked at.
    fn poll(&self, environment: &Environment, seen: u64) -> heed::Result<u64> {
        // The flag before the transaction, so that what raised it is in the transaction.
        let foreign = self.foreign.swap(false, Ordering::SeqCst);
        let looked = (|| {
            // The version of a reader, not that of the environment's pages: those are visible before the commit has ended.
            let txn = environment.env.read_txn()?;
            let last = txn.id() as u64;
            if foreign || (last != seen && last != self.own.load(Ordering::SeqCst)) {
                self.look(environment, &txn, &self.watches.keys())?;
            }
            Ok(last)
        })();
        if looked.is_err() {
            self.foreign.store(true, Ordering::SeqCst);
        }
        looked
    }
}

impl Watcher {
    pub(super) fn start(environment: Arc<Environment>) -> Result<Self, Error> {
        let state = Arc::new(WatchState::default());
        let (seen, shared) = (Arc::clone(&environment), Arc::clone(&state));
        let thread = thread::Builder::new()
            .name("store-watcher".into())
            .spawn(move || watch_all(&seen, &shared))
            .map_err(|error| Error::unavailable(format!("no thread for the store: {error}")))?;
        Ok(Self { environment, state, thread: Some(thread) })
    }

    pub(super) fn state(&self) -> Arc<WatchState> {
        Arc::clone(&self.state)
    }

    /// Watches `key` from now on.
    pub(super) fn watch(&self, key: &[u8]) -> Result<oneshot::Receiver<()>, Error> {
        let read = || -> heed::Result<Option<Bytes>> {
            let txn = self.environment.env.read_txn()?;
            Ok(self.environment.rows.get(&txn, key)?.map(Bytes::copy_from_slice))
        };
        let before = read().map_err(explain)?;
        let changed = self.state.watches.add(key, before);
        // A commit may have come between the two lines above.
        self.state.watches.now(key, read().map_err(explain)?.as_deref());
        self.state.woken.notify_all();
        Ok(changed)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        *self.state.ended.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.state.woken.notify_all();
        if let Some(thread) = self.thread.take() {
            // A watcher that panicked has nothing left to do.
            thread.join().ok();
        }
    }
}

fn watch_all(environment: &Environment, state: &WatchState) {
    let mut seen = 0;
    let mut waited = Duration::ZERO;
    loop {
        let pause = if state.watches.is_empty() { CLEAR_UP } else { POLL };
        let ended = state.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if *ended {
            return;
        }
        let (ended, timeout) = state.woken.wait_timeout(ended, pause).unwrap_or_else(PoisonError::into_inner);
        drop(ended);
        if timeout.timed_out() {
            waited += pause;
        }
        if waited >= CLEAR_UP {
            waited = Duration::ZERO;
            if let Err(error) = environment.env.clear_stale_readers() {
                tracing::warn!(error = %explain(error), "could not clear dead readers");
            }
        }
        if !state.watches.is_empty() {
            match state.poll(environment, seen) {
                Ok(version) => seen = version,
                Err(error) => tracing::warn!(error = %explain(error), "could not look for watched changes"),
            }
        }
    }
}
