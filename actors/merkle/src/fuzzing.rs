//! Entries of the fuzz targets.

use crate::{Checkpoint, Cosigner, Verifier, witness::AddCheckpoint};

/// What logs send to a witness and witnesses answer: whatever is read is written as it came, and nothing is believed.
///
/// # Panics
/// When that is not so.
pub fn witness(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    if let Some(read) = AddCheckpoint::read(text) {
        assert_eq!(read.text(), text, "a request has one form");
        let _ = Checkpoint::glance(&read.note);
        assert!(Checkpoint::open(&read.note, [1; 32]).is_err());
    }
    if let Some(head) = Checkpoint::read(text) {
        assert_eq!(Checkpoint::read(&head.text()), Some(head));
    }
    if let Ok(key) = text.parse::<Cosigner>() {
        assert_eq!(key.to_string(), text);
    }
    if let Ok(key) = text.parse::<Verifier>() {
        assert_eq!(key.to_string(), text);
    }
    let key = Cosigner::new("w", [1; 32]).expect("is a name");
    assert!(key.check("o\n1\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n", text).is_err());
}
