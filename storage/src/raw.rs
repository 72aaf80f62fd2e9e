use bytes::Bytes;

use crate::{
    AtomicOp, Error, Observed, Range, Transaction, key, limits, overlay::Lookup, transaction::State,
};

impl Transaction {
    /// Reads the value of a raw key.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::Timeout`], [`Error::Unreadable`], or that the engine could not read.
    pub async fn get_raw(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        limits::key(key)?;
        self.check_time()?;
        {
            let state = self.state();
            match (state.overlay.lookup(key)?, state.points.get(key)) {
                (Lookup::Known(value), _) => return Ok(value),
                (pending, Some(below)) => return Ok(pending.over(below.clone())),
                (_, None) => {}
            }
        }
        let snapshot = self.snapshot().await?;
        let below = snapshot.get(key).await.map_err(|error| self.remember(error))?;
        let mut state = self.state();
        self.charge(&mut state, key.len())?;
        state.points.insert(key.to_vec(), below.clone());
        // Looked up again: another branch of the closure may have written in between.
        Ok(state.overlay.lookup(key)?.over(below))
    }

    /// Reads the rows of a raw range, in order, or from the end backwards.
    ///
    /// # Errors
    /// As [`get_raw`](Self::get_raw).
    pub async fn range_raw(&self, range: Range) -> Result<Vec<(Bytes, Bytes)>, Error> {
        self.check_time()?;
        self.state().overlay.check_readable(&range.start, &range.end)?;
        let (mut left, mut out) = (range, Vec::new());
        while !left.is_empty() {
            let snapshot = self.snapshot().await?;
            let below = snapshot.range(&left).await.map_err(|error| self.remember(error))?;
            let mut state = self.state();
            self.charge(&mut state, left.start.len() + left.end.len())?;
            let part = covered(&left, &below);
            let rows = merge(&state, &part, &below)?;
            if !left.snapshot {
                state.ranges.push(seen(&part, &rows, below));
            }
            left.limit -= rows.len();
            out.extend(rows);
            if left.reverse {
                left.end = part.start;
            } else {
                left.start = part.end;
            }
        }
        Ok(out)
    }

    /// Sets a raw value, unsealed.
    ///
    /// # Errors
    /// [`Error::TooLarge`] or [`Error::Timeout`].
    pub fn set_raw(&self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        self.set(key.to_vec(), Bytes::copy_from_slice(value))
    }

    pub(crate) fn set(&self, key: Vec<u8>, value: Bytes) -> Result<(), Error> {
        limits::value(&value)?;
        self.write(&[&key], value.len(), |state| state.overlay.set(key.clone(), value))
    }

    /// Removes a raw key.
    ///
    /// # Errors
    /// As [`set_raw`](Self::set_raw).
    pub fn clear_raw(&self, key: &[u8]) -> Result<(), Error> {
        self.write(&[key], 0, |state| state.overlay.clear(key.to_vec()))
    }

    /// Removes every raw key from `start` up to but not including `end`.
    ///
    /// # Errors
    /// As [`set_raw`](Self::set_raw).
    pub fn clear_range_raw(&self, start: &[u8], end: &[u8]) -> Result<(), Error> {
        self.write(&[], start.len() + end.len(), |state| {
            state.overlay.clear_range(start.to_vec(), end.to_vec())
        })
    }

    /// Adds to the little-endian 64-bit number at a raw key, without reading it.
    ///
    /// # Errors
    /// As [`set_raw`](Self::set_raw).
    pub fn atomic_add(&self, key: &[u8], delta: i64) -> Result<(), Error> {
        self.atomic(key, AtomicOp::Add(delta))
    }

    /// Raises the unsigned little-endian 64-bit number at a raw key to at least `least`, without reading it.
    ///
    /// # Errors
    /// As [`set_raw`](Self::set_raw).
    pub fn atomic_max(&self, key: &[u8], least: u64) -> Result<(), Error> {
        self.atomic(key, AtomicOp::Max(least))
    }

