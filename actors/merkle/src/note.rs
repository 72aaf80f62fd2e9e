//! Signed notes: a text and lines of signatures below it. Only Ed25519 (type 01).
//!
//! Source: C2SP signed-note.

use std::{fmt, str::FromStr};

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, UnparsedPublicKey};
use data_encoding::{BASE64, HEXLOWER};

use crate::sha256;

/// The type of an Ed25519 key, before the key itself.
const ED25519_TYPE: u8 = 1;
pub(crate) const ID_BYTES: usize = 4;
pub(crate) const SIGNATURE_BYTES: usize = 64;
/// What a line of a signature begins with: an em dash and a space.
pub(crate) const MARK: &str = "\u{2014} ";
/// Lines of signatures that are read.
pub(crate) const SIGNATURES: usize = 100;

/// Why a note is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Its form is wrong.
    #[error("not a signed note")]
    Form,
    /// Nobody who is known signed it.
    #[error("the note is not signed by a known key")]
    UnknownKey,
    /// A known key did not make the signature that is there under its name.
    #[error("the signature of the note is wrong")]
    Signature,
    /// The text is no checkpoint.
    #[error("the note is no checkpoint")]
    Checkpoint,
    /// A name has a space or a plus, or is empty.
    #[error("not a name of a key")]
    Name,
    /// A text is none of a key.
    #[error("not a key: <name>+<8 hexadecimal digits>+<base 64>")]
    Key,
}

/// A public key with its name, which checks signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verifier {
    name: String,
    public: [u8; 32],
}

impl Verifier {
    /// Names a key.
    ///
    /// # Errors
    /// [`Error::Name`].
    pub fn new(name: impl Into<String>, public: [u8; 32]) -> Result<Self, Error> {
        let name = name.into();
        if is_name(&name) { Ok(Self { name, public }) } else { Err(Error::Name) }
    }

    /// Returns the four bytes that stand for name and key before each signature.
    #[must_use]
    pub fn id(&self) -> [u8; ID_BYTES] {
        key_id(&self.name, ED25519_TYPE, &self.public)
    }

    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the public key.
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        self.public
    }

    /// Returns the text of the note, with its last line feed, if this key signed it.
    ///
    /// # Errors
    /// [`Error::Form`], [`Error::UnknownKey`] or [`Error::Signature`].
    pub fn open<'n>(&self, note: &'n str) -> Result<&'n str, Error> {
        let (text, signatures) = split(note)?;
        let own = |(name, signature): &(&str, Vec<u8>)| {
            *name == self.name && signature.get(..ID_BYTES) == Some(&self.id()[..])
        };
        let mut known = false;
        for (_, signature) in signatures.iter().filter(|signature| own(signature)) {
            let key = UnparsedPublicKey::new(&ED25519, self.public);
            let signature = &signature[ID_BYTES..];
            if signature.len() != SIGNATURE_BYTES || key.verify(text.as_bytes(), signature).is_err() {
                return Err(Error::Signature);
            }
            known = true;
        }
        if known { Ok(text) } else { Err(Error::UnknownKey) }
    }
}

/// The form in which verifiers are given to people and programs: `<name>+<id>+<type and key>`.
impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&key_text(&self.name, ED25519_TYPE, &self.public))
    }
}

impl FromStr for Verifier {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (name, public) = read_key(text, ED25519_TYPE)?;
        Self::new(name, public)
    }
}

pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c == '+' || c.is_whitespace() || c.is_control())
}

/// Returns the four bytes that stand for a key of this type.
pub(crate) fn key_id(name: &str, kind: u8, public: &[u8; 32]) -> [u8; ID_BYTES] {
    let hash = sha256(&[name.as_bytes(), &[b'\n', kind], public]);
    let mut id = [0; ID_BYTES];
    id.copy_from_slice(&hash[..ID_BYTES]);
    id
}

/// Writes a key of this type: `<name>+<id>+<type and key>`.
pub(crate) fn key_text(name: &str, kind: u8, public: &[u8; 32]) -> String {
    let key = BASE64.encode(&[&[kind][..], public].concat());
    format!("{name}+{}+{key}", HEXLOWER.encode(&key_id(name, kind, public)))
}

/// Reads the name and the key out of such a text.
pub(crate) fn read_key(text: &str, kind: u8) -> Result<(&str, [u8; 32]), Error> {
    let (name, rest) = text.split_once('+').ok_or(Error::Key)?;
    let (id, key) = rest.split_once('+').ok_or(Error::Key)?;
    let key = BASE64.decode(key.as_bytes()).map_err(|_| Error::Key)?;
    let public = match key.split_first() {
        Some((first, public)) if *first == kind => public.try_into().map_err(|_| Error::Key)?,
        _ => return Err(Error::Key),
    };
    if !is_name(name) {
        return Err(Error::Name);
    }
    if HEXLOWER.encode(&key_id(name, kind, &public)) == id { Ok((name, public)) } else { Err(Error::Key) }
}

/// Signs a text, which ends in a line feed, under the name and returns the note.
///
/// # Errors
/// [`Error::Form`] or [`Error::Name`] if the text or the name can't be in a note.
pub(crate) fn sign(text: &str, name: &str, pair: &Ed25519KeyPair, public: [u8; 32]) -> Result<String, Error> {
    if !is_text(text) {
        return Err(Error::Form);
    }
    let verifier = Verifier::new(name, public)?;
    let signature = [&verifier.id()[..], pair.sign(text.as_bytes()).as_ref()].concat();
    Ok(format!("{text}\n{MARK}{name} {}\n", BASE64.encode(&signature)))
}

fn is_text(text: &str) -> bool {
    text.ends_with('\n') && !text.chars().any(|c| c.is_ascii_control() && c != '\n')
}

pub(crate) type Signatures<'n> = Vec<(&'n str, Vec<u8>)>;

/// Takes the text and the signatures of a note apart.
pub(crate) fn split(note: &str) -> Result<(&str, Signatures<'_>), Error> {
    let end = note.rfind("\n\n").ok_or(Error::Form)?;
    let (text, signatures) = (&note[..=end], &note[end + 2..]);
    if !is_text(text) {
        return Err(Error::Form);
    }
    Ok((text, lines(signatures)?))
}

/// Reads lines of signatures, of which there is at least one.
pub(crate) fn lines(signatures: &str) -> Result<Signatures<'_>, Error> {
    let lines = signatures.strip_suffix('\n').ok_or(Error::Form)?;
    let read = |line: &'_ str| {
        let (name, signature) = line.strip_prefix(MARK)?.split_once(' ')?;
        let signature = BASE64.decode(signature.as_bytes()).ok()?;
        (is_name(name) && signature.len() > ID_BYTES).then_some(signature)
    };
    let mut out = Vec::new();
    for line in lines.split('\n') {
        let signature = read(line).filter(|_| out.len() < SIGNATURES).ok_or(Error::Form)?;
        let name = line[MARK.len()..].split(' ').next().unwrap_or_default();
        out.push((name, signature));
    }
    Ok(out)
}
