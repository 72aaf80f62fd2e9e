//! Where the events of a segment stand in the log: for each stretch of one commit the distance from the commit before, the first
//! index and how many follow each other.

use aesp_audit::Position;

use crate::varint::{Malformed, Reader, put};

const INDEX_BITS: u32 = 16;

fn number(position: &Position) -> u128 {
    u128::from_be_bytes(*position)
}

/// Packs places in ascending order.
pub(crate) fn pack(places: &[Position]) -> Vec<u8> {
    let mut stretches: Vec<(u128, u128, u128)> = Vec::new();
    for place in places.iter().map(number) {
        let (commit, index) = (place >> INDEX_BITS, place & u128::from(u16::MAX));
        match stretches.last_mut() {
            Some((last, first, count)) if *last == commit && *first + *count == index => *count += 1,
            _ => stretches.push((commit, index, 1)),
        }
    }
    let (mut out, mut before) = (Vec::new(), 0);
    for (commit, first, count) in stretches {
        put(&mut out, commit - before);
        put(&mut out, first);
        put(&mut out, count);
        before = commit;
    }
    out
}

/// Takes apart what [`pack`] made of `count` places.
pub(crate) fn unpack(bytes: &[u8], count: usize) -> Result<Vec<Position>, Malformed> {
    let (mut input, mut out) = (Reader(bytes), Vec::with_capacity(count));
    let mut commit = 0_u128;
    while !input.is_empty() {
        commit =
            commit.checked_add(input.wide()?).filter(|c| c.leading_zeros() >= INDEX_BITS).ok_or(Malformed)?;
        let (first, more): (u16, usize) = (input.number()?, input.number()?);
        if more > count - out.len() {
            return Err(Malformed);
        }
        for index in (0..more).map(|step| usize::from(first) + step) {
            let index = u16::try_from(index).map_err(|_| Malformed)?;
            out.push(((commit << INDEX_BITS) | u128::from(index)).to_be_bytes());
        }
    }
    if out.len() == count { Ok(out) } else { Err(Malformed) }
}

/// Returns the place right behind this one, where an event may or may not stand.
pub(crate) fn next(position: &Position) -> Position {
    number(position).saturating_add(1).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn places_come_back(
            dense in prop::collection::btree_set(0_u128..300_000, 0..500),
            wide in prop::collection::btree_set(any::<u128>(), 0..50),
        ) {
            for places in [dense, wide] {
                let places: Vec<Position> = places.into_iter().map(u128::to_be_bytes).collect();
                let packed = pack(&places);
                prop_assert_eq!(unpack(&packed, places.len()), Ok(places.clone()));
                prop_assert_eq!(unpack(&packed, places.len() + 1), Err(Malformed));
            }
        }

        #[test]
        fn what_strangers_packed_is_refused_or_bounded(bytes: Vec<u8>) {
            prop_assert!(unpack(&bytes, 100).is_ok_and(|places| places.len() == 100) || unpack(&bytes, 100).is_err());
        }
    }

    #[test]
    fn a_batch_takes_few_bytes() {
        let places: Vec<Position> = (0..4_096_u128).map(|n| ((1_u128 << 100) | n).to_be_bytes()).collect();
        assert!(pack(&places).len() < 30);
    }
}