    /// Sets `prefix | stamp | suffix`, where the 10 bytes of the stamp grow with every commit. Keys of one transaction
    /// share the stamp: tell them apart by the suffix. Nothing under `prefix` can be read in this transaction any more.
    ///
    /// # Errors
    /// As [`set_raw`](Self::set_raw).
    pub fn set_versionstamped_key(&self, prefix: &[u8], suffix: &[u8], value: &[u8]) -> Result<(), Error> {
        limits::value(value)?;
        let length = prefix.len() + suffix.len() + STAMP_BYTES;
        limits::check("key", length, limits::MAX_KEY_BYTES)?;
        self.write(&[], length + value.len(), |state| {
            state.overlay.stamp_key(prefix, suffix.to_vec(), Bytes::copy_from_slice(value));
        })
    }

    /// Sets `key` to `prefix | stamp | suffix`. It can't be read in this transaction any more.
    ///
    /// # Errors
    /// As [`set_raw`](Self::set_raw).
    pub fn set_versionstamped_value(&self, key: &[u8], prefix: &[u8], suffix: &[u8]) -> Result<(), Error> {
        let length = prefix.len() + suffix.len() + STAMP_BYTES;
        limits::check("value", length, limits::MAX_VALUE_BYTES)?;
        self.write(&[key], length, |state| {
            state.overlay.stamp_value(key.to_vec(), prefix.to_vec(), suffix.to_vec());
        })
    }

    fn atomic(&self, key: &[u8], op: AtomicOp) -> Result<(), Error> {
        // A stamped value is refused: only the commit knows what the operation would start from.
        self.state().overlay.lookup(key)?;
        self.write(&[key], VALUE_OF_ATOMIC_BYTES, |state| state.overlay.atomic(key.to_vec(), op))
    }

    fn write(&self, keys: &[&[u8]], bytes: usize, change: impl FnOnce(&mut State)) -> Result<(), Error> {
        for key in keys {
            limits::key(key)?;
        }
        self.check_time()?;
        let mut state = self.state();
        self.charge(&mut state, bytes + keys.iter().map(|key| key.len()).sum::<usize>())?;
        change(&mut state);
        Ok(())
    }
}

const STAMP_BYTES: usize = 10;
const VALUE_OF_ATOMIC_BYTES: usize = 8;

/// Returns the part of `range` that the rows of the snapshot account for: all of it if there were fewer than asked for.
fn covered(range: &Range, below: &[(Bytes, Bytes)]) -> Range {
    let mut part = range.clone();
    if below.len() >= range.limit
        && let Some((last, _)) = below.last()
    {
        if range.reverse {
            part.start = last.to_vec();
        } else {
            part.end = key::after(last);
        }
    }
    part
}

/// Returns the rows of `part` as the transaction sees them: its own writes over the snapshot.
fn merge(state: &State, part: &Range, below: &[(Bytes, Bytes)]) -> Result<Vec<(Bytes, Bytes)>, Error> {
    let mut own = state.overlay.keys_in(part).into_iter().map(Bytes::from).collect::<Vec<_>>();
    if part.reverse {
        own.reverse();
    }
    let before = |a: &Bytes, b: &Bytes| if part.reverse { a > b } else { a < b };
    let (mut own, mut below) = (own.into_iter().peekable(), below.iter().peekable());
    let mut out = Vec::new();
    while out.len() < part.limit {
        let take_below = match (own.peek(), below.peek()) {
            (None, None) => break,
            (None, Some(_)) => true,
            (Some(_), None) => false,
            (Some(mine), Some((theirs, _))) => {
                if mine == theirs {
                    own.next();
                    true
                } else {
                    before(theirs, mine)
                }
            }
        };
        let (key, value) = if take_below {
            let Some((key, value)) = below.next() else { break };
            (key.clone(), Some(value.clone()))
        } else {
            let Some(key) = own.next() else { break };
            (key, None)
        };
        if let Some(value) = state.overlay.lookup(&key)?.over(value) {
            out.push((key, value));
        }
    }
    Ok(out)
}

/// Returns what was seen of `part`: no more of it than the rows that were returned, if they reached the limit.
fn seen(part: &Range, rows: &[(Bytes, Bytes)], mut below: Vec<(Bytes, Bytes)>) -> Observed {
    let mut part = part.clone();
    if rows.len() >= part.limit
        && let Some((last, _)) = rows.last()
    {
        if part.reverse {
            part.start = last.to_vec();
        } else {
            part.end = key::after(last);
        }
        below.retain(|(key, _)| part.contains(key));
    }
    if part.reverse {
        below.reverse();
    }
    Observed::Range { start: part.start, end: part.end, rows: below }
}
