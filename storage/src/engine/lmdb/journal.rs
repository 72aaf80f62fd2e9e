//! The journal: what each commit changed, written in the same LMDB transaction as the change itself, so that it shares its sync
//! and misses nothing, whichever process commits. Off until it is started. It never stops the store from serving: beyond its
//! limit, or when the rows need its room, it ends, and says so in its state.

pub(super) mod append;
pub(crate) mod record;
pub(super) mod state;

use std::{ops::Bound, sync::Arc};

use aesp_proto::{Clock, SystemClock, Timestamp};
use bytes::Bytes;

pub use self::{
    record::{Change, JournalRecord},
    state::{JournalState, JournalStop, StopReason},
};
use super::{Inner, LmdbEngine, blocking, environment::explain};
use crate::{Error, seal};

/// The journal of an environment, for whoever takes it to an archive.
#[derive(Clone)]
pub struct Journal(Arc<Inner>);

/// A part of the journal.
#[derive(Clone, Debug)]
pub struct JournalPart {
    /// Whole versions, in their order.
    pub records: Vec<JournalRecord>,
    /// All commits of the journal up to this version are in the records or were before them.
    pub up_to: u64,
    /// Every commit that had returned at this time is among those.
    pub time: Timestamp,
    /// Whether the journal went on after this part.
    pub more: bool,
    /// The state of the journal at that moment.
    pub state: JournalState,
    /// What the journal takes in the store, in bytes.
    pub journal_bytes: u64,
}

const KEY_BYTES: usize = 10;

fn key(version: u64, place: u16) -> [u8; KEY_BYTES] {
    crate::engine::versionstamp(version, place)
}

impl LmdbEngine {
    /// Returns the journal.
    #[must_use]
    pub fn journal(&self) -> Journal {
        Journal(Arc::clone(&self.0))
    }
}

impl Journal {
    /// Returns the state of the journal; nothing if there never was one.
    ///
    /// # Errors
    /// That of the store.
    pub async fn state(&self) -> Result<Option<JournalState>, Error> {
        blocking(&self.0, |environment| {
            let txn = environment.env.read_txn().map_err(explain)?;
            state::journal(environment, &txn).map_err(explain)
        })
        .await
    }

    /// Starts the journal if there is none or the last one has ended; what is left of that is dropped. Sets its limit.
    ///
    /// # Errors
    /// [`Error::Full`] if there is no room for one.
    pub async fn start(&self, limit_bytes: u64) -> Result<JournalState, Error> {
        let mut id = [0; 16];
        seal::fill(&mut id)?;
        blocking(&self.0, move |environment| {
            let mut txn = environment.env.write_txn().map_err(explain)?;
            let version = state::version_of(environment, &txn).map_err(explain)?;
            let state = match state::journal(environment, &txn).map_err(explain)? {
                Some(going) if going.stopped.is_none() && going.limit_bytes == limit_bytes => {
                    return Ok(going);
                }
                Some(going) if going.stopped.is_none() => JournalState { limit_bytes, ..going },
                _ => {
                    environment.journal.clear(&mut txn).map_err(explain)?;
                    let used = environment.used_bytes(&txn).map_err(explain)?;
                    if !environment.has_room(used + environment.journal_reserve_bytes()) {
                        return Err(Error::Full);
                    }
                    let trimmed_time = SystemClock.now();
                    JournalState {
                        id,
                        began: version,
                        trimmed: version,
                        trimmed_time,
                        limit_bytes,
                        stopped: None,
                    }
                }
            };
            state::set_journal(environment, &mut txn, &state).map_err(explain)?;
            txn.commit().map_err(explain)?;
            Ok(state)
        })
        .await
    }

    /// Makes a version that no commit has made, so that what is named for it has a name of its own.
    ///
    /// # Errors
    /// That of the store.
    pub async fn advance(&self) -> Result<(), Error> {
        blocking(&self.0, |environment| {
            let mut txn = environment.env.write_txn().map_err(explain)?;
            if let Some(state) = state::journal(environment, &txn).map_err(explain)? {
                state::set_journal(environment, &mut txn, &state).map_err(explain)?;
                txn.commit().map_err(explain)?;
            }
            Ok(())
        })
        .await
    }

