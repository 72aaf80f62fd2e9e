//! Proofs of the audit log, as requests ask for them.

use aesp_audit::PublicKey;
use aesp_call::Granted;
use aesp_merkle::Checkpoint;
use aesp_proto::{
    Error,
    v1::{
        BatchKey, ConsistencyProof, EventType, GetConsistencyProofRequest, GetInclusionProofRequest,
        GetLogKeysResponse, InclusionProof, LogCheckpoint, LogKey as LogKeyWire, Outcome,
    },
};
use aesp_transparency::{Entry, Log, LogKeys};

use super::Context;

/// Returns the newest checkpoint.
pub(super) async fn checkpoint(log: &Log) -> Result<LogCheckpoint, Error> {
    let note = log.checkpoint().await?;
    let head = Checkpoint::glance(&note)
        .ok_or_else(|| aesp_transparency::Error::Damaged("the last checkpoint is none".into()))?;
    Ok(LogCheckpoint { note, origin: head.origin, size: head.size, root: head.root.to_vec() })
}

/// Proves that an event is in the log.
pub(super) async fn inclusion(log: &Log, asked: &GetInclusionProofRequest) -> Result<InclusionProof, Error> {
    let entry = match super::optional(&asked.event_id)? {
        Some(event) => Entry::Event(event),
        None => Entry::Leaf(asked.leaf_index),
    };
    let proof = log.inclusion(entry, asked.size).await?;
    Ok(InclusionProof {
        origin: proof.origin,
        leaf_index: proof.index,
        leaf: proof.leaf.to_vec(),
        size: proof.size,
        root: proof.root.to_vec(),
        path: proof.path.iter().map(|hash| hash.to_vec()).collect(),
        checkpoint: proof.checkpoint.unwrap_or_default(),
    })
}

/// Proves that the log only grew.
pub(super) async fn consistency(
    log: &Log,
    asked: &GetConsistencyProofRequest,
) -> Result<ConsistencyProof, Error> {
    let proof = log.consistency(asked.from_size, asked.to_size).await?;
    Ok(ConsistencyProof {
        origin: proof.origin,
        from_size: proof.from.0,
        from_root: proof.from.1.to_vec(),
        to_size: proof.to.0,
        to_root: proof.to.1.to_vec(),
        proof: proof.proof.iter().map(|hash| hash.to_vec()).collect(),
        checkpoint: proof.checkpoint.unwrap_or_default(),
    })
}

/// Returns the public keys that sign checkpoints, the one that does now last.
pub(super) async fn public_keys(context: &Context) -> Result<Vec<PublicKey>, Error> {
    let keys = context.store.run(|tx| Box::pin(LogKeys::all(tx))).await?;
    Ok(keys.into_iter().map(|key| key.public).collect())
}

/// Returns the keys that sign checkpoints, and those that sign batches with their certificates.
pub(super) async fn keys(context: &Context) -> Result<GetLogKeysResponse, Error> {
    let read = context.store.run(|tx| {
        Box::pin(async move {
            Ok::<_, aesp_transparency::Error>((LogKeys::seals(tx).await?, LogKeys::since(tx).await?))
        })
    });
    let (seals, since) = read.await?;
    let Some(seals) = seals else { return Ok(GetLogKeysResponse::default()) };
    let certified =
        |(key, certificate): (PublicKey, Vec<u8>)| BatchKey { public_key: key.0.to_vec(), certificate };
    Ok(GetLogKeysResponse {
        keys: seals.log_keys.into_iter().zip(since).map(|(key, since)| key_on_the_wire(key, since)).collect(),
        batch_keys: seals.certificates.into_iter().map(certified).collect(),
    })
}

pub(super) fn key_on_the_wire(key: aesp_audit::LogKey, since: aesp_proto::Timestamp) -> LogKeyWire {
    let (by_previous, by_next) =
        key.handover.map(|handover| (handover.by_previous, handover.by_next)).unwrap_or_default();
    LogKeyWire {
        number: key.number,
        public_key: key.public.0.to_vec(),
        since_ms: since.0,
        handover_by_previous: by_previous,
        handover_by_next: by_next,
    }
}

/// Records that something was read of the log, or asked for in vain, before it goes out; it goes out only if it may be still.
pub(super) async fn read<T>(
    context: &Context,
    granted: &Granted,
    what: &str,
    outcome: Result<T, Error>,
) -> Result<T, Error> {
    let ended = if outcome.is_ok() { Outcome::Success } else { Outcome::Failure };
    let mut event = granted.event(EventType::DataAccess, ended, what);
    if let Err(error) = &outcome {
        event.details.reason = error.code().as_str_name().to_owned();
    }
    context.recorder.append(vec![event]).await?;
    context.access.still(granted).await?;
    outcome
}
