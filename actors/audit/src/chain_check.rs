//! Checks one batch of an export: its place in its chain, its signature, and the events that follow it.

use std::collections::BTreeMap;

use aesp_audit_receipt::{head, proven_root, signature_input};
use aesp_merkle::{Hash, Tree, leaf_hash};
use aesp_proto::{
    TenantId, WriterId,
    v1::{AuditBatch, AuditBatchProof, AuditLeaf},
};
use prost::Message;

use crate::{
    PublicKey, leaf,
    line::{BatchLine, ChainEnd},
    verify::Fault,
};

/// A batch whose events are being read.
pub(crate) struct OpenBatch {
    pub(crate) writer: WriterId,
    first_sequence: u64,
    hashes: Vec<Hash>,
    seen: usize,
    /// The hashes are not those that were signed: if no event shows why by itself, the batch is reported.
    fault: Option<String>,
}

impl OpenBatch {
    pub(crate) fn is_complete(&self) -> bool {
        self.seen == self.hashes.len()
    }

    pub(crate) fn next_sequence(&self) -> u64 {
        self.first_sequence + self.seen as u64
    }

    /// Checks the next event.
    pub(crate) fn check(
        &mut self,
        bytes: &[u8],
        leaf: Option<&AuditLeaf>,
        tenant: TenantId,
    ) -> Result<(), &'static str> {
        let hash = leaf_hash(bytes);
        if self.hashes[self.seen] != hash {
            let (before, after) = self.hashes.split_at(self.seen);
            return Err(if after.contains(&hash) {
                "the event that belongs here is missing or comes later"
            } else if before.contains(&hash) {
                "the event comes a second time or out of order"
            } else {
                "the event was changed or inserted"
            });
        }
        let leaf =
            leaf.filter(|leaf| leaf.encode_to_vec() == bytes).ok_or("the event is not in its fixed form")?;
        if leaf.format != leaf::FORMAT {
            return Err("the event has another format");
        }
        if leaf.tenant_id != tenant.as_bytes() {
            return Err("the event is another tenant's");
        }
        if leaf.writer_id != self.writer.as_bytes() {
            return Err("the event is another writer's");
        }
        if leaf.sequence != self.next_sequence() {
            return Err("an event before this one is missing, or this one was inserted");
        }
        self.seen += 1;
        Ok(())
    }

    /// Checks that nothing is left open.
    pub(crate) fn close(self) -> Result<(), Fault> {
        let sequence = self.next_sequence();
        if !self.is_complete() {
            let why = "the event that belongs here is missing".to_owned();
            return Err(Fault { event: None, sequence: Some(sequence), why });
        }
        self.fault.map_or(Ok(()), |why| Err(why.as_str().into()))
    }
}

/// Checks the batch itself, and returns it with where its chain stands after it. In a part of a log a chain that was not met yet may
/// have begun before.
pub(crate) fn batch(
    line: &BatchLine,
    tenant: TenantId,
    keys: &[PublicKey],
    chains: &BTreeMap<WriterId, ChainEnd>,
    part: bool,
) -> Result<(OpenBatch, ChainEnd), Fault> {
    let proof = canonical::<AuditBatchProof>(&line.proof.0)?;
    let link = canonical::<AuditBatch>(&proof.batch)?;
    let writer = WriterId::from_slice(&link.writer_id).map_err(|_| "the batch names no writer")?;
    if link.format != leaf::FORMAT {
        return Err("the batch has another format".into());
    }
    if link.tenant_id != tenant.as_bytes() {
        return Err("the batch is another tenant's".into());
    }
    let end = match chains.get(&writer) {
        Some(end) => *end,
        None if part => ChainEnd {
            last_sequence: link.first_sequence.checked_sub(1).ok_or("the batch has no place in its chain")?,
            head: link.previous_head.as_slice().try_into().map_err(|_| "a head is not one")?,
        },
        None => ChainEnd { last_sequence: 0, head: [0; 32] },
    };
    let next = end.last_sequence + 1;
    let fault = |why: &str| Fault { event: None, sequence: Some(next), why: why.to_owned() };
    if link.first_sequence > next {
        return Err(fault("events are missing: the chain goes on later"));
    }
    if link.first_sequence < next || link.previous_head != end.head {
        return Err(fault("the batch does not continue its chain: one is missing, doubled or replaced"));
    }
    check_signature(&proof, keys).map_err(fault)?;
    let hashes: Option<Vec<Hash>> =
        line.leaf_hashes.iter().map(|hash| hash.0.as_slice().try_into().ok()).collect();
    let hashes = hashes.ok_or_else(|| fault("a leaf hash is not one"))?;
    let last_sequence = end.last_sequence + u64::from(link.count);
    let same = hashes.len() == link.count as usize
        && Tree::new(hashes.clone()).root().as_slice() == link.leaves_root;
    let fault =
        (!same).then(|| format!("not the events that the node signed (numbers {next} to {last_sequence})"));
    let open = OpenBatch { writer, first_sequence: next, hashes, seen: 0, fault };
    Ok((open, ChainEnd { last_sequence, head: head(&proof.batch) }))
}

fn check_signature(proof: &AuditBatchProof, keys: &[PublicKey]) -> Result<(), &'static str> {
    let key = keys.iter().find(|key| key.id().as_slice() == proof.key_id);
    let key = key.ok_or("the batch is signed by an unknown key")?;
    let root = proven_root(proof).ok_or("the path of the batch does not fit its place")?;
    if key.verifies(&signature_input(&root), &proof.signature) {
        Ok(())
    } else {
        Err("the signature of the batch is wrong")
    }
}

/// Decodes a message that must be in the one form that the Host writes.
fn canonical<M: Message + Default>(bytes: &[u8]) -> Result<M, Fault> {
    let message = M::decode(bytes).ok().filter(|message| message.encode_to_vec() == bytes);
    message.ok_or_else(|| "the batch is not in its fixed form".into())
}
