//! The other side: what an independent witness does with a request. Its memory is one file, replaced whole and synced before the answer.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use aesp_merkle::{
    Checkpoint, Cosigner, Hash, NoteError, Verifier, sha256,
    witness::{AddCheckpoint, Refusal, Seen, goes_on},
};
use aws_lc_rs::signature::Ed25519KeyPair;
use data_encoding::{BASE64, HEXLOWER};
use serde::{Deserialize, Serialize};

/// Why a witness can't go on.
#[derive(Debug, thiserror::Error)]
pub enum NotaryError {
    /// Its memory can't be read or written. It answers nothing: what it does not remember it must not cosign.
    #[error("{path} can't be used as the witness's memory: {why}")]
    Memory {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

/// What a witness remembers of a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// Leaves.
    pub size: u64,
    /// The root over them, base 64.
    pub root: String,
    /// When it was cosigned, in seconds since 1970.
    pub time: u64,
    /// The checkpoint, with the signatures of the log and the cosignature.
    pub checkpoint: String,
}

/// An answer over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The content type.
    pub content_type: &'static str,
    /// What it says.
    pub body: String,
}

impl Reply {
    fn words(status: u16, body: &str) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8", body: format!("{body}\n") }
    }
}

/// A witness: its key, the logs that it looks at, and what it remembers of each.
pub struct Notary {
    cosigner: Cosigner,
    pair: Ed25519KeyPair,
    logs: Vec<Verifier>,
    path: PathBuf,
    known: Mutex<BTreeMap<String, Known>>,
    /// Held by whoever has the memory: two processes with one memory could cosign two histories.
    _lock: fs::File,
}

impl Notary {
    /// Takes up the memory in this file, which is made where there is none. A log may have several keys.
    ///
    /// # Errors
    /// [`NotaryError::Memory`], also while another process has it.
    pub fn open(
        cosigner: Cosigner,
        pair: Ed25519KeyPair,
        logs: Vec<Verifier>,
        path: &Path,
    ) -> Result<Self, NotaryError> {
        let bad = |why: String| NotaryError::Memory { path: path.to_owned(), why };
        let lock = fs::File::create(path.with_extension("lock")).map_err(|error| bad(error.to_string()))?;
        lock.try_lock().map_err(|error| bad(format!("another witness uses it: {error}")))?;
        let known: BTreeMap<String, Known> = match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(bad(error.to_string())),
        };
        if known.values().any(|known| seen(known).is_none()) {
            return Err(bad("a root is none".into()));
        }
        let notary =
            Self { cosigner, pair, logs, path: path.to_owned(), known: Mutex::new(known), _lock: lock };
        // A memory that can't be written is found out now, and not with the first checkpoint.
        notary.write(&notary.known.lock().unwrap_or_else(PoisonError::into_inner))?;
        Ok(notary)
    }

    /// Returns what it remembers, by the origins.
    #[must_use]
    pub fn known(&self) -> BTreeMap<String, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Answers a request to cosign a checkpoint, at `time`, in seconds since 1970. Blocks on the disk.
    ///
    /// INVARIANT: what is cosigned is in the synced memory before it is answered, and of each log only what goes on from the memory is
    /// cosigned. One request after the other.
    pub fn add(&self, body: &[u8], time: u64) -> Reply {
        let asked = str::from_utf8(body).ok().and_then(AddCheckpoint::read);
        let Some(asked) = asked else { return Reply::words(400, "not a request to add a checkpoint") };
        let origin = asked.note.split('\n').next().unwrap_or_default();
        if !self.logs.iter().any(|key| key.name() == origin) {
            return Reply::words(404, "this log is not one that this witness looks at");
        }
        let Some((head, text)) = self.open_note(origin, &asked.note) else {
            return Reply::words(403, "the checkpoint is not signed by a key of the log");
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let before = known.get(origin).and_then(seen);
        match goes_on(before, asked.old, &head, &asked.proof) {
            Err(Refusal::Conflict(size)) => {
                Reply { status: 409, content_type: crate::client::SIZE_TYPE, body: format!("{size}\n") }
            }
            Err(refusal @ Refusal::Backwards) => Reply::words(400, &refusal.to_string()),
            // The specification has this one without a size.
            Err(refusal @ Refusal::Fork) => {
                tracing::error!(origin, size = head.size, "a log shows another root of a size than before");
                Reply::words(409, &refusal.to_string())
            }
            Err(refusal @ Refusal::Inconsistent) => {
                tracing::error!(origin, size = head.size, "a log shows another history than before");
                Reply::words(422, &refusal.to_string())
            }
            Ok(Seen { size, root }) => {
                let line = self.cosigner.cosign(&text, time, &self.pair);
                let checkpoint = published(origin, &text, &asked.note, &line);
                let mut next = known.clone();
                next.insert(origin.to_owned(), Known { size, root: BASE64.encode(&root), time, checkpoint });
                if let Err(error) = self.write(&next) {
                    tracing::error!(%error, "the memory can't be written: nothing is cosigned");
                    return Reply::words(500, "the witness can't write its memory");
                }
                *known = next;
                Reply { status: 200, content_type: "text/plain; charset=utf-8", body: line }
            }
        }
    }

    /// Returns the checkpoint that was cosigned last of the log whose origin has this SHA-256 (64 small hexadecimal digits), with the
    /// cosignature: whoever monitors the log compares it with what the log shows.
    #[must_use]
    pub fn checkpoint(&self, origin_hash: &str) -> Option<String> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let own = |origin: &str| HEXLOWER.encode(&sha256(&[origin.as_bytes()])) == origin_hash;
        known.iter().find(|(origin, _)| own(origin)).map(|(_, known)| known.checkpoint.clone())
    }

    /// Returns the checkpoint and the text that is signed, with lines that other logs may add to it, if a key of the log signed it. One
    /// wrong signature of such a key spoils the note, whatever else is below it.
    fn open_note(&self, origin: &str, note: &str) -> Option<(Checkpoint, String)> {
        let mut head = None;
        for key in self.logs.iter().filter(|key| key.name() == origin) {
            match Checkpoint::open(note, key.public()) {
                Ok(read) => head = Some(read),
                Err(NoteError::UnknownKey) => {}
                Err(_) => return None,
            }
        }
        let (text, _) = note.rsplit_once("\n\n")?;
        Some((head?, format!("{text}\n")))
    }

    /// Replaces the memory: another file, synced, renamed over it, and the folder synced.
    fn write(&self, known: &BTreeMap<String, Known>) -> Result<(), NotaryError> {
        let write = || -> std::io::Result<()> {
            let beside = self.path.with_extension("new");
            let mut file = fs::File::create(&beside)?;
            file.write_all(&serde_json::to_vec_pretty(known)?)?;
            file.sync_all()?;
            fs::rename(&beside, &self.path)?;
            let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
            fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
        };
        write().map_err(|error| NotaryError::Memory { path: self.path.clone(), why: error.to_string() })
    }
}

