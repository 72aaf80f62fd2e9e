use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use bytes::Bytes;

use crate::{
    AtomicOp, Error, Mutation, Range,
    key::{after, after_prefix},
};

/// What a transaction has written so far, over the snapshot that it reads.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    // INVARIANT: the cleared ranges don't touch each other.
    cleared: BTreeMap<Vec<u8>, Vec<u8>>,
    entries: BTreeMap<Vec<u8>, Entry>,
    stamped: Vec<StampedKey>,
    unreadable: BTreeSet<Vec<u8>>,
}

#[derive(Debug)]
enum Entry {
    Set(Bytes),
    Clear,
    /// Over a value that nobody has read.
    Atomic(Vec<AtomicOp>),
    StampedValue {
        prefix: Vec<u8>,
        suffix: Vec<u8>,
    },
}

#[derive(Debug)]
struct StampedKey {
    prefix: Vec<u8>,
    suffix: Vec<u8>,
    value: Bytes,
}

/// What is known about a key without reading.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// Nothing.
    Below,
    /// Its value.
    Known(Option<Bytes>),
    /// What is to be done to the value below.
    Pending(Vec<AtomicOp>),
}

impl Lookup {
    /// Returns the value, where `below` is that of the snapshot.
    pub(crate) fn over(self, below: Option<Bytes>) -> Option<Bytes> {
        match self {
            Self::Below => below,
            Self::Known(value) => value,
            Self::Pending(ops) => apply(&ops, below),
        }
    }
}

fn apply(ops: &[AtomicOp], below: Option<Bytes>) -> Option<Bytes> {
    ops.iter().fold(below, |value, op| Some(Bytes::copy_from_slice(&op.apply(value.as_deref()))))
}

impl Overlay {
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.cleared.is_empty() && self.stamped.is_empty()
    }

    /// Tells whether anything but removals is written.
    pub(crate) fn only_removes(&self) -> bool {
        self.stamped.is_empty() && self.entries.values().all(|entry| matches!(entry, Entry::Clear))
    }

    /// # Errors
    /// [`Error::Unreadable`] if the key may be one that only the commit will know.
    pub(crate) fn lookup(&self, key: &[u8]) -> Result<Lookup, Error> {
        if !self.unreadable.is_empty() {
            self.check_readable(key, &after(key))?;
        }
        match self.entries.get(key) {
            Some(Entry::Set(value)) => Ok(Lookup::Known(Some(value.clone()))),
            Some(Entry::Clear) => Ok(Lookup::Known(None)),
            Some(Entry::Atomic(ops)) => Ok(Lookup::Pending(ops.clone())),
            Some(Entry::StampedValue { .. }) => Err(Error::Unreadable),
            None if self.is_cleared(key) => Ok(Lookup::Known(None)),
            None => Ok(Lookup::Below),
        }
    }

    /// Returns the keys within a range that have an entry of their own.
    pub(crate) fn keys_in(&self, range: &Range) -> Vec<Vec<u8>> {
        if range.start >= range.end {
            return Vec::new();
        }
        let bounds = (Bound::Included(range.start.as_slice()), Bound::Excluded(range.end.as_slice()));
        self.entries.range::<[u8], _>(bounds).map(|(key, _)| key.clone()).collect()
    }

    /// # Errors
    /// [`Error::Unreadable`] if a versionstamped key may lie between these two.
    pub(crate) fn check_readable(&self, start: &[u8], end: &[u8]) -> Result<(), Error> {
        let hidden = self.unreadable.iter().any(|prefix| {
            let first = [prefix.as_slice(), &[0; 10]].concat();
            first.as_slice() < end && start < after_prefix(prefix).as_slice()
        });
        if hidden { Err(Error::Unreadable) } else { Ok(()) }
    }

    pub(crate) fn set(&mut self, key: Vec<u8>, value: Bytes) {
        self.entries.insert(key, Entry::Set(value));
    }

    pub(crate) fn clear(&mut self, key: Vec<u8>) {
        self.entries.insert(key, Entry::Clear);
    }

    pub(crate) fn atomic(&mut self, key: Vec<u8>, op: AtomicOp) {
        let cleared = self.is_cleared(&key);
        let entry = self
            .entries
            .entry(key)
            .or_insert_with(|| if cleared { Entry::Clear } else { Entry::Atomic(Vec::new()) });
        let known = match entry {
            Entry::Atomic(ops) => return ops.push(op),
            Entry::Set(value) => Some(value.clone()),
            // The look before has refused a stamped value.
            Entry::Clear | Entry::StampedValue { .. } => None,
        };
        *entry = Entry::Set(Bytes::copy_from_slice(&op.apply(known.as_deref())));
    }

    pub(crate) fn clear_range(&mut self, start: Vec<u8>, end: Vec<u8>) {
        if start >= end {
            return;
        }
        let inside = self.keys_in(&Range::new(start.as_slice(), end.as_slice()));
        for key in inside {
            self.entries.remove(&key);
        }
        self.stamped.retain(|stamped| stamped.prefix < start || after_prefix(&stamped.prefix) > end);
        self.merge_cleared(start, end);
    }

    fn merge_cleared(&mut self, mut start: Vec<u8>, mut end: Vec<u8>) {
        let before = self.cleared.range(..=start.clone()).next_back();
        if let Some((first, last)) = before
            && *last >= start
        {
            start = first.clone();
            end = end.max(last.clone());
        }
        let covered: Vec<_> = self
            .cleared
            .range(start.clone()..=end.clone())
            .map(|(first, last)| (first.clone(), last.clone()))
            .collect();
        for (first, last) in covered {
            self.cleared.remove(&first);
            end = end.max(last);
        }
        self.cleared.insert(start, end);
    }

    fn is_cleared(&self, key: &[u8]) -> bool {
        let bounds = (Bound::Unbounded, Bound::Included(key));
        self.cleared.range::<[u8], _>(bounds).next_back().is_some_and(|(_, end)| key < end.as_slice())
    }

    pub(crate) fn stamp_key(&mut self, prefix: Vec<u8>, suffix: Vec<u8>, value: Bytes) {
        if !self.unreadable.contains(&prefix) {
            self.unreadable.insert(prefix.clone());
        }
        self.stamped.push(StampedKey { prefix, suffix, value });
    }

    pub(crate) fn stamp_value(&mut self, key: Vec<u8>, prefix: Vec<u8>, suffix: Vec<u8>) {
        self.entries.insert(key, Entry::StampedValue { prefix, suffix });
    }

    /// Returns the writes, in an order in which they mean the same.
    pub(crate) fn into_mutations(self) -> Vec<Mutation> {
        let cleared = self.cleared.into_iter().map(|(start, end)| Mutation::ClearRange { start, end });
        let mut out: Vec<_> = cleared.collect();
        for (key, entry) in self.entries {
            match entry {
                Entry::Set(value) => out.push(Mutation::Set { key, value }),
                Entry::Clear => out.push(Mutation::Clear { key }),
                Entry::Atomic(ops) => {
                    out.extend(ops.into_iter().map(|op| Mutation::Atomic { key: key.clone(), op }));
                }
                Entry::StampedValue { prefix, suffix } => {
                    out.push(Mutation::StampedValue { key, prefix, suffix });
                }
            }
        }
        out.extend(
            self.stamped.into_iter().map(|StampedKey { prefix, suffix, value }| Mutation::StampedKey {
                prefix,
                suffix,
                value,
            }),
        );
        out
    }
}
