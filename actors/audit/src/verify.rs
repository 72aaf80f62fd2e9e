use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    io::{BufRead, Read},
};

use aesp_merkle::Hash;
use aesp_proto::{EventId, TenantId, Timestamp, WriterId, v1::AuditLeaf};
use prost::Message;

use crate::{
    LogKey, PublicKey,
    chain_check::{self, OpenBatch},
    line::{self, ChainEnd, Digest, EventLine, Header, Line, LogKeyLine, RangeLine, Trailer},
    log_key,
    range_check::{RangeCheck, RangeReport, TimeRange},
    sealed_check::{SealedLogs, Trees},
};

/// The longest line that is read; the longest that an export has is far below.
const LINE_BYTES: u64 = 64 << 20;

/// What a good export holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Whose log it is.
    pub tenant: TenantId,
    /// When it was exported.
    pub exported_at: Timestamp,
    /// Signed batches.
    pub batches: u64,
    /// Events.
    pub events: u64,
    /// Chains, one for each incarnation of a writer.
    pub chains: usize,
    /// The keys that signed.
    pub keys: Vec<PublicKey>,
    /// Whether they were compared with keys that the verifier brought, or certified by one. If not, anybody may have made the export.
    pub trusted: bool,
    /// What the checkpoints seal, by log epoch.
    pub sealed: SealedLogs,
    /// Whether a log key that the verifier brought leads to those that signed them.
    pub sealed_trusted: bool,
    /// The time range that the export is of; nothing if it is of the whole log.
    pub part: Option<TimeRange>,
    /// What it shows of the range that was asked about, or that it is of.
    pub range: Option<RangeReport>,
    /// Where the chains end.
    pub(crate) ends: BTreeMap<WriterId, ChainEnd>,
}

impl Report {
    /// Returns how many events no checkpoint of the export covers.
    #[must_use]
    pub fn unsealed(&self) -> u64 {
        self.events.saturating_sub(self.sealed.values().map(|log| log.size.saturating_sub(log.first)).sum())
    }
}

/// Public keys that the verifier got from the operator. Without any, an export is compared with itself only.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// Keys that sign batches.
    pub keys: Vec<PublicKey>,
    /// Keys that sign checkpoints; a key that they certify, or that follows or precedes one of them, is trusted as well.
    pub log_keys: Vec<PublicKey>,
}

/// What an export is compared with, and asked about.
#[derive(Clone, Copy, Debug, Default)]
pub struct Against<'a> {
    /// An earlier export of the same log: each of its chains and what it shows sealed must be in this one.
    pub earlier: Option<&'a Report>,
    /// Whether the events of this range are all that the log has of it.
    pub range: Option<TimeRange>,
}

/// The first thing that is wrong with an export.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Broken {
    /// The line, counted from 1.
    pub line: u64,
    /// The event on it, or the one that ought to be there, as far as it is known.
    pub event: Option<EventId>,
    /// Its number in its writer's chain.
    pub sequence: Option<u64>,
    /// What is wrong.
    pub why: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}", self.line)?;
        if let Some(event) = self.event {
            write!(f, ", event {event}")?;
        }
        if let Some(sequence) = self.sequence {
            write!(f, ", number {sequence} of its chain")?;
        }
        write!(f, ": {}", self.why)
    }
}

/// Why a line is refused, before it is known which line it is.
pub(crate) struct Fault {
    pub(crate) event: Option<EventId>,
    pub(crate) sequence: Option<u64>,
    pub(crate) why: String,
}

impl Fault {
    /// Says on which line it is.
    fn at(self, line: u64) -> Broken {
        Broken { line, event: self.event, sequence: self.sequence, why: self.why }
    }
}

impl From<&str> for Fault {
    fn from(why: &str) -> Self {
        Self { event: None, sequence: None, why: why.to_owned() }
    }
}

/// Verifies an export offline, from nothing but its lines and, if given, the keys that may have signed it. Finds any
/// change, removal, insertion, reordering or truncation since the export.
///
/// What it can't find: that the Host's store lost a whole tail before the export (an export proves what it holds, not that
/// there was no more; keep the trailers of earlier exports and compare their chain heads), and, without `trusted` keys,
/// that somebody made all of it up.
///
/// # Errors
/// [`Broken`] with the first bad line.
pub fn verify(export: impl BufRead, trusted: &[PublicKey]) -> Result<Report, Broken> {
    verify_with(export, &Trust { keys: trusted.to_vec(), log_keys: Vec::new() }, Against::default())
}

