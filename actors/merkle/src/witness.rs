//! What a log says to a witness, and how a witness decides. Pure.
//!
//! Source: C2SP tlog-witness.

use data_encoding::BASE64;

use crate::{Checkpoint, Hash, note, proof::is_consistent};

/// Hashes of a proof that are read.
pub const PROOF_HASHES: usize = 63;
/// The most bytes of a request that are read: 63 hashes and a note with all its lines of signatures.
pub const REQUEST_BYTES: usize = 64 << 10;

/// The request to cosign a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// The size that the log believes the witness saw last.
    pub old: u64,
    /// Leads from there to the checkpoint.
    pub proof: Vec<Hash>,
    /// The signed checkpoint.
    pub note: String,
}

impl AddCheckpoint {
    /// Returns the body of the request.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = format!("old {}\n", self.old);
        for hash in &self.proof {
            out.push_str(&BASE64.encode(hash));
            out.push('\n');
        }
        out.push('\n');
        out.push_str(&self.note);
        out
    }

    /// Reads the body of a request; nothing if it has another form.
    #[must_use]
    pub fn read(body: &str) -> Option<Self> {
        let (head, note) = body.split_once("\n\n")?;
        let mut lines = head.split('\n');
        let number = lines.next()?.strip_prefix("old ")?;
        let old: u64 = number.parse().ok().filter(|old: &u64| old.to_string() == number)?;
        let mut proof = Vec::new();
        for line in lines {
            if proof.len() == PROOF_HASHES {
                return None;
            }
            proof.push(BASE64.decode(line.as_bytes()).ok()?.try_into().ok()?);
        }
        note::split(note).ok()?;
        Some(Self { old, proof, note: note.to_owned() })
    }
}

/// What a witness remembers of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Leaves.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
}

/// Why a witness does not cosign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The log believes that the witness saw another size than this one.
    #[error("the last size seen is {0}")]
    Conflict(u64),
    /// The checkpoint is of a smaller size than the log itself says that it had.
    #[error("the checkpoint is smaller than the size before it")]
    Backwards,
    /// The checkpoint has another root than the one of its size that was seen.
    #[error("another root of this size was seen")]
    Fork,
    /// The proof does not lead from what was seen to the checkpoint.
    #[error("the proof does not lead from the tree that was seen to the checkpoint")]
    Inconsistent,
}

/// Decides whether a checkpoint, whose signature was checked, goes on from what was seen of its log (nothing at the first).
///
/// # Errors
/// Why not. INVARIANT: whoever remembers what is let through here never cosigns two roots of a size, nor a smaller size.
pub fn goes_on(seen: Option<Seen>, old: u64, head: &Checkpoint, proof: &[Hash]) -> Result<Seen, Refusal> {
    let before = seen.map_or(0, |seen| seen.size);
    if old > head.size {
        return Err(Refusal::Backwards);
    }
    if old != before {
        return Err(Refusal::Conflict(before));
    }
    if seen.is_some_and(|seen| seen.size == head.size && seen.root != head.root) {
        return Err(Refusal::Fork);
    }
    let follows = match seen.filter(|seen| seen.size > 0) {
        Some(Seen { size, root }) => is_consistent((size, &root), (head.size, &head.root), proof),
        // Every tree goes on from the empty one, without a proof.
        None => proof.is_empty() && (head.size > 0 || head.root == crate::empty_root()),
    };
    if follows { Ok(Seen { size: head.size, root: head.root }) } else { Err(Refusal::Inconsistent) }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::Ed25519KeyPair;
    use proptest::prelude::*;

    use super::*;
    use crate::{Tree, leaf_hash};

    fn head(leaves: &[Hash], size: usize) -> Checkpoint {
        Checkpoint {
            origin: "log".into(),
            size: size as u64,
            root: Tree::new(leaves[..size].to_vec()).root(),
        }
    }

    fn proof(leaves: &[Hash], from: u64, to: u64) -> Vec<Hash> {
        let Some(needs) = crate::proof::Needs::consistency(from, to) else { return Vec::new() };
        let mut edge = crate::Edge::default();
        let mut tiles = Vec::new();
        leaves[..to as usize].iter().for_each(|leaf| edge.push(*leaf, &mut tiles));
        tiles.extend(edge.tiles());
        needs.hashes(&tiles.into_iter().collect()).unwrap()
    }

    #[test]
    fn requests_are_written_and_read() {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[1; 32]).unwrap();
        let note = Checkpoint { origin: "log".into(), size: 7, root: [7; 32] }.sign(&pair).unwrap();
        let asked = AddCheckpoint { old: 3, proof: vec![[1; 32], [2; 32]], note };
        assert!(asked.text().starts_with("old 3\nAQEBAQ"));
        assert_eq!(AddCheckpoint::read(&asked.text()), Some(asked.clone()));
        let first = AddCheckpoint { old: 0, proof: Vec::new(), ..asked.clone() };
        assert_eq!(AddCheckpoint::read(&first.text()), Some(first));
        for (from, to) in
            [("old 3", "old 03"), ("old 3", "old"), ("AQEB", "AQE"), ("\n\n\u{2014}", "\n\u{2014}")]
        {
            assert_eq!(AddCheckpoint::read(&asked.text().replacen(from, to, 1)), None, "{to}");
        }
    }

    proptest! {
        #[test]
        fn strangers_bytes_do_no_harm(body in "(\n|old 1|\u{2014} |[A-Za-z0-9+/=]{44}){0,80}") {
            if let Some(read) = AddCheckpoint::read(&body) {
                prop_assert_eq!(AddCheckpoint::read(&read.text()), Some(read));
            }
        }

        /// Whatever two histories a log shows, a witness cosigns one root of each size, and never a smaller one.
        #[test]
        fn a_witness_sees_one_history(
            fork in 0_usize..40,
            asked in prop::collection::vec((any::<bool>(), 1_usize..60, 0_u64..60), 1..40),
        ) {
            let leaf = |number: usize, other: bool| leaf_hash(&[number as u8, u8::from(other && number >= fork)]);
            let histories = [false, true].map(|other| (0..60).map(|number| leaf(number, other)).collect::<Vec<_>>());
            let (mut seen, mut cosigned) = (None::<Seen>, std::collections::BTreeMap::new());
            for (other, size, guess) in asked {
                let leaves = &histories[usize::from(other)];
                let head = head(leaves, size);
                for old in [guess, seen.map_or(0, |seen| seen.size)] {
                    let proof = if old <= head.size { proof(leaves, old, head.size) } else { Vec::new() };
                    match goes_on(seen, old, &head, &proof) {
                        Ok(now) => {
                            prop_assert!(seen.is_none_or(|seen| seen.size <= now.size));
                            let root = *cosigned.entry(now.size).or_insert(now.root);
                            prop_assert_eq!(root, now.root);
                            seen = Some(now);
                        }
                        Err(Refusal::Conflict(size)) => prop_assert_eq!(size, seen.map_or(0, |seen| seen.size)),
                        Err(_) => {}
                    }
                }
            }
            // All of them belong to one history.
            let of = |leaves: &[Hash]| cosigned.iter().all(|(size, root)| *root == Tree::new(leaves[..*size as usize].to_vec()).root());
            prop_assert!(of(&histories[0]) || of(&histories[1]));
        }
    }
}
