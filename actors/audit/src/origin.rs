use std::sync::Arc;

use aesp_audit_receipt::head;
use aesp_merkle::Checkpoint;
use aesp_proto::{
    Clock, Entropy, TenantId,
    v1::{AuditBatchProof, EventType, Outcome},
};
use aesp_storage::{Error as StoreError, Range, Store, Transaction};
use data_encoding::HEXLOWER;
use futures::{StreamExt, TryStreamExt, stream};
use prost::Message;

use crate::{
    Duty, Error, Event, Options, Recorder, checkpoints,
    rows::{self, Commit},
    shelf,
};

/// What the first event of a log says that goes on in a restored store.
const ACTION: &str = "store.restored";
/// Tenants whose logs are opened at the same time.
const AT_ONCE: usize = 256;

/// Where the logs of a store go on after it was restored or imported.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The log epoch that the store was raised to: later than that of any event in it.
    pub log_epoch: u32,
    /// What is known of where the store came from, as names and values; stands sealed in each tenant's first event.
    pub told: Vec<(String, String)>,
}

/// Opens the log of every tenant of a store in which no node serves: its next event, `store.restored`, is the first of a new
/// chain in the new log epoch and names the last commit that is there, the head of its batch, and the last checkpoint. A log that was opened already
/// is left alone. Returns how many were opened.
///
/// A tenant whose keys were destroyed gets the event without what is sealed.
///
/// # Errors
/// The store's; [`Error::Damaged`] if the last batch of a log is none.
pub async fn open_origins(
    store: &Store,
    clock: Arc<dyn Clock>,
    entropy: &Entropy,
    origin: &Origin,
) -> Result<u64, Error> {
    let (recorder, duty) = start(store, clock, entropy).await?;
    let opened = open_all(store, &recorder, entropy, origin).await;
    drop(recorder);
    duty.stop().await?;
    opened
}

/// Does as [`open_origins`] for the log of one tenant; tells whether it was opened.
///
/// # Errors
/// Those of [`open_origins`].
pub async fn open_origin(
    store: &Store,
    clock: Arc<dyn Clock>,
    entropy: &Entropy,
    origin: &Origin,
    tenant: TenantId,
) -> Result<bool, Error> {
    let (recorder, duty) = start(store, clock, entropy).await?;
    let opened = open(store, &recorder, entropy, origin, tenant).await;
    drop(recorder);
    duty.stop().await?;
    opened
}

async fn start(store: &Store, clock: Arc<dyn Clock>, entropy: &Entropy) -> Result<(Recorder, Duty), Error> {
    let options = Options { writers: 1, ..Options::default() };
    Recorder::start(store.clone(), clock, entropy.clone(), options).await
}

async fn open_all(
    store: &Store,
    recorder: &Recorder,
    entropy: &Entropy,
    origin: &Origin,
) -> Result<u64, Error> {
    let (mut last, mut opened) = (None, 0);
    loop {
        let tenants = store.run(move |tx| Box::pin(tx.tenants_with_rows(last, AT_ONCE))).await?;
        let Some(end) = tenants.last().copied() else { return Ok(opened) };
        let opening = stream::iter(tenants).map(|tenant| open(store, recorder, entropy, origin, tenant));
        opened += opening
            .buffer_unordered(AT_ONCE)
            .try_fold(0, |sum, one| async move { Ok(sum + u64::from(one)) })
            .await?;
        last = Some(end);
    }
}

/// Opens one log, unless it was; tells which.
async fn open(
    store: &Store,
    recorder: &Recorder,
    entropy: &Entropy,
    origin: &Origin,
    tenant: TenantId,
) -> Result<bool, Error> {
    let (end, sealed, keys) = store.run(move |tx| Box::pin(end(tx, tenant))).await?;
    if end.as_ref().is_some_and(|(commit, _)| commit[..4] >= origin.log_epoch.to_be_bytes()[..]) {
        return Ok(false);
    }
    let mut event = Event::new(entropy, tenant, EventType::SystemEvent, ACTION, Outcome::Success);
    if keys {
        event.details.resource = "store".into();
        event.details.fields = origin.told.clone();
        let mut tell = |name: &str, value: String| event.details.fields.push((name.to_owned(), value));
        tell("log_epoch", origin.log_epoch.to_string());
        if let Some((commit, head)) = end {
            tell("last_commit", HEXLOWER.encode(&commit));
            tell("last_head", HEXLOWER.encode(&head));
        }
        if let Some(head) = sealed {
            tell("last_checkpoint_origin", head.origin);
            tell("last_checkpoint_size", head.size.to_string());
            tell("last_checkpoint_root", HEXLOWER.encode(&head.root));
        }
    }
    recorder.append(vec![event]).await?;
    Ok(true)
}

type End = Option<(Commit, [u8; 32])>;

/// Returns the last commit of the tenant's log with the head of its batch, the last checkpoint, and whether the tenant has keys.
async fn end(tx: &Transaction, tenant: TenantId) -> Result<(End, Option<Checkpoint>, bool), Error> {
    let keys = match tx.tenant_keys(tenant).await {
        Ok(_) => true,
        Err(StoreError::KeyDestroyed { .. }) => false,
        Err(error) => return Err(error.into()),
    };
    let sealed = checkpoints::last(tx, tenant).await?.and_then(|kept| Checkpoint::glance(&kept.note));
    let last = Range::prefix(&rows::batches(tenant)).limit(1).reverse(true).snapshot(true);
    let Some((key, proof)) = shelf::range(tx, tenant, last).await?.into_iter().next() else {
        return Ok((None, sealed, keys));
    };
    let commit = rows::commit(&key).ok_or(Error::Damaged("a batch has a bad key"))?;
    let proof = AuditBatchProof::decode(proof.as_ref()).map_err(|_| Error::Damaged("a proof"))?;
    Ok((Some((commit, head(&proof.batch))), sealed, keys))
}
