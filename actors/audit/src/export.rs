use std::collections::{BTreeMap, VecDeque};

use aesp_audit_receipt::head;
use aesp_merkle::{Hash, leaf_hash};
use aesp_proto::{
    Clock, TenantId, WriterId,
    v1::{AuditBatch, AuditBatchProof, AuditLeaf},
};
use aesp_storage::{Range, Store, Transaction};
use bytes::Bytes;
use futures::{Stream, stream};
use prost::Message;
use serde::Serialize;

use crate::{
    Error, LogKey, PublicKey,
    checkpoints::{self, Head, Kept},
    key::{self, NodeKey},
    line::{
        self, Base64, BatchLine, ChainEnd, CheckpointLine, Digest, EventLine, Header, Line, RangeLine,
        Trailer, View,
    },
    range_check::TimeRange,
    rows::{self, Commit, Position, past_commit as past},
    shelf,
    view::{self, Keys},
};

/// Bytes of leaves read in one transaction before the next begins; a commit is read whole.
const PART_BYTES: usize = 1_000_000;
/// Batches read at once.
const PART_BATCHES: usize = 256;
/// Checkpoints read at once.
const CHECKPOINTS: usize = 1_000;

type Row = (Bytes, Bytes);

/// What the log keys bring to an export.
#[derive(Clone, Debug)]
pub struct Seals {
    /// Every log key, in the order of their numbers.
    pub log_keys: Vec<LogKey>,
    /// Keys that sign batches, with the signatures of the last log key ([`node_key_text`](crate::node_key_text)).
    pub certificates: Vec<(PublicKey, Vec<u8>)>,
}

/// A part of a tenant's log, for an export of a time range: whole commits, and what leads from their leaves to signed roots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// The range that is asked for.
    pub range: TimeRange,
    /// The place of an event in the first commit; nothing if there is none.
    pub first: Option<Position>,
    /// The tree that the first commit belongs to, and its leaves before that commit.
    pub head: Head,
    /// The roots of the perfect trees that these leaves fall into, the largest first.
    pub before: Vec<Hash>,
    /// The checkpoint that the part ends with, and the place of its last leaf; nothing if it ends where the log does.
    pub end: Option<(Kept, Position)>,
}

/// A tenant's log with its proofs, as JSON Lines, part by part; later commits are left out.
pub struct Export {
    store: Store,
    tenant: TenantId,
    key: NodeKey,
    header: Option<Header>,
    /// Comes after the header of an export of a part.
    range: Option<RangeLine>,
    /// The last commit that is exported.
    end: Option<Commit>,
    /// The last commit that was written out.
    after: Option<Commit>,
    trailer: Option<Trailer>,
    digest: Digest,
    /// Where the tree is of which the checkpoints are, if they are exported.
    leaves: Option<Leaves>,
    /// The last checkpoint when the export began: all that it covers is exported.
    sealed: Option<Kept>,
}

/// Counts the leaves of the trees, to put each checkpoint behind its last one.
#[derive(Clone, Debug, Default)]
struct Leaves {
    head: Head,
    /// Checkpoints whose leaves are not written out yet, in order.
    next: VecDeque<Kept>,
    /// The last that was read.
    after: Option<Head>,
    /// Whether that was the last of all.
    complete: bool,
    /// The last checkpoint when the export began, as long as it is not written out; a newer one may have taken its place since.
    newest: Option<Kept>,
}

/// What one transaction read, in the order of commits. Leaves without a batch are not the writer's; they are
/// exported all the same, for the verifier to find.
struct Part {
    commits: Vec<(Option<Row>, Vec<Row>)>,
    keys: Keys,
    more: bool,
}

