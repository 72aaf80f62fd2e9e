//! What `make fuzz` feeds with bytes that nobody chose: files that somebody says are exports, objects that lie in an archive.

use crate::{ClusterId, Line, archive, logical};

/// Reads the bytes as an export and as an object of an archive, as far as that goes without a key.
///
/// # Panics
/// If a reader does, or if what it makes of the bytes is more than they are.
pub fn store_copy(bytes: &[u8]) {
    let rows = logical::read_unchecked(bytes);
    assert!(rows <= bytes.len(), "each row takes a byte at least");
    archive::read_header(&ClusterId("one".into()), Line(1), bytes);
}

#[cfg(test)]
mod tests {
    /// The committed inputs, and everything that ever broke.
    #[test]
    fn the_corpus_does_no_harm() {
        let corpus = std::fs::read_dir("../../fuzz/corpus/store_copy").unwrap();
        let inputs: Vec<_> = corpus.map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect();
        assert!(!inputs.is_empty());
        inputs.iter().for_each(|input| super::store_copy(input));
    }
}
