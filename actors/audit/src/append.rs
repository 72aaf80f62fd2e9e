//! One attempt at a batch, inside its transaction.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use aesp_merkle::{Hash, leaf_hash};
use aesp_proto::{Clock, TenantId, Timestamp, WriterId};
use aesp_storage::{AuditKey, Error as StoreError, TenantKeys, Transaction};
use bytes::Bytes;
use data_encoding::BASE64;
use prost::Message;

use crate::{
    Error, Event,
    batch::{self, Link},
    feed,
    key::NodeKey,
    leaf::{self, Place},
    receipt::{Receipt, SignedBatch},
    retention::{self, RetentionPolicy},
    rows::{self, WriterRow},
    unit::{Failed, Unit},
};

/// Bytes that a tenant's batch row adds to a commit, about: batch, path, signature, key.
const BATCH_ROW_BYTES: usize = 700;
/// Bytes of an event's key.
const KEY_BYTES: usize = 34;
/// The most events of one tenant in a commit: their index has 16 bits.
pub(crate) const MAX_EVENTS: usize = 65_535;

/// The chains of one writer, as they stand after its last commit.
#[derive(Clone)]
pub(crate) struct Chains {
    pub(crate) writer: WriterId,
    /// Whether the writer's row is committed.
    pub(crate) begun: bool,
    pub(crate) links: HashMap<TenantId, Link>,
    pub(crate) last_timestamp: Timestamp,
}

/// Units to commit together, with all that the closure needs; it may run several times.
pub(crate) struct Batch {
    pub(crate) units: Vec<Arc<dyn Unit>>,
    pub(crate) chains: Arc<Chains>,
    pub(crate) key: Arc<NodeKey>,
    /// Comes before the versionstamps of this life of the store.
    pub(crate) log_epoch: u32,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) limit_bytes: usize,
}

/// What an attempt did, to be applied once it is committed.
pub(crate) struct Appended {
    /// How many of the units ran; the rest did not fit.
    pub(crate) ran: usize,
    pub(crate) events: u64,
    pub(crate) links: Vec<(TenantId, Link)>,
    pub(crate) timestamp: Timestamp,
    /// Of each unit that ran, for its last event.
    pub(crate) receipts: Vec<Option<Receipt>>,
}

/// Why an attempt must not commit.
#[derive(Debug)]
pub(crate) enum Stop {
    /// This unit failed after it had written something.
    Unit(usize),
    /// All of it failed.
    Store(StoreError),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Batch {
    /// Runs the units one after the other, each seeing what those before it wrote, and appends their events.
    pub(crate) async fn append(&self, tx: &Transaction) -> Result<Appended, Stop> {
        let mut growth = Growth::new(self);
        let mut written = Vec::with_capacity(self.units.len());
        for (index, unit) in self.units.iter().enumerate() {
            let outcome = match unit.run(tx).await {
                Ok(events) => growth.add(tx, &events).await,
                Err(Failed) => Err(Refusal::Dirty),
            };
            match outcome {
                Ok(last) => {
                    growth.bytes += unit.guessed_bytes();
                    written.push(last);
                }
                Err(Refusal::Dirty) => return Err(Stop::Unit(index)),
                Err(Refusal::Event(error)) => {
                    unit.refuse(error);
                    return Err(Stop::Unit(index));
                }
                Err(Refusal::Store(error)) => return Err(Stop::Store(error)),
            }
            if growth.bytes >= self.limit_bytes {
                break;
            }
        }
        let (timestamp, events) = (growth.timestamp, growth.events);
        let (links, signed) = growth.finish(tx).await?;
        let ran = written.len();
        let receipt = |last: Written| Some(Receipt::new(signed[last.chain].clone()?, last.index, last.leaf));
        let receipts = written.into_iter().map(|last| last.and_then(receipt)).collect();
        Ok(Appended { ran, events, links, timestamp, receipts })
    }
}

/// Why a unit does not take part.
enum Refusal {
    /// It failed by itself, and may have left writes behind.
    Dirty,
    /// Its events can't be written.
    Event(Error),
    /// The store fails for everybody.
    Store(StoreError),
}

/// The chains as they grow in this attempt.
struct Growth<'a> {
    batch: &'a Batch,
    chains: Vec<Grown>,
    by_tenant: HashMap<TenantId, usize>,
    timestamp: Timestamp,
    events: u64,
    /// What the log writes, and a guess at what the changes write.
    bytes: usize,
}

/// What was signed, for each of the chains of an attempt.
type Signed = Vec<Option<Arc<SignedBatch>>>;

/// The last event of a unit, where it stands.
struct Written {
    chain: usize,
    index: usize,
    leaf: Bytes,
}

struct Grown {
    tenant: TenantId,
    link: Link,
    /// What seals the tenant's events, with the rules of how long they are kept.
    keys: Result<(Arc<TenantKeys>, Arc<RetentionPolicy>), StoreError>,
    prefix: Vec<u8>,
    leaves: Vec<Hash>,
}

impl<'a> Growth<'a> {
    fn new(batch: &'a Batch) -> Self {
        let timestamp = batch.clock.now().max(batch.chains.last_timestamp);
        Self { batch, chains: Vec::new(), by_tenant: HashMap::new(), timestamp, events: 0, bytes: 0 }
    }

