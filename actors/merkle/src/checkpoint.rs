use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use data_encoding::BASE64;

use crate::{Hash, NoteError, Verifier, note};

/// The head of a log: which log, how many leaves, and the root of the tree over them.
///
/// Source: C2SP tlog-checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Names the log, and the key that signs it.
    pub origin: String,
    /// How many leaves.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
}

impl Checkpoint {
    /// Returns the text that is signed, with its last line feed.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, BASE64.encode(&self.root))
    }

    /// Signs it, under the origin as the key's name, and returns the note.
    ///
    /// # Errors
    /// [`NoteError::Name`] if the origin can't name a key.
    pub fn sign(&self, pair: &Ed25519KeyPair) -> Result<String, NoteError> {
        let public = pair.public_key().as_ref().try_into().map_err(|_| NoteError::Key)?;
        note::sign(&self.text(), &self.origin, pair, public)
    }

    /// Reads a note that this key signed under the name of the note's own origin.
    ///
    /// # Errors
    /// The [`NoteError`] that says what is wrong with the note.
    pub fn open(note: &str, public: [u8; 32]) -> Result<Self, NoteError> {
        let origin = note.split('\n').next().unwrap_or_default();
        let text = Verifier::new(origin, public).map_err(|_| NoteError::Checkpoint)?.open(note)?;
        Self::read(text).ok_or(NoteError::Checkpoint)
    }

    /// Reads a note without a look at its signatures: what it says is not proven.
    #[must_use]
    pub fn glance(note: &str) -> Option<Self> {
        let end = note.rfind("\n\n")?;
        Self::read(&note[..=end])
    }

    /// Reads the text that is signed, with its last line feed.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let mut lines = text.strip_suffix('\n')?.split('\n');
        let (origin, size, root) = (lines.next()?, lines.next()?, lines.next()?);
        // Lines that follow are extensions, which are ignored, but there is never an empty one.
        if origin.is_empty() || lines.any(str::is_empty) {
            return None;
        }
        let number: u64 = size.parse().ok()?;
        let root = BASE64.decode(root.as_bytes()).ok()?.try_into().ok()?;
        (number.to_string() == size).then(|| Self { origin: origin.to_owned(), size: number, root })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pair(seed: u8) -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
    }

    fn public(pair: &Ed25519KeyPair) -> [u8; 32] {
        pair.public_key().as_ref().try_into().unwrap()
    }

    /// The key and the note of the package golang.org/x/mod/sumdb/note, which shows what other programs write.
    #[test]
    fn notes_of_other_programs_are_read() {
        let verifier: Verifier =
            "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW".parse().unwrap();
        assert_eq!(
            verifier.to_string(),
            "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
        );
        let text = "If you think cryptography is the answer to your problem,\n\
            then you don't know what your problem is.\n";
        let signature = "\u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
        let note = format!("{text}\n{signature}");
        assert_eq!(verifier.open(&note), Ok(text));
        assert_eq!(verifier.open(&note.replace("answer", "Answer")), Err(NoteError::Signature));
        assert_eq!(verifier.open(&note.replace(" PeterNeumann", " EnochRoot")), Err(NoteError::UnknownKey));
    }

    #[test]
    fn a_checkpoint_is_signed_and_read_back() {
        let head = Checkpoint { origin: "aesp/0a1b".into(), size: 20_852_163, root: [7; 32] };
        let (own, other) = (pair(1), pair(2));
        let note = head.sign(&own).unwrap();
        assert!(note.starts_with(
            "aesp/0a1b\n20852163\nBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\n\n\u{2014} aesp/0a1b "
        ));
        assert_eq!(Checkpoint::open(&note, public(&own)), Ok(head.clone()));
        assert_eq!(Checkpoint::glance(&note), Some(head.clone()));
        assert_eq!(Checkpoint::open(&note, public(&other)), Err(NoteError::UnknownKey));
        // A second signature, of a witness, does no harm.
        let cosigned = format!("{note}\u{2014} witness {}\n", BASE64.encode(&[3; 76]));
        assert_eq!(Checkpoint::open(&cosigned, public(&own)), Ok(head));
    }

    #[test]
    fn other_forms_are_refused() {
        let own = pair(1);
        let signed = |text: &str| note::sign(text, "o", &own, public(&own)).unwrap();
        for text in
            ["o\n01\nBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\n", "o\n1\nAA==\n", "o\n1\n", "o\n-1\n\n"]
        {
            assert_eq!(Checkpoint::open(&signed(text), public(&own)), Err(NoteError::Checkpoint), "{text}");
        }
        let extended = signed("o\n1\nBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\nmore\n");
        assert_eq!(Checkpoint::open(&extended, public(&own)).unwrap().size, 1);
        for key in ["", "a", "a+b", "a b+00000000+AQ==", "a+00000000+AQ=="] {
            assert!(key.parse::<Verifier>().is_err(), "{key}");
        }
    }

    proptest! {
        /// No byte of a note can be another one.
        #[test]
        fn a_changed_note_is_not_believed(at in any::<prop::sample::Index>(), to in any::<u8>()) {
            let (own, head) = (pair(1), Checkpoint { origin: "aesp/0a1b".into(), size: 77, root: [7; 32] });
            let note = head.sign(&own).unwrap();
            let mut bytes = note.clone().into_bytes();
            let at = at.index(bytes.len());
            prop_assume!(bytes[at] != to);
            bytes[at] = to;
            if let Ok(changed) = String::from_utf8(bytes) {
                prop_assert!(Checkpoint::open(&changed, public(&own)).is_err());
            }
        }

        #[test]
        fn strangers_bytes_do_no_harm(text in ".{0,200}", note in "(\n|o|1|\u{2014} |[A-Za-z0-9+/=]{4}){0,40}") {
            prop_assert!(Checkpoint::open(&text, [1; 32]).is_err());
            prop_assert!(Checkpoint::open(&note, [1; 32]).is_err());
        }
    }
}
