//! What `make fuzz` feeds with bytes that nobody chose.

use aesp_proto::{TenantId, Timestamp};

use crate::{RowKey, encode};

/// Reads the bytes as keys of every form.
///
/// # Panics
/// If what was read is not written back as it was, or sorts otherwise than its bytes.
pub fn row_key(bytes: &[u8]) {
    round_trip::<()>(bytes);
    round_trip::<u8>(bytes);
    round_trip::<[u8; 7]>(bytes);
    round_trip::<(TenantId, Timestamp)>(bytes);
    round_trip::<((String, u16), u64)>(bytes);
    let (one, other) = bytes.split_at(bytes.len() / 2);
    in_order::<String>(one, other);
    in_order::<(String, Timestamp)>(one, other);
    in_order::<(String, String, u32)>(one, other);
}

fn round_trip<K: RowKey>(bytes: &[u8]) {
    if let Ok(key) = K::decode(bytes) {
        assert_eq!(encode(&key), bytes, "one key has one form");
    }
}

fn in_order<K: RowKey + Ord>(one: &[u8], other: &[u8]) {
    round_trip::<K>(one);
    if let (Ok(left), Ok(right)) = (K::decode(one), K::decode(other)) {
        assert_eq!(left.cmp(&right), one.cmp(other), "keys sort as their parts do");
    }
}

#[cfg(test)]
mod tests {
    /// The committed inputs, and everything that ever broke.
    #[test]
    fn the_corpus_does_no_harm() {
        let corpus = std::fs::read_dir("../fuzz/corpus/row_key").unwrap();
        let inputs: Vec<_> = corpus.map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect();
        assert!(!inputs.is_empty());
        inputs.iter().for_each(|input| super::row_key(input));
    }
}
