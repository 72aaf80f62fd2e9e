use crate::varint::{Malformed, Reader, put};

/// The most events of a segment.
pub(crate) const SEGMENT_EVENTS: usize = 4_096;
const WORDS: usize = SEGMENT_EVENTS / 64;

/// A set of events of one segment, by their number in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ordinals([u64; WORDS]);

impl Ordinals {
    pub(crate) const NONE: Self = Self([0; WORDS]);
    pub(crate) const ALL: Self = Self([u64::MAX; WORDS]);

    pub(crate) fn insert(&mut self, ordinal: usize) {
        self.0[ordinal / 64] |= 1 << (ordinal % 64);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    pub(crate) fn keep(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(word, other)| *word &= other);
    }

    /// Returns the numbers in ascending order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = usize> {
        self.0.into_iter().enumerate().flat_map(|(index, mut word)| {
            std::iter::from_fn(move || {
                let bit = word.trailing_zeros() as usize;
                (word != 0).then(|| {
                    word &= word - 1;
                    index * 64 + bit
                })
            })
        })
    }
}

/// Appends ascending numbers as runs: how many runs, then of each the gap before it and its length less one.
pub(crate) fn pack(out: &mut Vec<u8>, ordinals: &[u16]) {
    let mut runs: Vec<(u16, u16)> = Vec::new();
    for &ordinal in ordinals {
        match runs.last_mut() {
            Some((first, more)) if *first + *more + 1 == ordinal => *more += 1,
            _ => runs.push((ordinal, 0)),
        }
    }
    put(out, runs.len() as u128);
    let mut next = 0;
    for (first, more) in runs {
        put(out, u128::from(first - next));
        put(out, more.into());
        next = first + more + 1;
    }
}

/// Takes what [`pack`] appended, and adds it to `into` if that is given.
pub(crate) fn unpack(input: &mut Reader<'_>, mut into: Option<&mut Ordinals>) -> Result<(), Malformed> {
    let runs: usize = input.number()?;
    let mut next = 0_usize;
    for _ in 0..runs {
        let (gap, more): (u16, u16) = (input.number()?, input.number()?);
        let first = next + usize::from(gap);
        next = first + usize::from(more) + 1;
        if next > SEGMENT_EVENTS {
            return Err(Malformed);
        }
        if let Some(into) = into.as_deref_mut() {
            (first..next).for_each(|ordinal| into.insert(ordinal));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn sets_come_back_and_combine(
            a in prop::collection::btree_set(0_u16..4_096, 0..200),
            b in prop::collection::btree_set(0_u16..4_096, 0..200),
        ) {
            let set = |of: &BTreeSet<u16>| {
                let ordinals: Vec<u16> = of.iter().copied().collect();
                let mut packed = Vec::new();
                pack(&mut packed, &ordinals);
                let (mut reader, mut out) = (Reader(&packed), Ordinals::NONE);
                unpack(&mut reader, Some(&mut out)).unwrap();
                assert!(reader.is_empty());
                out
            };
            let list = |of: &Ordinals| of.iter().collect::<Vec<_>>();
            let numbers = |of: BTreeSet<u16>| of.into_iter().map(usize::from).collect::<Vec<_>>();
            let mut both = set(&a);
            both.keep(&set(&b));
            prop_assert_eq!(list(&set(&a)), numbers(a.clone()));
            prop_assert_eq!(list(&both), numbers(&a & &b));
            prop_assert_eq!(both.is_empty(), a.is_disjoint(&b));
        }

        #[test]
        fn what_strangers_packed_is_refused_or_in_bounds(bytes: Vec<u8>) {
            let mut out = Ordinals::NONE;
            let _ = unpack(&mut Reader(&bytes), Some(&mut out));
            prop_assert!(out.iter().all(|ordinal| ordinal < SEGMENT_EVENTS));
        }
    }
}
