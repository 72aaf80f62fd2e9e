use std::{
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use bytes::Bytes;
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
        if !keys.is_empty() {
            self.look(environment, &keys);
        }
    }

    fn look(&self, environment: &Environment, keys: &[Vec<u8>]) {
        let looked = (|| {
            let txn = environment.env.read_txn()?;
            for key in keys {
                self.watches.now(key, environment.rows.get(&txn, key)?);
            }
            heed::Result::Ok(())
        })();
        if let Err(error) = looked {
            // The next look may succeed; until then a change is only noticed late.
            tracing::warn!(error = %explain(error), "could not look for watched changes");
        }
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
    let mut seen = environment.last_version();
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
        let last = environment.last_version();
        let foreign = state.foreign.swap(false, Ordering::SeqCst)
            || (last != seen && last != state.own.load(Ordering::SeqCst));
        seen = last;
        if foreign && !state.watches.is_empty() {
            state.look(environment, &state.watches.keys());
        }
    }
}