/// As [`verify`], with any keys, compared with an earlier export, and asked about a time range.
///
/// # Errors
/// [`Broken`] with the first bad line.
pub fn verify_with(mut export: impl BufRead, trust: &Trust, against: Against<'_>) -> Result<Report, Broken> {
    let mut verifier = Verifier {
        earlier: against.earlier.cloned(),
        range: against.range.map(RangeCheck::new),
        asked: against.range,
        ..Verifier::default()
    };
    let (mut number, mut line) = (0, Vec::new());
    loop {
        number += 1;
        read_line(&mut export, &mut line, number)?;
        if line.is_empty() {
            return verifier.finish(trust).map_err(|fault| fault.at(number));
        }
        verifier.line(&line, trust).map_err(|fault| fault.at(number))?;
    }
}

/// Reads the next line with its end; an empty one is the end of the export.
pub(crate) fn read_line(export: &mut impl BufRead, line: &mut Vec<u8>, number: u64) -> Result<(), Broken> {
    line.clear();
    let read = export.by_ref().take(LINE_BYTES).read_until(b'\n', line);
    read.map(drop).map_err(|error| Fault::from(format!("can't be read: {error}").as_str()).at(number))
}

/// Checks the first line of an export, and returns it with the keys that may have signed batches and are believed.
pub(crate) fn header(line: &[u8], trust: &Trust) -> Result<(Header, Vec<PublicKey>), Broken> {
    let mut verifier = Verifier::default();
    if line.is_empty() {
        return Err(Fault::from("the export is empty").at(1));
    }
    verifier.line(line, trust).map_err(|fault| fault.at(1))?;
    verifier.header.ok_or_else(|| Fault::from("the export does not begin with its header").at(1))
}

#[derive(Default)]
struct Verifier {
    header: Option<(Header, Vec<PublicKey>)>,
    earlier: Option<Report>,
    /// The range that was asked about.
    asked: Option<TimeRange>,
    range: Option<RangeCheck>,
    /// The range that the export is of, and the log epoch that it begins with.
    part: Option<(TimeRange, u32)>,
    /// Which chains of the earlier export came by.
    met: BTreeSet<WriterId>,
    trees: Trees,
    sealed: SealedLogs,
    chains: BTreeMap<WriterId, ChainEnd>,
    timestamps: BTreeMap<WriterId, i64>,
    last_commit: Vec<u8>,
    open: Option<OpenBatch>,
    digest: Digest,
    batches: u64,
    events: u64,
    complete: bool,
}

impl Verifier {
    fn line(&mut self, bytes: &[u8], trust: &Trust) -> Result<(), Fault> {
        let Some(text) = bytes.strip_suffix(b"\n") else {
            return Err("the file is cut off within a line".into());
        };
        if self.complete {
            return Err("a line after the trailer".into());
        }
        let line: Line = serde_json::from_slice(text)
            .map_err(|error| Fault::from(format!("not a line of an export: {error}").as_str()))?;
        match (line, &self.header) {
            (Line::Header(header), None) => self.header(header, trust)?,
            (_, None) => return Err("the export does not begin with its header".into()),
            (Line::Header(_), Some(_)) => return Err("a second header".into()),
            (Line::Range(range), Some((header, _))) => {
                if header.format != line::SEALED_FORMAT || self.part.is_some() || self.batches > 0 {
                    return Err("a time range, where there is none".into());
                }
                self.range(&range)?;
            }
            (Line::Batch(batch), Some((header, keys))) => {
                close(&mut self.open)?;
                if batch.commit.0 <= self.last_commit {
                    return Err("the batch is out of the order of commits, or there twice".into());
                }
                let (open, end) =
                    chain_check::batch(&batch, header.tenant, keys, &self.chains, self.part.is_some())?;
                self.meets(open.writer, end)?;
                self.chains.insert(open.writer, end);
                let (log_epoch, _) = batch.commit.0.split_first_chunk().ok_or("the batch names no commit")?;
                let log_epoch = u32::from_be_bytes(*log_epoch);
                if self.batches == 0 && self.part.is_some_and(|(_, first)| first != log_epoch) {
                    return Err("the export does not begin with the log epoch that it names".into());
                }
                self.trees.commit(log_epoch);
                self.last_commit = batch.commit.0;
                self.open = Some(open);
                self.batches += 1;
            }
            (Line::Event(event), Some((header, _))) => {
                let tenant = header.tenant;
                self.event(&event, tenant)?;
            }
            (Line::Checkpoint(checkpoint), Some((header, _))) => {
                if header.format != line::SEALED_FORMAT {
                    return Err("a checkpoint in an export of a format without".into());
                }
                self.trees.checkpoint(&checkpoint.note)?;
                if let Some(range) = &mut self.range {
                    range.sealed();
                }
            }
            (Line::Trailer(trailer), Some((_, keys))) => {
                close(&mut self.open)?;
                self.meets_all()?;
                self.sealed = self.trees.finish()?;
                let keys = keys.clone();
                return self.trailer(&trailer, text, &keys);
            }
        }
        self.digest.update(bytes);
        Ok(())
    }