impl Leaves {
    /// Returns the next checkpoint, if it is not beyond `head`.
    async fn next(&mut self, store: &Store, tenant: TenantId, head: Head) -> Result<Option<Kept>, Error> {
        if self.next.is_empty() && !self.complete {
            let after = self.after;
            let read = store.run(move |tx| Box::pin(checkpoints::after(tx, tenant, after, CHECKPOINTS)));
            let read = read.await?;
            self.complete = read.len() < CHECKPOINTS;
            self.after = read.last().map(|kept| kept.head).or(self.after);
            self.next.extend(read);
        }
        let front = self.next.front().map(|kept| kept.head);
        let newest = self
            .newest
            .take_if(|newest| newest.head <= head && front.is_none_or(|front| front >= newest.head));
        match newest {
            None => Ok(self.next.pop_front_if(|kept| kept.head <= head)),
            Some(newest) => {
                self.next.pop_front_if(|kept| kept.head == newest.head);
                Ok(Some(newest))
            }
        }
    }
}

impl Export {
    /// Fixes where the export ends.
    ///
    /// # Errors
    /// The store's, or [`Error::Key`] if the audit key is damaged.
    pub async fn open(store: &Store, clock: &dyn Clock, tenant: TenantId) -> Result<Self, Error> {
        let key = NodeKey::load_or_create(store).await?;
        let (keys, end, sealed) = store
            .run(move |tx| {
                Box::pin(async move {
                    let mut end = None;
                    for prefix in [rows::batches(tenant), rows::events(tenant)] {
                        let last = Range::prefix(&prefix).limit(1).reverse(true).snapshot(true);
                        let last = shelf::range(tx, tenant, last).await?;
                        let last = last.first().and_then(|(key, _)| rows::commit(key));
                        end = end.max(last);
                    }
                    let sealed = checkpoints::last(tx, tenant).await?;
                    Ok::<_, Error>((key::batch_keys(tx).await?, end, sealed))
                })
            })
            .await?;
        let header = Header {
            format: line::FORMAT.to_owned(),
            tenant,
            exported_at_ms: clock.now(),
            keys: keys.iter().map(|key| Base64(key.0.to_vec())).collect(),
            log_keys: None,
            certificates: None,
        };
        let trailer = Trailer {
            batches: 0,
            events: 0,
            chains: BTreeMap::new(),
            digest: Base64(Vec::new()),
            key_id: Base64(key.id().to_vec()),
            signature: Base64(Vec::new()),
        };
        let store = store.clone();
        let (header, trailer) = (Some(header), Some(trailer));
        let digest = Digest::default();
        let (after, range, leaves) = (None, None, None);
        Ok(Self { store, tenant, key, header, range, end, after, trailer, digest, leaves, sealed })
    }

    /// Exports no more than a part. To be called after [`Export::with_seals`].
    #[must_use]
    pub fn of_section(mut self, section: Section) -> Self {
        self.range = Some(RangeLine {
            start_ms: section.range.start,
            end_ms: section.range.end.unwrap_or_default(),
            log_epoch: section.head.log_epoch,
            first_leaf: section.head.size,
            before: section.before.iter().map(|hash| Base64(hash.to_vec())).collect(),
        });
        if let Some(first) = &section.first {
            self.after = rows::commit_of(first).checked_sub(1).map(rows::commit_at);
        }
        if let Some((kept, last)) = section.end {
            self.end = self.end.min(Some(rows::commit_at(rows::commit_of(&last))));
            self.sealed = Some(kept);
        }
        if let Some(leaves) = &mut self.leaves {
            let after = section.first.map(|_| section.head);
            *leaves = Leaves { head: section.head, after, newest: self.sealed.clone(), ..Leaves::default() };
        }
        self
    }

    /// Exports the checkpoints as well, and what they are verified with. To be called before the first part is taken.
    ///
    /// # Errors
    /// [`Error::Key`] if a key that signed batches is not certified.
    pub fn with_seals(mut self, seals: &Seals) -> Result<Self, Error> {
        let Some(header) = self.header.as_mut() else { return Ok(self) };
        let certificate = |key: &Base64| {
            let found = seals.certificates.iter().find(|(certified, _)| certified.0.as_slice() == key.0);
            found.map(|(_, signature)| Base64(signature.clone()))
        };
        let certificates: Option<Vec<Base64>> = header.keys.iter().map(certificate).collect();
        header.certificates = Some(certificates.ok_or(Error::Key("a key of batches is not certified"))?);
        header.log_keys = Some(seals.log_keys.iter().map(Into::into).collect());
        header.format = line::SEALED_FORMAT.to_owned();
        self.leaves = Some(Leaves { newest: self.sealed.clone(), ..Leaves::default() });
        Ok(self)
    }