    /// Ends the journal. What is in it can still be read.
    ///
    /// # Errors
    /// That of the store.
    pub async fn stop(&self) -> Result<(), Error> {
        blocking(&self.0, |environment| {
            let mut txn = environment.env.write_txn().map_err(explain)?;
            let version = state::version_of(environment, &txn).map_err(explain)?;
            let appender = append::Appender::open(environment, &txn, version).map_err(explain)?;
            if let Some(appender) = appender {
                appender.stop(environment, &mut txn, StopReason::Asked).map_err(explain)?;
                txn.commit().map_err(explain)?;
            }
            Ok(())
        })
        .await
    }

    /// Reads the commits above version `after`, whole versions, about `most_bytes` of them.
    ///
    /// # Errors
    /// That of the store; [`Error::Unavailable`] if there never was a journal.
    pub async fn read(&self, after: u64, most_bytes: usize) -> Result<JournalPart, Error> {
        blocking(&self.0, move |environment| {
            // Before the snapshot: what had returned by now is in it.
            let time = SystemClock.now();
            let txn = environment.env.read_txn().map_err(explain)?;
            let state = state::journal(environment, &txn).map_err(explain)?;
            let state = state.ok_or_else(|| Error::unavailable("the store keeps no journal"))?;
            let seen = state::version_of(environment, &txn).map_err(explain)?;
            let mut part = JournalPart {
                records: Vec::new(),
                up_to: state.stopped.map_or(seen, |stop| stop.at),
                time,
                more: false,
                journal_bytes: environment.journal_bytes(&txn).map_err(explain)? as u64,
                state,
            };
            let first = key(after.saturating_add(1), 0);
            let bounds = (Bound::Included(first.as_slice()), Bound::Unbounded);
            let mut bytes = 0;
            for row in environment.journal.range(&txn, &bounds).map_err(explain)? {
                let (place, value) = row.map_err(explain)?;
                let record = read(place, value)?;
                if let Some(last) = part.records.last()
                    && bytes >= most_bytes
                    && last.version != record.version
                {
                    part.more = true;
                    (part.up_to, part.time) = (last.version, last.time()?);
                    break;
                }
                bytes += record.bytes.len();
                part.records.push(record);
            }
            let last = part.records.last().map(JournalRecord::time).transpose()?;
            if part.state.stopped.is_some() {
                part.time = last.unwrap_or(part.state.trimmed_time);
            } else if !part.more {
                // One may have come between the look at the clock and the snapshot.
                part.time = part.time.max(last.unwrap_or(part.time));
            }
            Ok(part)
        })
        .await
    }

    /// Drops the commits up to version `up_to`, which are safe elsewhere.
    ///
    /// # Errors
    /// That of the store.
    pub async fn trim(&self, up_to: u64) -> Result<(), Error> {
        blocking(&self.0, move |environment| {
            let mut txn = environment.env.write_txn().map_err(explain)?;
            let Some(mut state) = state::journal(environment, &txn).map_err(explain)? else { return Ok(()) };
            let end = key(up_to, u16::MAX);
            let bounds = (Bound::Unbounded, Bound::Included(end.as_slice()));
            let last = environment.journal.rev_range(&txn, &bounds).map_err(explain)?.next();
            let Some((_, record)) = last.transpose().map_err(explain)? else { return Ok(()) };
            state.trimmed_time = state.trimmed_time.max(record::time(record)?);
            state.trimmed = state.trimmed.max(up_to);
            environment.journal.delete_range(&mut txn, &bounds).map_err(explain)?;
            state::set_journal(environment, &mut txn, &state).map_err(explain)?;
            txn.commit().map_err(explain)
        })
        .await
    }
}

fn read(place: &[u8], value: &[u8]) -> Result<JournalRecord, Error> {
    let (version, place) = place.split_first_chunk::<8>().ok_or_else(misplaced)?;
    let place = place.try_into().map_err(|_| misplaced())?;
    let (version, place) = (u64::from_be_bytes(*version), u16::from_be_bytes(place));
    Ok(JournalRecord { version, place, bytes: Bytes::copy_from_slice(value) })
}

fn misplaced() -> Error {
    Error::damaged_row("a record of the journal has no place")
}