    fn header(&mut self, header: Header, trust: &Trust) -> Result<(), Fault> {
        let keys = line::public_keys(&header).ok_or("a public key is not one")?;
        // A key that nobody trusts may be named, but nothing that it signed is believed.
        let mut believed: Vec<_> = keys.iter().filter(|key| trust.keys.contains(key)).copied().collect();
        match (header.format.as_str(), &header.log_keys, &header.certificates) {
            (line::FORMAT, None, None) if trust.log_keys.is_empty() => {}
            (line::FORMAT, None, None) => {
                return Err("the export has no checkpoints that a log key could prove".into());
            }
            (line::SEALED_FORMAT, Some(listed), Some(certificates)) => {
                let listed: Option<Vec<LogKey>> = listed.iter().map(LogKeyLine::key).collect();
                let listed = listed.ok_or("a log key is not one")?;
                let log_keys = log_key::believed(&listed, &trust.log_keys);
                if !trust.log_keys.is_empty() && log_keys.is_empty() {
                    return Err("no log key in the header is a trusted one".into());
                }
                let certificates = keys.iter().copied().zip(certificates.iter().map(|one| one.0.as_slice()));
                believed.extend(log_key::certified(&listed, &trust.log_keys, certificates));
                let earlier = self.earlier.as_ref().map(|earlier| earlier.sealed.clone());
                self.trees = Trees::new(log_keys, earlier.unwrap_or_default());
            }
            _ => return Err("the export has another format".into()),
        }
        if trust.keys.is_empty() && trust.log_keys.is_empty() {
            believed = keys;
        }
        if believed.is_empty() {
            return Err("no key in the header is a trusted one".into());
        }
        if self.earlier.as_ref().is_some_and(|earlier| earlier.tenant != header.tenant) {
            return Err("the other export is of another tenant".into());
        }
        if self.earlier.as_ref().is_some_and(|earlier| earlier.exported_at > header.exported_at_ms) {
            return Err("the other export is the later one: compare them the other way round".into());
        }
        self.header = Some((header, believed));
        Ok(())
    }

    /// Takes in that the export is of a part of the log.
    fn range(&mut self, line: &RangeLine) -> Result<(), Fault> {
        if self.earlier.is_some() {
            return Err(
                "an export of a time range can't be compared with another: export the whole log".into()
            );
        }
        let range = line.range();
        match self.asked {
            None => self.range = Some(RangeCheck::new(range)),
            Some(asked) if asked.is_within(&range) => {}
            Some(_) => return Err("the export is of another time range than you ask about".into()),
        }
        let before =
            line.frontier().ok_or("the hashes before the first leaf are not those of so many leaves")?;
        self.trees.begin(line.log_epoch, before);
        self.part = Some((range, line.log_epoch));
        Ok(())
    }

    /// Compares where a chain stands with where the earlier export left it.
    fn meets(&mut self, writer: WriterId, end: ChainEnd) -> Result<(), Fault> {
        let earlier = self.earlier.as_ref().and_then(|earlier| earlier.ends.get(&writer));
        let Some(earlier) = earlier.filter(|earlier| end.last_sequence >= earlier.last_sequence) else {
            return Ok(());
        };
        if end == *earlier {
            self.met.insert(writer);
        } else if !self.met.contains(&writer) {
            let why = "the chain is not the one of the other export, up to this batch".to_owned();
            return Err(Fault { event: None, sequence: Some(end.last_sequence), why });
        }
        Ok(())
    }