    /// Returns the next whole lines, or `None` after the trailer.
    ///
    /// # Errors
    /// The store's, or [`Error::Damaged`] if rows of the log can't be read at all.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let Some(mut trailer) = self.trailer.take() else { return Ok(None) };
        let mut out = Vec::new();
        if let Some(header) = self.header.take() {
            write(&mut out, &Line::<View>::Header(header))?;
        }
        if let Some(range) = self.range.take() {
            write(&mut out, &Line::<View>::Range(range))?;
        }
        let part = self.read().await?;
        for (proof, leaves) in part.commits {
            let mut checkpoints = self.checkpoints(&leaves).await?;
            self.after = leaves
                .iter()
                .map(|(key, _)| key)
                .chain(proof.iter().map(|(key, _)| key))
                .fold(self.after, |after, key| after.max(rows::commit(key)));
            trailer.write(&mut out, proof, &leaves, &part.keys, &mut checkpoints)?;
        }
        if !part.more {
            self.left_over(&mut out).await?;
        }
        self.digest.update(&out);
        if part.more {
            self.trailer = Some(trailer);
        } else {
            let digest = self.digest.value();
            trailer.digest = Base64(digest.to_vec());
            trailer.signature = Base64(self.key.sign(&line::signature_input(&digest)));
            write(&mut out, &Line::<View>::Trailer(trailer))?;
        }
        Ok(Some(out.into()))
    }

    /// Returns all parts as a stream, which ends after an error.
    pub fn into_stream(self) -> impl Stream<Item = Result<Bytes, Error>> + Send {
        stream::try_unfold(self, |mut export| async move {
            let part = export.next().await?;
            Ok(part.map(|part| (part, export)))
        })
    }

    /// Returns the checkpoints whose last leaf is among these, each with how many of them come before it.
    async fn checkpoints(&mut self, leaves: &[Row]) -> Result<VecDeque<(usize, String)>, Error> {
        let mut out = VecDeque::new();
        let Some(state) = &mut self.leaves else { return Ok(out) };
        for (number, (key, _)) in (1..).zip(leaves) {
            let log_epoch = rows::commit(key).map(|[a, b, c, d, ..]| u32::from_be_bytes([a, b, c, d]));
            let log_epoch = log_epoch.ok_or(Error::Damaged("an event's key"))?;
            if state.head.log_epoch != log_epoch {
                state.head = Head { log_epoch, size: 0 };
            }
            state.head.size += 1;
            // One whose leaf was not where it ought to be comes late, for the verifier to find.
            while let Some(kept) = state.next(&self.store, self.tenant, state.head).await? {
                out.push_back((number, kept.note));
            }
        }
        Ok(out)
    }

    /// Writes the checkpoints that were there when the export began and whose leaves did not come, for the verifier to find.
    async fn left_over(&mut self, out: &mut Vec<u8>) -> Result<(), Error> {
        let (Some(state), Some(last)) = (&mut self.leaves, &self.sealed) else { return Ok(()) };
        while let Some(kept) = state.next(&self.store, self.tenant, last.head).await? {
            write(out, &Line::<View>::Checkpoint(CheckpointLine { note: kept.note }))?;
        }
        Ok(())
    }

    async fn read(&self) -> Result<Part, Error> {
        let (tenant, after, end) = (self.tenant, self.after, self.end);
        self.store
            .run(move |tx| {
                Box::pin(async move {
                    let mut keys = Keys::load(tx, tenant).await?;
                    let (commits, more) = match end {
                        Some(end) => read(tx, tenant, after, end).await?,
                        None => (Vec::new(), false),
                    };
                    let rows = commits.iter().flat_map(|(_, leaves)| leaves);
                    let leaves = rows.filter_map(|(_, leaf)| AuditLeaf::decode(leaf.as_ref()).ok());
                    keys.learn(tx, &leaves.collect::<Vec<_>>()).await?;
                    Ok(Part { commits, keys, more })
                })
            })
            .await
    }
}

