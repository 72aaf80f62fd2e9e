use std::fmt::Debug;

use proptest::prelude::*;

use super::*;

/// The bytes order as the values do, and come back as what they were.
fn orders<K: RowKey + Ord + Debug>(a: &K, b: &K) -> Result<(), TestCaseError> {
    prop_assert_eq!(a.cmp(b), encode(a).cmp(&encode(b)));
    prop_assert_eq!(&K::decode(&encode(a)).unwrap(), a);
    Ok(())
}

fn texts() -> impl Strategy<Value = String> {
    // Zeros and their neighbours, where escaping matters.
    prop::collection::vec(prop_oneof![Just('\0'), Just('\u{1}'), Just('a'), any::<char>()], 0..6)
        .prop_map(String::from_iter)
}

proptest! {
    #[test]
    fn texts_order(a in texts(), b in texts(), x: u8, y: u8) {
        orders(&a, &b)?;
        orders(&(a, x), &(b, y))?;
    }

    #[test]
    fn numbers_order(a: (u8, u16), b: (u8, u16), c: (i64, u32, u64), d: (i64, u32, u64)) {
        orders(&a, &b)?;
        orders(&(Timestamp(c.0), c.1, c.2), &(Timestamp(d.0), d.1, d.2))?;
        orders(&(Revision(c.2), Epoch(c.2)), &(Revision(d.2), Epoch(d.2)))?;
        orders(&ShardId(a.1), &ShardId(b.1))?;
    }

    #[test]
    fn any_bytes_decode_to_themselves_or_not_at_all(bytes in prop::collection::vec(prop_oneof![Just(0), Just(1), Just(255), any::<u8>()], 0..40)) {
        if let Ok(key) = <(String, u16)>::decode(&bytes) {
            prop_assert_eq!(encode(&key), bytes.clone());
        }
        if let Ok(key) = <([u8; 4], String, Timestamp)>::decode(&bytes) {
            prop_assert_eq!(encode(&key), bytes);
        }
    }
}

#[test]
fn keys_keep_their_bytes() {
    assert_eq!(encode(&"a\0b".to_owned()), [b'a', 0, 0xFF, b'b', 0, 1]);
    assert_eq!(encode(&Timestamp(-1)), [0x7F, 255, 255, 255, 255, 255, 255, 255]);
    assert_eq!(encode(&Timestamp(1)), [0x80, 0, 0, 0, 0, 0, 0, 1]);
    assert_eq!(encode(&(1_u8, 2_u16, 3_u32)), [1, 0, 2, 0, 0, 0, 3]);
    assert!(encode(&()).is_empty());
}

#[test]
fn broken_keys_are_named() {
    assert_eq!(<u32>::decode(&[1, 2]), Err(KeyError::Truncated));
    assert_eq!(<u8>::decode(&[1, 2]), Err(KeyError::Trailing));
    assert_eq!(<String>::decode(b"a"), Err(KeyError::Truncated));
    assert_eq!(<String>::decode(&[b'a', 0, 7]), Err(KeyError::BadEscape));
    assert_eq!(<String>::decode(&[0x80, 0, 1]), Err(KeyError::BadValue));
}
