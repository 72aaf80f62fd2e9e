//! The chain of batches of one (writer, tenant), and the one signature over all the heads of a commit.

use aesp_audit_receipt::{head, signature_input};
use aesp_merkle::{Hash, Tree, leaf_hash};
use aesp_proto::{
    TenantId, WriterId,
    v1::{AuditBatch, AuditBatchProof},
};
use prost::Message;

use crate::{key::NodeKey, leaf::FORMAT};

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
    /// Returns the encoded batch of these leaves, the tree over them, and the link after it.
    pub(crate) fn extend(
        self,
        writer: WriterId,
        tenant: TenantId,
        leaves: Vec<Hash>,
    ) -> (Vec<u8>, Tree, Self) {
        let count = u32::try_from(leaves.len()).expect("a commit holds less than 65,536 leaves of a tenant");
        let tree = Tree::new(leaves);
        let batch = AuditBatch {
            format: FORMAT,
            writer_id: writer.as_bytes().to_vec(),
            tenant_id: tenant.as_bytes().to_vec(),
            first_sequence: self.next_sequence,
            count,
            previous_head: self.head.to_vec(),
            leaves_root: tree.root().to_vec(),
        };
        let batch = batch.encode_to_vec();
        let link = Self { next_sequence: self.next_sequence + u64::from(count), head: head(&batch) };
        (batch, tree, link)
    }
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
