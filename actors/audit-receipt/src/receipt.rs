use aesp_merkle::{Hash, leaf_hash, root_of_path};
use aesp_proto::{
    EventId, TenantId, Timestamp,
    v1::{AuditBatch, AuditBatchProof, AuditLeaf, AuditReceipt},
};
use data_encoding::BASE64;
use prost::Message;
use serde::{Deserialize, Serialize};

use crate::{Error, KeyId, PublicKey, proven_root, signature_input};

/// The format of receipts, and what a kept one calls itself.
pub const FORMAT: u32 = 1;
const KEPT_FORMAT: &str = "aesp-audit-receipt-v1";
/// The format of leaves and batches.
const LOG_FORMAT: u32 = 1;

/// A receipt as it came with an answer, or as it was kept. Nothing in it is believed before [`Receipt::verify`].
#[derive(Clone, Debug, PartialEq)]
pub struct Receipt(AuditReceipt);

/// What a good receipt shows: that the Host acknowledged this event.
#[derive(Clone, Debug, PartialEq)]
pub struct Acknowledged {
    /// Names the event.
    pub event: EventId,
    /// The tenant in whose log it was written.
    pub tenant: TenantId,
    /// When, as the Host's clock says.
    pub at: Timestamp,
    /// The event itself, its sensitive part sealed.
    pub leaf: AuditLeaf,
    /// The hash that stands for it in every tree.
    pub leaf_hash: Hash,
    /// The key that signed.
    pub key: PublicKey,
}

/// A line of a file of receipts.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    format: String,
    /// For people; what counts is in the receipt.
    event_id: String,
    receipt: String,
}

impl From<AuditReceipt> for Receipt {
    fn from(receipt: AuditReceipt) -> Self {
        Self(receipt)
    }
}

impl Receipt {
    /// Returns the bytes of the event's leaf.
    #[must_use]
    pub fn leaf(&self) -> &[u8] {
        &self.0.leaf
    }

    /// Returns which event it is said to be for, of which tenant.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn told(&self) -> Result<(TenantId, EventId), Error> {
        let leaf = canonical::<AuditLeaf>(&self.0.leaf, "its event is not in its fixed form")?;
        names(&leaf)
    }

    /// Returns the name of the key that is said to have signed.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn key_id(&self) -> Result<KeyId, Error> {
        let proof = canonical::<AuditBatchProof>(&self.0.proof, "its proof is not in its fixed form")?;
        proof.key_id.as_slice().try_into().map_err(|_| Error::Malformed("it names no key"))
    }

    /// Checks that the event is in a batch that one of these keys signed.
    ///
    /// # Errors
    /// The [`Error`] that says what is wrong.
    pub fn verify(&self, trusted: &[PublicKey]) -> Result<Acknowledged, Error> {
        let receipt = &self.0;
        if receipt.format != FORMAT {
            return Err(Error::Malformed("it has another format"));
        }
        let leaf = canonical::<AuditLeaf>(&receipt.leaf, "its event is not in its fixed form")?;
        let proof = canonical::<AuditBatchProof>(&receipt.proof, "its proof is not in its fixed form")?;
        let batch = canonical::<AuditBatch>(&proof.batch, "its batch is not in its fixed form")?;
        if (leaf.format, batch.format) != (LOG_FORMAT, LOG_FORMAT) {
            return Err(Error::Malformed("its event or its batch has another format"));
        }
        if leaf.tenant_id != batch.tenant_id || leaf.writer_id != batch.writer_id {
            return Err(Error::Altered("the event and the batch are not of one log"));
        }
        if leaf.sequence.checked_sub(batch.first_sequence) != Some(receipt.leaf_index) {
            return Err(Error::Altered("the event has another place in its chain"));
        }
        let (tenant, event) = names(&leaf)?;
        let path: Option<Vec<Hash>> = receipt.path.iter().map(|hash| hash.as_ref().try_into().ok()).collect();
        let path = path.ok_or(Error::Malformed("a hash of its path has not 32 bytes"))?;
        let leaf_hash = leaf_hash(&receipt.leaf);
        let root = root_of_path(leaf_hash, receipt.leaf_index, batch.count.into(), &path);
        if root.as_ref().map(Hash::as_slice) != Some(&batch.leaves_root) {
            return Err(Error::Altered("the path does not lead from the event to the batch"));
        }
        let key_id = self.key_id()?;
        let key = trusted.iter().find(|key| key.id() == key_id).ok_or(Error::UnknownKey(key_id))?;
        let heads =
            proven_root(&proof).ok_or(Error::Altered("the path of the batch does not fit its place"))?;
        if !key.verifies(&signature_input(&heads), &proof.signature) {
            return Err(Error::Signature);
        }
        Ok(Acknowledged { event, tenant, at: Timestamp(leaf.timestamp_ms), leaf, leaf_hash, key: *key })
    }

    /// Returns the line, without its end, that stands for the receipt in a file.
    ///
    /// # Errors
    /// [`Error::Malformed`] if it holds no event.
    pub fn to_line(&self) -> Result<String, Error> {
        let kept = Kept {
            format: KEPT_FORMAT.to_owned(),
            event_id: self.told()?.1.to_string(),
            receipt: BASE64.encode(&self.0.encode_to_vec()),
        };
        serde_json::to_string(&kept).map_err(|_| Error::Malformed("it can't be written as a line"))
    }

    /// Reads a line of a file of receipts.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn from_line(line: &str) -> Result<Self, Error> {
        let kept: Kept =
            serde_json::from_str(line).map_err(|_| Error::Malformed("the line is none of a receipt"))?;
        if kept.format != KEPT_FORMAT {
            return Err(Error::Malformed("it has another format"));
        }
        let bytes = BASE64.decode(kept.receipt.as_bytes());
        let bytes = bytes.map_err(|_| Error::Malformed("it is not canonical base 64"))?;
        let receipt = Self(canonical(&bytes, "it is not in its fixed form")?);
        // What people read in the line must be what the receipt is for.
        match receipt.to_line() {
            Ok(same) if same == line => Ok(receipt),
            _ => Err(Error::Malformed("the line says something else than the receipt")),
        }
    }
}

fn names(leaf: &AuditLeaf) -> Result<(TenantId, EventId), Error> {
    let event = EventId::from_slice(&leaf.event_id).map_err(|_| Error::Malformed("it names no event"))?;
    let tenant = TenantId::from_slice(&leaf.tenant_id).map_err(|_| Error::Malformed("it names no tenant"))?;
    Ok((tenant, event))
}

/// Decodes a message that must be in the one form that the Host writes.
fn canonical<M: Message + Default>(bytes: &[u8], otherwise: &'static str) -> Result<M, Error> {
    let message = M::decode(bytes).ok().filter(|message| message.encode_to_vec() == bytes);
    message.ok_or(Error::Malformed(otherwise))
}

#[cfg(test)]
mod tests;
