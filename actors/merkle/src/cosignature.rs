//! Cosignatures: a witness says that it saw a checkpoint at a time, and never another history of the log. Only `cosignature/v1`
//! (Ed25519, type 04).
//!
//! Source: C2SP tlog-cosignature.

use std::{fmt, str::FromStr};

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, UnparsedPublicKey};
use data_encoding::BASE64;

use crate::{
    NoteError,
    note::{self, ID_BYTES, MARK, SIGNATURE_BYTES},
};

/// The type of a key that cosigns with Ed25519, before the key itself.
const COSIGNATURE_TYPE: u8 = 4;
const TIME_BYTES: usize = 8;

/// The public key of a witness, with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cosigner {
    name: String,
    public: [u8; 32],
}

/// A cosignature that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cosigned {
    /// When the witness saw the checkpoint, in seconds since 1970.
    pub time: u64,
    /// The line of the note, with its line feed.
    pub line: String,
}

/// Why a cosignature is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CosignatureError {
    /// Not lines of signatures.
    #[error("the answer is not made of lines of signatures")]
    Form,
    /// No line has the name and the key of the witness.
    #[error("no line is signed by the key of the witness")]
    OtherKey,
    /// The key did not make the signature over this checkpoint: it is forged, or over another one.
    #[error("the signature is not one of the witness over this checkpoint")]
    Signature,
}

impl Cosigner {
    /// Names a key.
    ///
    /// # Errors
    /// [`NoteError::Name`].
    pub fn new(name: impl Into<String>, public: [u8; 32]) -> Result<Self, NoteError> {
        let name = name.into();
        if note::is_name(&name) { Ok(Self { name, public }) } else { Err(NoteError::Name) }
    }

    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    fn id(&self) -> [u8; ID_BYTES] {
        note::key_id(&self.name, COSIGNATURE_TYPE, &self.public)
    }

    /// Makes the line of the note, with its line feed, that says that this key's witness saw the checkpoint with this text at `time`,
    /// in seconds since 1970.
    #[must_use]
    pub fn cosign(&self, text: &str, time: u64, pair: &Ed25519KeyPair) -> String {
        let signature = pair.sign(message(text, time).as_bytes());
        let bytes = [&self.id()[..], &time.to_be_bytes(), signature.as_ref()].concat();
        format!("{MARK}{} {}\n", self.name, BASE64.encode(&bytes))
    }

    /// Finds this key's cosignature of the checkpoint with this text among lines of signatures.
    ///
    /// # Errors
    /// Why none is believed.
    pub fn check(&self, text: &str, lines: &str) -> Result<Cosigned, CosignatureError> {
        let signatures = note::lines(lines).map_err(|_| CosignatureError::Form)?;
        self.find(text, &signatures)
    }

    /// Finds this key's cosignature in a note.
    ///
    /// # Errors
    /// Why none is believed.
    pub fn open(&self, note: &str) -> Result<Cosigned, CosignatureError> {
        let (text, signatures) = note::split(note).map_err(|_| CosignatureError::Form)?;
        self.find(text, &signatures)
    }

    fn find(&self, text: &str, signatures: &[(&str, Vec<u8>)]) -> Result<Cosigned, CosignatureError> {
        let mut own = signatures.iter().filter(|(name, signature)| {
            *name == self.name && signature.get(..ID_BYTES) == Some(&self.id()[..])
        });
        let (name, bytes) = own.next().ok_or(CosignatureError::OtherKey)?;
        // Two of one key are one too many: which of the times would hold?
        if own.next().is_some() || bytes.len() != ID_BYTES + TIME_BYTES + SIGNATURE_BYTES {
            return Err(CosignatureError::Signature);
        }
        let (time, signature) = bytes[ID_BYTES..].split_at(TIME_BYTES);
        let time = u64::from_be_bytes(time.try_into().expect("has eight bytes"));
        let key = UnparsedPublicKey::new(&ED25519, self.public);
        key.verify(message(text, time).as_bytes(), signature).map_err(|_| CosignatureError::Signature)?;
        Ok(Cosigned { time, line: format!("{MARK}{name} {}\n", BASE64.encode(bytes)) })
    }
}

fn message(text: &str, time: u64) -> String {
    format!("cosignature/v1\ntime {time}\n{text}")
}

