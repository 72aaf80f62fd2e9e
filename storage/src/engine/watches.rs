use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::Mutation;

/// Who waits for which key to change.
#[derive(Debug, Default)]
pub(super) struct Watches {
    by_key: Mutex<BTreeMap<Vec<u8>, Vec<Watcher>>>,
    keys: AtomicUsize,
}

#[derive(Debug)]
struct Watcher {
    seen: Option<Bytes>,
    changed: oneshot::Sender<()>,
}

impl Watches {
    /// Waits for `key` to have another value than `seen`.
    pub(super) fn add(&self, key: &[u8], seen: Option<Bytes>) -> oneshot::Receiver<()> {
        let (changed, receiver) = oneshot::channel();
        let mut by_key = self.lock();
        by_key.entry(key.to_vec()).or_default().push(Watcher { seen, changed });
        self.keys.store(by_key.len(), Ordering::SeqCst);
        receiver
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keys.load(Ordering::SeqCst) == 0
    }

    /// Returns the keys that somebody still waits for.
    pub(super) fn keys(&self) -> Vec<Vec<u8>> {
        let mut by_key = self.lock();
        by_key.retain(|_, watchers| {
            watchers.retain(|watcher| !watcher.changed.is_closed());
            !watchers.is_empty()
        });
        self.keys.store(by_key.len(), Ordering::SeqCst);
        by_key.keys().cloned().collect()
    }

    /// Returns the watched keys that these mutations touch.
    pub(super) fn touched(&self, mutations: &[Mutation]) -> Vec<Vec<u8>> {
        if self.is_empty() {
            return Vec::new();
        }
        let by_key = self.lock();
        let mut out = Vec::new();
        for mutation in mutations {
            match mutation {
                Mutation::Set { key, .. }
                | Mutation::Clear { key }
                | Mutation::Atomic { key, .. }
                | Mutation::StampedValue { key, .. } => {
                    if by_key.contains_key(key) {
                        out.push(key.clone());
                    }
                }
                Mutation::ClearRange { start, end } if start < end => {
                    out.extend(by_key.range(start.clone()..end.clone()).map(|(key, _)| key.clone()));
                }
                // Nobody can have named such a key before it was there.
                Mutation::ClearRange { .. } | Mutation::StampedKey { .. } => {}
            }
        }
        out
    }

    /// Wakes who has seen another value of `key` than this one.
    pub(super) fn now(&self, key: &[u8], value: Option<&[u8]>) {
        let mut by_key = self.lock();
        let Some(watchers) = by_key.get_mut(key) else { return };
        let (woken, waiting) =
            std::mem::take(watchers).into_iter().partition(|watcher| watcher.seen.as_deref() != value);
        *watchers = waiting;
        if watchers.is_empty() {
            by_key.remove(key);
        }
        self.keys.store(by_key.len(), Ordering::SeqCst);
        let woken: Vec<Watcher> = woken;
        for watcher in woken {
            // Whoever stopped waiting needs no waking.
            watcher.changed.send(()).ok();
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Vec<u8>, Vec<Watcher>>> {
        self.by_key.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