    /// Appends the events and returns the last.
    async fn add(&mut self, tx: &Transaction, events: &[Event]) -> Result<Option<Written>, Refusal> {
        let mut last = None;
        for event in events {
            let (writer, timestamp) = (self.batch.chains.writer, self.timestamp);
            let chain = self.chain(tx, event.tenant).await?;
            let grown = &mut self.chains[chain];
            let index =
                u16::try_from(grown.leaves.len()).ok().filter(|index| usize::from(*index) < MAX_EVENTS);
            let index = index.ok_or(Refusal::Event(Error::TooManyEvents(grown.leaves.len())))?;
            let place = Place { writer, sequence: grown.link.next_sequence + u64::from(index), timestamp };
            let key = grown.key(tx, event, timestamp).await?;
            let keys = key.as_ref().map(|(keys, key)| (&**keys, &**key));
            let leaf = leaf::encode(event, place, keys).map_err(Refusal::Event)?;
            let size = leaf.len();
            grown.leaves.push(leaf_hash(&leaf));
            tx.set_versionstamped_key(&grown.prefix, &index.to_be_bytes(), &leaf).map_err(
                |error| match error {
                    StoreError::TooLarge { .. } => Refusal::Event(error.into()),
                    error => Refusal::Store(error),
                },
            )?;
            self.events += 1;
            self.bytes += KEY_BYTES + size;
            last = Some(Written { chain, index: index.into(), leaf: leaf.into() });
        }
        Ok(last)
    }

    /// Returns which of the chains is the tenant's.
    async fn chain(&mut self, tx: &Transaction, tenant: TenantId) -> Result<usize, Refusal> {
        Ok(match self.by_tenant.entry(tenant) {
            Entry::Occupied(entry) => *entry.get(),
            Entry::Vacant(entry) => {
                let keys = match keys(tx, tenant).await {
                    Err(error) if concerns_all(&error) => return Err(Refusal::Store(error)),
                    keys => keys,
                };
                let link = self.batch.chains.links.get(&tenant).copied().unwrap_or_default();
                let prefix = rows::before_stamp(rows::events(tenant), self.batch.log_epoch);
                self.bytes += BATCH_ROW_BYTES;
                self.chains.push(Grown { tenant, link, keys, prefix, leaves: Vec::new() });
                *entry.insert(self.chains.len() - 1)
            }
        })
    }

    /// Links, signs and writes the batches. Returns the links, and for each of the chains what was signed.
    async fn finish(self, tx: &Transaction) -> Result<(Vec<(TenantId, Link)>, Signed), StoreError> {
        let Batch { chains, key, log_epoch, .. } = self.batch;
        if !chains.begun && self.events > 0 {
            let row = WriterRow {
                public_key: BASE64.encode(&key.public().0),
                key_id: *key.id(),
                started_at: self.timestamp,
            };
            tx.put(TenantId::PLATFORM, &chains.writer, &row).await?;
        }
        let mut signed = vec![None; self.chains.len()];
        let (mut links, mut batches, mut trees) = (Vec::new(), Vec::new(), Vec::new());
        for (chain, grown) in self.chains.into_iter().enumerate() {
            if grown.leaves.is_empty() {
                continue;
            }
            let (batch, tree, link) = grown.link.extend(chains.writer, grown.tenant, grown.leaves);
            links.push((grown.tenant, link));
            batches.push(batch);
            trees.push((chain, tree));
        }
        if links.is_empty() {
            return Ok((links, signed));
        }
        feed::announce(tx, *log_epoch, self.timestamp, links.iter().map(|(tenant, _)| *tenant))?;
        let proofs = batch::sign(key, batches);
        for (((tenant, _), (chain, leaves)), proof) in links.iter().zip(trees).zip(proofs) {
            let prefix = rows::before_stamp(rows::batches(*tenant), *log_epoch);
            let proof = Bytes::from(proof.encode_to_vec());
            tx.set_versionstamped_key(&prefix, &[], &proof)?;
            signed[chain] = Some(Arc::new(SignedBatch { proof, leaves }));
        }
        Ok((links, signed))
    }
}

impl Grown {
    /// Returns what seals the event's details. An event without details needs no key, so that the end of a tenant whose keys are
    /// destroyed can still be recorded.
    async fn key(
        &self,
        tx: &Transaction,
        event: &Event,
        at: Timestamp,
    ) -> Result<Option<(Arc<TenantKeys>, Arc<AuditKey>)>, Refusal> {
        if event.details.is_empty() {
            return Ok(None);
        }
        let (keys, rules) = self.keys.as_ref().map_err(|error| Refusal::Event(error.clone().into()))?;
        let period = rules.period_of(event, at);
        let key = tx.audit_sealer(self.tenant, period, retention::subject_of(event)).await;
        match key {
            Ok(key) => Ok(Some((Arc::clone(keys), key))),
            Err(error) if concerns_all(&error) => Err(Refusal::Store(error)),
            Err(error) => Err(Refusal::Event(error.into())),
        }
    }
}

async fn keys(
    tx: &Transaction,
    tenant: TenantId,
) -> Result<(Arc<TenantKeys>, Arc<RetentionPolicy>), StoreError> {
    let keys = tx.tenant_keys(tenant).await?;
    let rules = retention::rules(tx, tenant, &keys).await?;
    Ok((keys, rules))
}

/// Tells whether the error is the store's trouble rather than that of one tenant's keys.
fn concerns_all(error: &StoreError) -> bool {
    use StoreError as E;
    matches!(error, E::Conflict | E::CommitUnknown | E::Timeout | E::Unavailable(_) | E::Full)
}