async fn read(
    tx: &Transaction,
    tenant: TenantId,
    after: Option<Commit>,
    end: Commit,
) -> Result<(Vec<(Option<Row>, Vec<Row>)>, bool), Error> {
    let from = |prefix: Vec<u8>| match after {
        Some(after) => past(prefix, &after),
        None => prefix,
    };
    let batches = Range::new(from(rows::batches(tenant)), past(rows::batches(tenant), &end));
    let batches = shelf::range(tx, tenant, batches.limit(PART_BATCHES).snapshot(true)).await?;
    let last_part = batches.len() < PART_BATCHES;
    let mut start = from(rows::events(tenant));
    let (mut commits, mut bytes) = (Vec::new(), 0);
    for batch in batches {
        let commit = rows::commit(&batch.0).ok_or(Error::Damaged("a batch has a bad key"))?;
        let stop = past(rows::events(tenant), &commit);
        let leaves = shelf::range(tx, tenant, Range::new(start, stop.as_slice()).snapshot(true)).await?;
        start = stop;
        bytes += leaves.iter().map(|(_, leaf)| leaf.len()).sum::<usize>();
        let (own, strays) = leaves.into_iter().partition(|(key, _)| rows::commit(key) == Some(commit));
        commits.push((None, strays));
        commits.push((Some(batch), own));
        if bytes >= PART_BYTES {
            return Ok((commits, true));
        }
    }
    if last_part {
        let stop = past(rows::events(tenant), &end);
        if start < stop {
            let strays = Range::new(start, stop).limit(10_000).snapshot(true);
            commits.push((None, shelf::range(tx, tenant, strays).await?));
        }
    }
    Ok((commits, !last_part))
}

impl Trailer {
    /// Writes the lines of one commit, and counts them.
    fn write(
        &mut self,
        out: &mut Vec<u8>,
        batch: Option<Row>,
        leaves: &[Row],
        keys: &Keys,
        checkpoints: &mut VecDeque<(usize, String)>,
    ) -> Result<(), Error> {
        if let Some((key, proof)) = batch {
            let decoded = AuditBatchProof::decode(proof.as_ref()).map_err(|_| Error::Damaged("a proof"))?;
            let link = AuditBatch::decode(decoded.batch.as_slice()).map_err(|_| Error::Damaged("a batch"))?;
            let writer =
                WriterId::from_slice(&link.writer_id).map_err(|_| Error::Damaged("a batch's writer"))?;
            let last_sequence = (link.first_sequence + u64::from(link.count)).saturating_sub(1);
            self.chains.insert(writer, ChainEnd { last_sequence, head: head(&decoded.batch) });
            self.batches += 1;
            let line = BatchLine {
                commit: Base64(rows::commit(&key).unwrap_or_default().to_vec()),
                proof: Base64(proof.to_vec()),
                leaf_hashes: leaves.iter().map(|(_, leaf)| Base64(leaf_hash(leaf).to_vec())).collect(),
            };
            write(out, &Line::<View>::Batch(line))?;
        }
        for (number, (_, leaf)) in (1..).zip(leaves) {
            let decoded = AuditLeaf::decode(leaf.as_ref()).unwrap_or_default();
            let view = View::from(view::event(&decoded, keys));
            self.events += 1;
            write(out, &Line::Event(EventLine { leaf: Base64(leaf.to_vec()), view }))?;
            if let Some((_, note)) = checkpoints.pop_front_if(|(after, _)| *after == number) {
                write(out, &Line::<View>::Checkpoint(CheckpointLine { note }))?;
            }
        }
        Ok(())
    }
}

fn write<V: Serialize>(out: &mut Vec<u8>, line: &Line<V>) -> Result<(), Error> {
    serde_json::to_writer(&mut *out, line).map_err(|_| Error::Damaged("a line can't be written"))?;
    out.push(b'\n');
    Ok(())
}
