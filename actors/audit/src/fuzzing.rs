//! What `make fuzz` feeds with exports that no Host wrote.

use std::sync::OnceLock;

use aesp_merkle::{Checkpoint, Coordinates};
use aesp_proto::TenantId;

use crate::{PublicKey, Query, cursor, line, verify};

/// A true export, whose key the fuzzer does not have.
const SAMPLE: &[u8] = include_bytes!("../../../fuzz/corpus/audit_export/sample.jsonl");

/// Verifies the bytes as an export, and reads them as a cursor, as a checkpoint and as the path of a tile.
///
/// # Panics
/// If anything but the sample itself verifies under the sample's key, a note is believed that nobody signed, or a path is read that
/// is not written so.
pub fn audit_export(bytes: &[u8]) {
    if verify(bytes, &[*key()]).is_ok() {
        assert!(bytes == SAMPLE, "an export was changed and still verifies");
    }
    // Without a trusted key anybody may have made the export, but not one that breaks the verifier.
    drop(verify(bytes, &[]));
    if let Ok(text) = str::from_utf8(bytes) {
        assert!(Checkpoint::open(text, key().0).is_err(), "nobody signed this checkpoint");
        drop(Checkpoint::glance(text));
        if let Ok(resource) = Coordinates::parse(text) {
            assert_eq!(resource.to_string(), text);
        }
        let query = Query::new(TenantId::from_bytes([1; 16]));
        if let Ok(position) = cursor::decode(&query, text) {
            assert_eq!(cursor::encode(&query, &position), text);
        }
    }
}

fn key() -> &'static PublicKey {
    static KEY: OnceLock<PublicKey> = OnceLock::new();
    KEY.get_or_init(|| {
        let first = SAMPLE.split(|byte| *byte == b'\n').next().expect("the sample has a header");
        let Ok(line::Line::<serde::de::IgnoredAny>::Header(header)) = serde_json::from_slice(first) else {
            panic!("the sample begins with its header");
        };
        line::public_keys(&header).expect("keys")[0]
    })
}

#[cfg(test)]
mod tests {
    /// The committed inputs, and everything that ever broke.
    #[test]
    fn the_corpus_does_no_harm() {
        let corpus = std::fs::read_dir("../../fuzz/corpus/audit_export").unwrap();
        let inputs: Vec<_> = corpus.map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect();
        assert!(!inputs.is_empty());
        inputs.iter().for_each(|input| super::audit_export(input));
        super::verify(super::SAMPLE, &[*super::key()]).unwrap();
    }
}
