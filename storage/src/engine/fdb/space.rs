use bytes::Bytes;

use crate::Error;

/// The part of the cluster's keys that is ours: all that start with a prefix and a zero.
///
/// A store's own keys start with a tenant's random id and may lie anywhere, also where FoundationDB keeps its own (`\xff`).
#[derive(Clone, Debug)]
pub(super) struct Space(Vec<u8>);

impl Space {
    /// Takes the keys under `prefix`. No two prefixes share a key.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if it is not 1 to 32 printable ASCII characters.
    pub(super) fn new(prefix: &str) -> Result<Self, Error> {
        let ordinary = (1..=32).contains(&prefix.len()) && prefix.bytes().all(|byte| byte.is_ascii_graphic());
        if ordinary {
            return Ok(Self([prefix.as_bytes(), &[0]].concat()));
        }
        Err(Error::unavailable(format!(
            "store.fdb.prefix is {prefix:?}; it must be 1 to 32 printable ASCII characters"
        )))
    }

    /// Returns the cluster's key for one of ours.
    pub(super) fn key(&self, key: &[u8]) -> Vec<u8> {
        [&self.0, key].concat()
    }

    /// Returns our key for one of the cluster's, which lies in this space.
    pub(super) fn strip(&self, key: &[u8]) -> Bytes {
        Bytes::copy_from_slice(key.get(self.0.len()..).unwrap_or_default())
    }

    /// Returns `prefix | room for the stamp | suffix` with the place of the stamp after it, as an operand of
    /// `SET_VERSIONSTAMPED_KEY`.
    pub(super) fn stamped_key(&self, prefix: &[u8], suffix: &[u8]) -> Vec<u8> {
        with_stamp(&self.key(prefix), suffix)
    }
}

/// Returns `prefix | room for the stamp | suffix` with the place of the stamp after it, as an operand of
/// `SET_VERSIONSTAMPED_VALUE`.
///
/// Source: FoundationDB's API reference, atomic operations; four bytes of offset since API version 520.
pub(super) fn with_stamp(prefix: &[u8], suffix: &[u8]) -> Vec<u8> {
    let place = u32::try_from(prefix.len()).expect("keys and values are below their limits");
    [prefix, &[0; 10], suffix, &place.to_le_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_lie_below_the_prefix_and_come_back() {
        let space = Space::new("aesp").unwrap();
        assert_eq!(space.key(b"\xff\x01"), b"aesp\0\xff\x01");
        assert_eq!(space.strip(b"aesp\0\xff\x01"), b"\xff\x01".as_slice());
    }

    #[test]
    fn order_is_kept_and_spaces_do_not_meet() {
        let (one, two) = (Space::new("aesp").unwrap(), Space::new("aesp2").unwrap());
        assert!(one.key(b"a") < one.key(b"a\0") && one.key(b"a\0") < one.key(b"b"));
        assert!(one.key(&[u8::MAX; 600]) < two.key(b""));
    }

    #[test]
    fn the_place_of_a_stamp_is_told() {
        let space = Space::new("s").unwrap();
        assert_eq!(space.stamped_key(b"ab", b"z"), b"s\0ab\0\0\0\0\0\0\0\0\0\0z\x04\0\0\0");
        assert_eq!(with_stamp(b"", b""), [0; 14]);
    }

    #[test]
    fn prefixes_are_checked() {
        for prefix in ["", "with space", "nul\0", "é", "x23456789012345678901234567890123"] {
            assert!(Space::new(prefix).is_err(), "{prefix}");
        }
    }
}
