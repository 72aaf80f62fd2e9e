use std::{fmt, sync::Arc};

use aesp_merkle::Tree;
use aesp_proto::v1::AuditReceipt;
use bytes::Bytes;

/// Bytes of a hash.
const HASH_BYTES: usize = 32;

/// What a commit signed for an event: cheap to hand on; the path is looked up when it is written.
#[derive(Clone)]
pub struct Receipt {
    batch: Arc<SignedBatch>,
    index: usize,
    leaf: Bytes,
}

/// A tenant's batch of a commit, shared by all its receipts.
pub(crate) struct SignedBatch {
    /// An encoded `AuditBatchProof`.
    pub(crate) proof: Bytes,
    pub(crate) leaves: Tree,
}

impl Receipt {
    pub(crate) fn new(batch: Arc<SignedBatch>, index: usize, leaf: Bytes) -> Self {
        Self { batch, index, leaf }
    }

    /// Returns the receipt as it goes out with an answer.
    #[must_use]
    pub fn to_wire(&self) -> AuditReceipt {
        let path = Bytes::from(self.batch.leaves.path(self.index).into_flattened());
        AuditReceipt {
            format: aesp_audit_receipt::FORMAT,
            leaf: self.leaf.clone(),
            leaf_index: self.index as u64,
            path: (0..path.len()).step_by(HASH_BYTES).map(|at| path.slice(at..at + HASH_BYTES)).collect(),
            proof: self.batch.proof.clone(),
        }
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receipt").field("index", &self.index).finish_non_exhaustive()
    }
}