    fn meets_all(&self) -> Result<(), Fault> {
        let missing = self
            .earlier
            .iter()
            .flat_map(|earlier| earlier.ends.keys())
            .find(|writer| !self.met.contains(*writer));
        missing.map_or(Ok(()), |writer| {
            Err(format!("the chain of writer {writer} is shorter than in the other export, or missing")
                .as_str()
                .into())
        })
    }

    fn event<V>(&mut self, line: &EventLine<V>, tenant: TenantId) -> Result<(), Fault> {
        self.events += 1;
        let leaf = AuditLeaf::decode(line.leaf.0.as_slice()).ok();
        let id = leaf.as_ref().and_then(|leaf| EventId::from_slice(&leaf.event_id).ok());
        let fault = |sequence: Option<u64>, why: &str| Fault { event: id, sequence, why: why.to_owned() };
        let Some(open) = self.open.as_mut().filter(|open| !open.is_complete()) else {
            return Err(fault(leaf.map(|leaf| leaf.sequence), "the event belongs to no signed batch"));
        };
        let sequence = Some(open.next_sequence());
        open.check(&line.leaf.0, leaf.as_ref(), tenant).map_err(|why| fault(sequence, why))?;
        let timestamp = leaf.map_or(0, |leaf| leaf.timestamp_ms);
        let last = self.timestamps.entry(open.writer).or_insert(timestamp);
        if timestamp < *last {
            return Err(fault(sequence, "the event is older than the one before it in its chain"));
        }
        *last = timestamp;
        self.trees.event(&line.leaf.0).map_err(|why| fault(sequence, &why.why))?;
        if let (Some(range), Some(id)) = (&mut self.range, id) {
            range.event(id, Timestamp(timestamp), self.trees.end());
        }
        Ok(())
    }

    fn trailer(&mut self, trailer: &Trailer, text: &[u8], keys: &[PublicKey]) -> Result<(), Fault> {
        let digest: Hash = self.digest.value();
        let canonical = serde_json::to_vec(&TrailerLine { line: "trailer", trailer }).unwrap_or_default();
        if canonical != text {
            return Err("the trailer is not as an export writes it".into());
        }
        if (trailer.batches, trailer.events) != (self.batches, self.events) {
            return Err("the trailer counts other lines than there are: some were removed or added".into());
        }
        if trailer.chains != self.chains {
            return Err("the trailer names other chains: some were removed or added".into());
        }
        if trailer.digest.0 != digest {
            return Err("the lines before the trailer are not those that were exported".into());
        }
        let key = keys.iter().find(|key| key.id().as_slice() == trailer.key_id.0);
        let key = key.ok_or("the trailer is signed by an unknown key")?;
        if !key.verifies(&line::signature_input(&digest), &trailer.signature.0) {
            return Err("the signature of the trailer is wrong".into());
        }
        self.complete = true;
        Ok(())
    }

    fn finish(self, trust: &Trust) -> Result<Report, Fault> {
        match self.header {
            None => Err("the export is empty".into()),
            Some(_) if !self.complete => Err("the export is cut off: its trailer is missing".into()),
            Some((header, keys)) => Ok(Report {
                tenant: header.tenant,
                exported_at: header.exported_at_ms,
                batches: self.batches,
                events: self.events,
                chains: self.chains.len(),
                keys,
                trusted: !(trust.keys.is_empty() && trust.log_keys.is_empty()),
                sealed: self.sealed,
                sealed_trusted: !trust.log_keys.is_empty(),
                part: self.part.map(|(range, _)| range),
                range: self.range.map(RangeCheck::finish),
                ends: self.chains,
            }),
        }
    }
}

/// The trailer with its tag, in the order of an export.
#[derive(serde::Serialize)]
struct TrailerLine<'a> {
    line: &'static str,
    #[serde(flatten)]
    trailer: &'a Trailer,
}

fn close(open: &mut Option<OpenBatch>) -> Result<(), Fault> {
    open.take().map_or(Ok(()), OpenBatch::close)
}