/// Writes the checkpoint with the log's own signatures, and this line below them. What others set below it is not this witness's to say.
fn published(origin: &str, text: &str, note: &str, line: &str) -> String {
    let own = format!("\u{2014} {origin} ");
    let signatures = note.rsplit_once("\n\n").map_or("", |(_, signatures)| signatures);
    let signatures: String = signatures.split_inclusive('\n').filter(|line| line.starts_with(&own)).collect();
    format!("{text}\n{signatures}{line}")
}

fn seen(known: &Known) -> Option<Seen> {
    let root: Hash = BASE64.decode(known.root.as_bytes()).ok()?.try_into().ok()?;
    Some(Seen { size: known.size, root })
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::KeyPair;

    use super::*;

    const ORIGIN: &str = "aesp/platform/0a1b";

    fn pair(seed: u8) -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
    }

    fn public(seed: u8) -> [u8; 32] {
        pair(seed).public_key().as_ref().try_into().unwrap()
    }

    fn notary(path: &Path) -> Result<Notary, NotaryError> {
        let cosigner = Cosigner::new("witness", public(1)).unwrap();
        Notary::open(cosigner, pair(1), vec![Verifier::new(ORIGIN, public(2)).unwrap()], path)
    }

    fn ask(old: u64, size: u64, root: u8, key: u8, origin: &str) -> Vec<u8> {
        let head = Checkpoint { origin: origin.into(), size, root: [root; 32] };
        AddCheckpoint { old, proof: Vec::new(), note: head.sign(&pair(key)).unwrap() }.text().into_bytes()
    }

    #[test]
    fn each_answer_is_the_one_of_the_specification_and_the_memory_outlives_the_process() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("memory.json");
        let witness = notary(&path).unwrap();
        assert!(notary(&path).is_err(), "two have one memory");
        assert_eq!(witness.add(b"hello", 5).status, 400);
        assert_eq!(witness.add(&ask(0, 7, 7, 2, "other"), 5).status, 404);
        assert_eq!(witness.add(&ask(0, 7, 7, 3, ORIGIN), 5).status, 403);
        let told = witness.add(&ask(3, 7, 7, 2, ORIGIN), 5);
        assert_eq!((told.status, told.content_type, told.body.as_str()), (409, "text/x.tlog.size", "0\n"));
        let told = witness.add(&ask(0, 7, 7, 2, ORIGIN), 5);
        assert_eq!(told.status, 200);
        let head = Checkpoint { origin: ORIGIN.into(), size: 7, root: [7; 32] };
        let key = Cosigner::new("witness", public(1)).unwrap();
        assert_eq!(key.check(&head.text(), &told.body).unwrap().time, 5);
        drop(witness);

        let witness = notary(&path).unwrap();
        assert_eq!(witness.known()[ORIGIN].size, 7);
        assert_eq!(witness.add(&ask(7, 7, 7, 2, ORIGIN), 6).status, 200, "the same again");
        assert_eq!(witness.add(&ask(7, 7, 8, 2, ORIGIN), 6).status, 409, "another root of the size");
        assert_ne!(witness.add(&ask(7, 7, 8, 2, ORIGIN), 6).content_type, "text/x.tlog.size");
        assert_eq!(witness.add(&ask(7, 9, 9, 2, ORIGIN), 6).status, 422, "no proof");
        assert_eq!(witness.add(&ask(0, 5, 5, 2, ORIGIN), 6).body, "7\n", "backwards");
        assert_eq!(witness.add(&ask(7, 5, 5, 2, ORIGIN), 6).status, 400, "backwards by its own word");
        drop(witness);
        fs::write(&path, "{}x").unwrap();
        assert!(notary(&path).is_err(), "a damaged memory is no empty one");
    }

    #[test]
    fn what_was_cosigned_is_shown_to_whoever_monitors_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("memory.json");
        let witness = notary(&path).unwrap();
        let hash = HEXLOWER.encode(&sha256(&[ORIGIN.as_bytes()]));
        assert_eq!(witness.checkpoint(&hash), None);
        assert_eq!(witness.add(&ask(0, 7, 7, 2, ORIGIN), 5).status, 200);
        drop(witness);
        let note = notary(&path).unwrap().checkpoint(&hash).unwrap();
        assert_eq!(Checkpoint::open(&note, public(2)).unwrap().size, 7);
        assert_eq!(Cosigner::new("witness", public(1)).unwrap().open(&note).unwrap().time, 5);
    }

    #[test]
    fn one_wrong_signature_of_a_key_of_the_log_spoils_the_note() {
        let folder = tempfile::tempdir().unwrap();
        let cosigner = Cosigner::new("witness", public(1)).unwrap();
        let keys = [2, 3].map(|seed| Verifier::new(ORIGIN, public(seed)).unwrap()).to_vec();
        let witness = Notary::open(cosigner, pair(1), keys, &folder.path().join("memory.json")).unwrap();
        let good = String::from_utf8(ask(0, 7, 7, 2, ORIGIN)).unwrap();
        let below = |other: Vec<u8>| {
            let other = String::from_utf8(other).unwrap();
            format!("{good}{}", other.rsplit_once("\n\n").unwrap().1).into_bytes()
        };
        // Key 3 signed another root.
        assert_eq!(witness.add(&below(ask(0, 7, 8, 3, ORIGIN)), 5).status, 403);
        // Nobody knows key 4: its line counts for nothing.
        assert_eq!(witness.add(&below(ask(0, 7, 8, 4, ORIGIN)), 5).status, 200);
    }

    #[test]
    fn lines_that_a_log_adds_to_its_checkpoints_are_cosigned_with_them() {
        let folder = tempfile::tempdir().unwrap();
        let witness = notary(&folder.path().join("memory.json")).unwrap();
        let head = Checkpoint { origin: ORIGIN.into(), size: 7, root: [7; 32] };
        let text = format!("{}more\n", head.text());
        let id = Verifier::new(ORIGIN, public(2)).unwrap().id();
        let signature = [&id[..], pair(2).sign(text.as_bytes()).as_ref()].concat();
        let note = format!("{text}\n\u{2014} {ORIGIN} {}\n", BASE64.encode(&signature));
        let asked = AddCheckpoint { old: 0, proof: Vec::new(), note }.text();
        let told = witness.add(asked.as_bytes(), 5);
        assert_eq!(told.status, 200);
        let key = Cosigner::new("witness", public(1)).unwrap();
        assert_eq!(key.check(&text, &told.body).unwrap().time, 5);
        assert!(key.check(&head.text(), &told.body).is_err());
    }

    #[test]
    fn nothing_is_cosigned_that_is_not_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("memory.json");
        let witness = notary(&path).unwrap();
        // A folder where the file is to be written: also root can't.
        fs::create_dir(path.with_extension("new")).unwrap();
        assert_eq!(witness.add(&ask(0, 7, 7, 2, ORIGIN), 5).status, 500);
        assert!(witness.known().is_empty());
        fs::remove_dir(path.with_extension("new")).unwrap();
        assert_eq!(witness.add(&ask(0, 7, 7, 2, ORIGIN), 5).status, 200);
    }
}
