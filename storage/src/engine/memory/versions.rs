use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
};

use bytes::Bytes;

use crate::{
    Range,
    engine::{Commit, Mutation, Observed, Versionstamp, stamped},
};

/// Every value with the versions that a snapshot may still ask for.
#[derive(Debug, Default)]
pub(super) struct Versions {
    // INVARIANT: the history of a key is not empty, and its versions grow.
    rows: BTreeMap<Bytes, Vec<(u64, Option<Bytes>)>>,
    current: u64,
    open: BTreeMap<u64, usize>,
    /// What was written when, so that history is forgotten without a search.
    written: VecDeque<(u64, Bytes)>,
}

impl Versions {
    /// Opens the current version for reading.
    pub(super) fn open(&mut self) -> u64 {
        *self.open.entry(self.current).or_default() += 1;
        self.current
    }

    /// Closes a version; what only it could see is forgotten.
    pub(super) fn close(&mut self, version: u64) {
        if let Some(count) = self.open.get_mut(&version) {
            *count -= 1;
            if *count == 0 {
                self.open.remove(&version);
            }
        }
        self.forget();
    }

    /// Starts the next version and returns it.
    pub(super) fn next(&mut self) -> u64 {
        self.current += 1;
        self.current
    }

    pub(super) fn latest(&self, key: &[u8]) -> Option<Bytes> {
        self.get(key, self.current)
    }

    pub(super) fn get(&self, key: &[u8], version: u64) -> Option<Bytes> {
        at(self.rows.get(key)?, version)
    }

    pub(super) fn range(&self, range: &Range, version: u64) -> Vec<(Bytes, Bytes)> {
        if range.is_empty() {
            return Vec::new();
        }
        let rows = self
            .rows
            .range::<[u8], _>(between(&range.start, &range.end))
            .filter_map(|(key, history)| Some((key.clone(), at(history, version)?)));
        rows.collect_limited(range)
    }

    /// Tells whether anything that was observed has been written since.
    pub(super) fn conflicts(&self, commit: &Commit) -> bool {
        let version = commit.snapshot.as_ref().map(|snapshot| snapshot.version());
        let newer =
            |history: &[(u64, Option<Bytes>)]| history.last().is_some_and(|(at, _)| Some(*at) > version);
        commit.observed.iter().any(|observed| match observed {
            // Without a snapshot (a request id is known to be absent without a look) only the value can tell.
            Observed::Point { key, value } if version.is_none() => self.latest(key) != *value,
            Observed::Point { key, .. } => {
                self.rows.get(key.as_slice()).is_some_and(|history| newer(history))
            }
            Observed::Range { start, end, .. } => {
                start < end
                    && self.rows.range::<[u8], _>(between(start, end)).any(|(_, history)| newer(history))
            }
        })
    }

    /// Writes at the current version.
    pub(super) fn apply(&mut self, mutations: &[Mutation], stamp: &Versionstamp) {
        for mutation in mutations {
            match mutation {
                Mutation::Set { key, value } => self.write(key.clone().into(), Some(value.clone())),
                Mutation::Clear { key } => self.write(key.clone().into(), None),
                Mutation::ClearRange { start, end } => {
                    let range = Range::new(start.as_slice(), end.as_slice());
                    for (key, _) in self.range(&range, self.current) {
                        self.write(key, None);
                    }
                }
                Mutation::Atomic { key, op } => {
                    let value = op.apply(self.latest(key).as_deref());
                    self.write(key.clone().into(), Some(Bytes::copy_from_slice(&value)));
                }
                Mutation::StampedKey { prefix, suffix, value } => {
                    self.write(stamped(prefix, stamp, suffix).into(), Some(value.clone()));
                }
                Mutation::StampedValue { key, prefix, suffix } => {
                    self.write(key.clone().into(), Some(stamped(prefix, stamp, suffix).into()));
                }
            }
        }
        self.forget();
    }

    fn write(&mut self, key: Bytes, value: Option<Bytes>) {
        let history = self.rows.entry(key.clone()).or_default();
        match history.last_mut() {
            Some((at, last)) if *at == self.current => *last = value,
            _ => {
                history.push((self.current, value));
                self.written.push_back((self.current, key));
            }
        }
    }

    /// Drops what no open version can see any more.
    fn forget(&mut self) {
        let oldest = self.open.keys().next().copied().unwrap_or(self.current);
        while let Some((_, key)) = self.written.pop_front_if(|(version, _)| *version <= oldest) {
            let Some(history) = self.rows.get_mut(&key) else { continue };
            let hidden = history.iter().take_while(|(at, _)| *at <= oldest).count().saturating_sub(1);
            history.drain(..hidden);
            if matches!(history.as_slice(), [(at, None)] if *at <= oldest) {
                self.rows.remove(&key);
            }
        }
    }
}

fn between<'a>(start: &'a [u8], end: &'a [u8]) -> (Bound<&'a [u8]>, Bound<&'a [u8]>) {
    (Bound::Included(start), Bound::Excluded(end))
}

fn at(history: &[(u64, Option<Bytes>)], version: u64) -> Option<Bytes> {
    history.iter().rev().find(|(at, _)| *at <= version)?.1.clone()
}

/// Takes the first or last rows of a range.
trait CollectLimited: DoubleEndedIterator<Item = (Bytes, Bytes)> + Sized {
    fn collect_limited(self, range: &Range) -> Vec<(Bytes, Bytes)> {
        if range.reverse { self.rev().take(range.limit).collect() } else { self.take(range.limit).collect() }
    }
}

impl<I: DoubleEndedIterator<Item = (Bytes, Bytes)>> CollectLimited for I {}
