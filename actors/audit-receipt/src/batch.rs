//! The signed batch: its head in its chain, and the way from there to the signature of the commit.

use aesp_merkle::{Hash, leaf_hash, root_of_path, sha256};
use aesp_proto::v1::AuditBatchProof;

const HEAD_PREFIX: &[u8] = b"aesp-audit-head-v1\n";
const SIGNED_PREFIX: &[u8] = b"aesp-audit-batch-v1\n";

/// Returns the head of an encoded `AuditBatch`.
#[must_use]
pub fn head(batch: &[u8]) -> Hash {
    sha256(&[HEAD_PREFIX, batch])
}

/// Returns the bytes that the node signs for a commit.
#[must_use]
pub fn signature_input(root_of_heads: &Hash) -> Vec<u8> {
    [SIGNED_PREFIX, root_of_heads].concat()
}

/// Returns the root of heads that the proof leads to, or `None` if its path can't belong to its place.
#[must_use]
pub fn proven_root(proof: &AuditBatchProof) -> Option<Hash> {
    let path: Option<Vec<Hash>> = proof.path.iter().map(|hash| hash.as_slice().try_into().ok()).collect();
    root_of_path(leaf_hash(&head(&proof.batch)), proof.head_index, proof.head_count, &path?)
}
