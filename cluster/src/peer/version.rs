use std::ops::RangeInclusive;

/// Which protocol each release speaks best. Append only. A release speaks its own and, for rolling upgrades, at least that
/// of the release before it. What came before the first release stands as 0.0.
const RELEASES: &[(&str, u32)] = &[("0.0", 1), ("0.1", 2)];

/// The oldest protocol that this build still speaks.
const OLDEST: u32 = 1;

/// From this protocol on both sides prove that they use the same store: by the [`birth`](super::Peer::birth) in their rows.
pub(super) const PROVES_STORE: u32 = 2;

/// Returns the protocols that a node speaks which is held down to `newest`; 0 holds down nothing. Those that this build does not
/// speak are no choice.
#[must_use]
pub fn held_down(newest: u32) -> RangeInclusive<u32> {
    let all = spoken();
    if newest == 0 { all } else { *all.start()..=newest.clamp(*all.start(), *all.end()) }
}

/// Returns the protocols that this build speaks.
#[must_use]
pub fn spoken() -> RangeInclusive<u32> {
    OLDEST..=RELEASES.last().map_or(OLDEST, |(_, newest)| *newest)
}

/// Returns the newest protocol that both speak.
pub(super) fn negotiate(own: &RangeInclusive<u32>, other: &RangeInclusive<u32>) -> Option<u32> {
    let newest = *own.end().min(other.end());
    (newest >= *own.start() && newest >= *other.start()).then_some(newest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_common_protocol_is_spoken() {
        assert_eq!(negotiate(&(1..=1), &(1..=2)), Some(1));
        assert_eq!(negotiate(&(1..=3), &(2..=2)), Some(2));
        assert_eq!(negotiate(&(3..=4), &(1..=2)), None);
        assert_eq!(negotiate(&(1..=2), &(3..=4)), None);
    }

    #[test]
    fn a_node_can_be_held_down_within_what_it_speaks() {
        assert_eq!(held_down(0), spoken());
        assert_eq!(held_down(1), 1..=1);
        assert_eq!(held_down(99), spoken());
        assert!(spoken().contains(&PROVES_STORE));
    }

    #[test]
    fn this_build_speaks_its_own_protocol_and_that_of_the_release_before() {
        assert!(RELEASES.is_sorted_by(|a, b| a.1 <= b.1));
        let last_two = RELEASES.iter().rev().take(2);
        assert!(last_two.clone().all(|(_, protocol)| spoken().contains(protocol)));
        let version = env!("CARGO_PKG_VERSION");
        let (newest, _) = RELEASES.last().unwrap();
        assert!(version.starts_with(&format!("{newest}.")), "{version} is not in the table");
    }
}
