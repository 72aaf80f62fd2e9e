use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
};

use heed::RwTxn;
use tokio::sync::oneshot;

use super::{
    apply::{apply, growth_bytes, is_valid},
    environment::{Environment, explain},
    journal::{
        StopReason,
        append::{Appender, admit},
        state,
    },
    watcher::WatchState,
};
use crate::{
    Error,
    engine::{Commit, Versionstamp, versionstamp},
};

/// The thread that writes. LMDB allows one writer at a time anyway; one that takes all that wait shares its two syncs.
pub(super) struct Writer {
    // `None` only while dropped: it tells the thread to end.
    queue: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

/// A commit on its way to the writer.
pub(super) struct Job {
    pub(super) commit: Commit,
    pub(super) version: Option<u64>,
    pub(super) claim: Claim,
    pub(super) reply: oneshot::Sender<Result<Versionstamp, Error>>,
}

/// Decides once whether the writer takes a commit or its sender withdraws it.
#[derive(Clone, Default)]
pub(super) struct Claim(Arc<AtomicU8>);

const WAITING: u8 = 0;
const TAKEN: u8 = 1;
const WITHDRAWN: u8 = 2;

impl Claim {
    fn take(&self) -> bool {
        self.0.compare_exchange(WAITING, TAKEN, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// Takes the commit back; tells whether it was not yet with the writer.
    pub(super) fn withdraw(&self) -> bool {
        self.0.compare_exchange(WAITING, WITHDRAWN, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }
}

/// The most transactions in a group; more would make the first wait for the last.
const GROUP: usize = 2048;
const GROUP_BYTES: usize = 32 << 20;

impl Writer {
    pub(super) fn start(environment: Arc<Environment>, watches: Arc<WatchState>) -> Result<Self, Error> {
        let (queue, jobs) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || write_all(&environment, &watches, &jobs))
            .map_err(|error| Error::unavailable(format!("no thread for the store: {error}")))?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    pub(super) fn submit(&self, job: Job) -> Result<(), Error> {
        let sent = self.queue.as_ref().is_some_and(|queue| queue.send(job).is_ok());
        if sent { Ok(()) } else { Err(Error::unavailable("the store's writer has ended")) }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // A writer that panicked has nothing left to do.
            thread.join().ok();
        }
    }
}

fn write_all(environment: &Environment, watches: &WatchState, jobs: &mpsc::Receiver<Job>) {
    while let Ok(first) = jobs.recv() {
        match environment.env.write_txn() {
            Ok(txn) => {
                // Drained only now that the lock is held: what came while it was not is written together, and what was
                // withdrawn meanwhile is not written at all.
                let group = drain(first, jobs);
                write_group(environment, watches, txn, group);
            }
            Err(error) => answer(first, Err(explain(error))),
        }
    }
}

fn drain(first: Job, jobs: &mpsc::Receiver<Job>) -> Vec<Job> {
    let mut bytes = growth_bytes(&first.commit.mutations);
    let mut group = vec![first];
    while group.len() < GROUP && bytes < GROUP_BYTES {
        let Ok(job) = jobs.try_recv() else { break };
        bytes += growth_bytes(&job.commit.mutations);
        group.push(job);
    }
    group.retain(|job| job.claim.take());
    group
}

/// Writes a group in one transaction of LMDB. If that fails, each is written alone, so that only the guilty one fails.
fn write_group(environment: &Environment, watches: &WatchState, txn: RwTxn<'_>, group: Vec<Job>) {
    if let Err((_, accepted)) = write_together(environment, watches, txn, group, Journalling::AsSet) {
        accepted.into_iter().for_each(|job| write_alone(environment, watches, job));
    }
}

/// Writes one; if it does not fit with its record in the journal, without, which ends the journal.
fn write_alone(environment: &Environment, watches: &WatchState, mut job: Job) {
    for journalling in [Journalling::AsSet, Journalling::Ended] {
        let txn = match environment.env.write_txn() {
            Ok(txn) => txn,
            Err(error) => return answer(job, Err(explain(error))),
        };
        let Err((error, mut failed)) = write_together(environment, watches, txn, vec![job], journalling)
        else {
            return;
        };
        let Some(again) = failed.pop() else { return };
        if !matches!((&error, journalling), (Error::Full, Journalling::AsSet)) {
            return answer(again, Err(error));
        }
        job = again;
    }
}

/// Whether commits go into the journal.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Journalling {
    /// As its state says.
    AsSet,
    /// No more: there is no room.
    Ended,
}

/// Reads what the environment says of itself: the version that this transaction makes, and the journal, if one is kept.
fn begin(
    environment: &Environment,
    txn: &mut RwTxn<'_>,
    journalling: Journalling,
) -> Result<(u64, Option<Appender>), Error> {
    if state::is_restoring(environment, txn).map_err(explain)? {
        return Err(Error::unavailable("a restore into this store is under way"));
    }
    let version = state::version_of(environment, txn).map_err(explain)?;
    let mut journal = Appender::open(environment, txn, version).map_err(explain)?;
    if journalling == Journalling::Ended
        && let Some(journal) = journal.take()
    {
        journal.stop(environment, txn, StopReason::NoRoom).map_err(explain)?;
    }
    Ok((version, journal))
}

/// Writes those of the group that are valid and answers them; the conflicting ones are answered as such.
///
/// # Errors
/// Why nothing was written, and the jobs that still wait for an answer.
fn write_together(
    environment: &Environment,
    watches: &WatchState,
    mut txn: RwTxn<'_>,
    group: Vec<Job>,
    journalling: Journalling,
) -> Result<(), (Error, Vec<Job>)> {
    let number = txn.id() as u64;
    watches.began(number);
    let (version, mut journal) = match begin(environment, &mut txn, journalling) {
        Ok(begun) => begun,
        Err(error) => return Err((error, group)),
    };
    let mut accepted: Vec<Job> = Vec::with_capacity(group.len());
    let mut group = group.into_iter();
    while let Some(job) = group.next() {
        let place = u16::try_from(accepted.len()).expect("GROUP is below 65,536");
        // Nothing can differ from the snapshot if nothing was written since.
        let unchanged = accepted.is_empty() && job.version == Some(version - 1);
        match write(environment, &mut txn, &mut journal, &job.commit, (version, place), unchanged) {
            Ok(()) => accepted.push(job),
            Err(Refusal::Alone(error)) => answer(job, Err(error)),
            Err(Refusal::Together(error)) => {
                txn.abort();
                accepted.push(job);
                accepted.extend(group);
                return Err((explain(error), accepted));
            }
        }
    }
    if accepted.is_empty() {
        txn.abort();
        return Ok(());
    }
    if let Err(error) = txn.commit() {
        // LMDB has one writer: while its newest transaction is older than this one, this one was not written.
        let landed = environment.env.info().last_txn_id as u64 >= number;
        return match explain(error) {
            // The pages did not fit, so the commit did not happen.
            Error::Full => Err((Error::Full, accepted)),
            // A write that a full disk cuts short is an input/output error to LMDB.
            _ if !landed && environment.disk.is_full() => Err((Error::Full, accepted)),
            error if !landed => Err((error, accepted)),
            error => {
                tracing::error!(%error, "commit of the store failed");
                accepted.into_iter().for_each(|job| answer(job, Err(Error::CommitUnknown)));
                Ok(())
            }
        };
    }
    watches.committed(number);
    for (place, job) in (0_u16..).zip(accepted) {
        watches.touched(environment, &job.commit.mutations);
        answer(job, Ok(versionstamp(version, place)));
    }
    Ok(())
}

enum Refusal {
    /// Nothing of the job was written.
    Alone(Error),
    /// A part of the job may have been written; the transaction must end.
    Together(heed::Error),
}

fn write(
    environment: &Environment,
    txn: &mut RwTxn<'_>,
    journal: &mut Option<Appender>,
    commit: &Commit,
    (version, place): (u64, u16),
    unchanged: bool,
) -> Result<(), Refusal> {
    if !unchanged && !is_valid(environment, txn, commit).map_err(Refusal::Together)? {
        return Err(Refusal::Alone(Error::Conflict));
    }
    let growth = growth_bytes(&commit.mutations);
    if !admit(environment, txn, journal, growth, commit.use_reserve).map_err(Refusal::Together)? {
        return Err(Refusal::Alone(Error::Full));
    }
    let stamp = versionstamp(version, place);
    let mut record = journal.as_ref().map(|journal| journal.record(growth));
    apply(environment, txn, &commit.mutations, &stamp, |change| {
        if let Some(record) = &mut record {
            record.push(change);
        }
    })
    .map_err(Refusal::Together)?;
    match (journal, record) {
        (Some(journal), Some(record)) => {
            journal.append(environment, txn, place, &record).map_err(Refusal::Together)
        }
        _ => Ok(()),
    }
}

fn answer(job: Job, result: Result<Versionstamp, Error>) {
    // Whoever asked may have gone; the commit stands all the same.
    job.reply.send(result).ok();
}