/// Adds a line, unless the note has it already. One of the same name and key gives way to the new one.
#[must_use]
pub fn with_cosignature(note: &str, line: &str) -> String {
    const HEAD: usize = 5;
    let Some(end) = note.rfind("\n\n") else { return note.to_owned() };
    let (text, signatures) = note.split_at(end + 2);
    // The key's id are the first bytes: five characters of base 64 are all of their 32 bits but two, with the name enough to tell keys apart.
    let key = line.rsplit_once(' ').map(|(name, bytes)| (name, bytes.get(..HEAD)));
    let kept = signatures
        .split_inclusive('\n')
        .filter(|other| other.rsplit_once(' ').map(|(name, bytes)| (name, bytes.get(..HEAD))) != key);
    let kept: String = kept.collect();
    format!("{text}{kept}{line}")
}

/// The form in which keys of witnesses are given to people and programs: `<name>+<id>+<type and key>`.
impl fmt::Display for Cosigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&note::key_text(&self.name, COSIGNATURE_TYPE, &self.public))
    }
}

impl FromStr for Cosigner {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        let (name, public) = note::read_key(text, COSIGNATURE_TYPE)?;
        Self::new(name, public)
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::KeyPair;
    use proptest::prelude::*;

    use super::*;
    use crate::Checkpoint;

    fn witness(seed: u8) -> (Cosigner, Ed25519KeyPair) {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        (Cosigner::new("witness.example/w1", pair.public_key().as_ref().try_into().unwrap()).unwrap(), pair)
    }

    fn note() -> (Checkpoint, String) {
        let log = Ed25519KeyPair::from_seed_unchecked(&[9; 32]).unwrap();
        let head = Checkpoint { origin: "aesp/platform/0a1b".into(), size: 77, root: [7; 32] };
        let note = head.sign(&log).unwrap();
        (head, note)
    }

    #[test]
    fn a_cosignature_is_checked_and_stays_in_the_note() {
        let ((key, pair), (head, note)) = (witness(1), note());
        assert_eq!(key.to_string().parse(), Ok(key.clone()));
        let line = key.cosign(&head.text(), 1_790_000_000, &pair);
        let seen = key.check(&head.text(), &line).unwrap();
        assert_eq!((seen.time, seen.line.as_str()), (1_790_000_000, line.as_str()));
        let cosigned = with_cosignature(&note, &line);
        assert_eq!(key.open(&cosigned), Ok(seen));
        // The newer one of the same key replaces it; that of another stays beside it.
        let later = key.cosign(&head.text(), 1_790_000_001, &pair);
        let again = with_cosignature(&cosigned, &later);
        assert_eq!(key.open(&again).unwrap().time, 1_790_000_001);
        let (other, its) = witness(2);
        let both = with_cosignature(&again, &other.cosign(&head.text(), 5, &its));
        assert_eq!((key.open(&both).unwrap().time, other.open(&both).unwrap().time), (1_790_000_001, 5));
        let log = Ed25519KeyPair::from_seed_unchecked(&[9; 32]).unwrap();
        assert_eq!(Checkpoint::open(&both, log.public_key().as_ref().try_into().unwrap()), Ok(head));
    }

    #[test]
    fn forged_ones_are_named() {
        let ((key, pair), (other, its), (head, _)) = (witness(1), witness(2), note());
        let text = head.text();
        let wrong = Checkpoint { root: [8; 32], ..head }.text();
        assert_eq!(key.check(&text, &key.cosign(&wrong, 5, &pair)), Err(CosignatureError::Signature));
        assert_eq!(key.check(&text, &key.cosign(&text, 5, &its)), Err(CosignatureError::Signature));
        assert_eq!(key.check(&text, &other.cosign(&text, 5, &its)), Err(CosignatureError::OtherKey));
        assert_eq!(key.check(&text, "hello"), Err(CosignatureError::Form));
        let twice = key.cosign(&text, 5, &pair) + &key.cosign(&text, 6, &pair);
        assert_eq!(key.check(&text, &twice), Err(CosignatureError::Signature));
    }

    proptest! {
        /// No bit of a cosignature can be another one.
        #[test]
        fn a_changed_cosignature_is_not_believed(at in 0_usize..76, bit in 0_u8..8) {
            let ((key, pair), (head, _)) = (witness(1), note());
            let line = key.cosign(&head.text(), 1_790_000_000, &pair);
            let (name, bytes) = line.trim_end().rsplit_once(' ').unwrap();
            let mut bytes = BASE64.decode(bytes.as_bytes()).unwrap();
            bytes[at] ^= 1 << bit;
            let changed = format!("{name} {}\n", BASE64.encode(&bytes));
            prop_assert!(key.check(&head.text(), &changed).is_err());
        }
    }
}
