//! The chain of batches of one (writer, tenant), and the one signature over all the heads of a commit.

use aesp_merkle::{Hash, Tree, leaf_hash, root_of_path, sha256};
use aesp_proto::{
    TenantId, WriterId,
    v1::{AuditBatch, AuditBatchProof},
};
use prost::Message;

use crate::{key::NodeKey, leaf::FORMAT};

const HEAD_PREFIX: &[u8] = b"aesp-audit-head-v1\n";
const SIGNED_PREFIX: &[u8] = b"aesp-audit-batch-v1\n";

/// Where a chain stands: what the next batch links to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    /// Sequence of the next leaf; the first has 1.
    pub(crate) next_sequence: u64,
    /// Head of the batch before; zeros before the first.
    pub(crate) head: Hash,
}

impl Default for Link {
    fn default() -> Self {
        Self { next_sequence: 1, head: [0; 32] }
    }
}

impl Link {
    /// Returns the encoded batch of these leaves and the link after it.
    pub(crate) fn extend(self, writer: WriterId, tenant: TenantId, leaves: Vec<Hash>) -> (Vec<u8>, Self) {
        let count = u32::try_from(leaves.len()).expect("a commit holds less than 65,536 leaves of a tenant");
        let batch = AuditBatch {
            format: FORMAT,
            writer_id: writer.as_bytes().to_vec(),
            tenant_id: tenant.as_bytes().to_vec(),
            first_sequence: self.next_sequence,
            count,
            previous_head: self.head.to_vec(),
            leaves_root: Tree::new(leaves).root().to_vec(),
        };
        let batch = batch.encode_to_vec();
        let link = Self { next_sequence: self.next_sequence + u64::from(count), head: head(&batch) };
        (batch, link)
    }
}

/// Returns the head of an encoded `AuditBatch`.
pub(crate) fn head(batch: &[u8]) -> Hash {
    sha256(&[HEAD_PREFIX, batch])
}

/// Returns the bytes that the node signs for a commit.
pub(crate) fn signature_input(root_of_heads: &Hash) -> Vec<u8> {
    [SIGNED_PREFIX, root_of_heads].concat()
}

/// Signs the commit of these encoded batches: one signature, and for each batch its own path to it.
pub(crate) fn sign(key: &NodeKey, batches: Vec<Vec<u8>>) -> Vec<AuditBatchProof> {
    let tree = Tree::new(batches.iter().map(|batch| leaf_hash(&head(batch))).collect());
    let signature = key.sign(&signature_input(&tree.root()));
    let head_count = batches.len() as u64;
    let prove = |(index, batch)| AuditBatchProof {
        batch,
        head_index: index as u64,
        head_count,
        path: tree.path(index).into_iter().map(|hash| hash.to_vec()).collect(),
        signature: signature.clone(),
        key_id: key.id().to_vec(),
    };
    batches.into_iter().enumerate().map(prove).collect()
}

/// Returns the root of heads that the proof leads to, or `None` if its path can't belong to its place.
pub(crate) fn proven_root(proof: &AuditBatchProof) -> Option<Hash> {
    let path: Option<Vec<Hash>> = proof.path.iter().map(|hash| hash.as_slice().try_into().ok()).collect();
    let leaf = leaf_hash(&head(&proof.batch));
    root_of_path(leaf, proof.head_index, proof.head_count, &path?)
}
