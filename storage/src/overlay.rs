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
    /// By what comes before the stamp, so that a batch of many events stays linear in their number.
    stamped: BTreeMap<Vec<u8>, Vec<Stamped>>,
    unreadable: Hidden,
}

/// What comes before a stamp: keys that only the commit will know lie behind these.
#[derive(Debug, Default)]
struct Hidden {
    prefixes: BTreeSet<Vec<u8>>,
    lengths: BTreeSet<usize>,
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

/// A key that the commit will stamp: what comes after the stamp, and its value.
#[derive(Debug)]
struct Stamped {
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
        if !self.unreadable.prefixes.is_empty() {
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
        if self.unreadable.meets(start, end) { Err(Error::Unreadable) } else { Ok(()) }
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
        let stamped = self.stamped.range(start.clone()..end.clone()).map(|(prefix, _)| prefix);
        let covered: Vec<_> = stamped.filter(|prefix| after_prefix(prefix) <= end).cloned().collect();
        for prefix in covered {
            self.stamped.remove(&prefix);
        }
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

    pub(crate) fn stamp_key(&mut self, prefix: &[u8], suffix: Vec<u8>, value: Bytes) {
        let stamped = Stamped { suffix, value };
        if let Some(before) = self.stamped.get_mut(prefix) {
            return before.push(stamped);
        }
        self.unreadable.add(prefix);
        self.stamped.insert(prefix.to_vec(), vec![stamped]);
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
        for (prefix, keys) in self.stamped {
            let stamp =
                |Stamped { suffix, value }| Mutation::StampedKey { prefix: prefix.clone(), suffix, value };
            out.extend(keys.into_iter().map(stamp));
        }
        out
    }
}

impl Hidden {
    fn add(&mut self, prefix: &[u8]) {
        self.lengths.insert(prefix.len());
        self.prefixes.insert(prefix.to_vec());
    }

    /// Tells whether a stamped key may lie from `start` up to but not including `end`.
    fn meets(&self, start: &[u8], end: &[u8]) -> bool {
        let may_lie_within = |prefix: &[u8]| {
            let first = [prefix, &[0; 10]].concat();
            first.as_slice() < end && start < after_prefix(prefix).as_slice()
        };
        if start >= end {
            return false;
        }
        let bounds = (Bound::Included(start), Bound::Excluded(end));
        // A smaller prefix reaches into the range only if the range starts within it.
        self.prefixes.range::<[u8], _>(bounds).any(|prefix| may_lie_within(prefix))
            || self
                .lengths
                .iter()
                .take_while(|length| **length <= start.len())
                .any(|length| self.prefixes.contains(&start[..*length]) && may_lie_within(&start[..*length]))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn short() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(0..3_u8, 0..4)
    }

    proptest! {
        #[test]
        fn a_stamped_key_hides_just_what_it_may_become(
            prefixes in prop::collection::vec(short(), 0..4),
            start in short(),
            end in short(),
        ) {
            let mut hidden = Hidden::default();
            prefixes.iter().for_each(|prefix| hidden.add(prefix));
            let each = prefixes.iter().any(|prefix| {
                let first = [prefix.as_slice(), &[0; 10]].concat();
                start < end && first < end && start < after_prefix(prefix)
            });
            prop_assert_eq!(hidden.meets(&start, &end), each);
        }

        #[test]
        fn a_cleared_range_takes_the_stamped_keys_that_lie_in_it(
            prefixes in prop::collection::vec(short(), 1..5),
            start in short(),
            end in short(),
        ) {
            let mut overlay = Overlay::default();
            for (number, prefix) in (0_u8..).zip(&prefixes) {
                overlay.stamp_key(prefix, vec![number], Bytes::new());
            }
            overlay.clear_range(start.clone(), end.clone());
            let stamped = |mutation| match mutation {
                Mutation::StampedKey { prefix, suffix, .. } => Some((prefix, suffix)),
                _ => None,
            };
            let mut left: Vec<_> = overlay.into_mutations().into_iter().filter_map(stamped).collect();
            left.sort();
            let stays = |prefix: &Vec<u8>| start >= end || *prefix < start || after_prefix(prefix) > end;
            let mut expected: Vec<_> = (0_u8..)
                .zip(&prefixes)
                .filter(|(_, prefix)| stays(prefix))
                .map(|(number, prefix)| (prefix.clone(), vec![number]))
                .collect();
            expected.sort();
            prop_assert_eq!(left, expected);
        }
    }
}
