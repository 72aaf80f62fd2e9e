use std::ops::Bound;

use aesp_proto::{Clock, SystemClock, Timestamp};
use heed::{PutFlags, RwTxn};

use super::{
    key,
    record::RecordWriter,
    state::{self, JournalState, JournalStop, StopReason},
};
use crate::engine::lmdb::environment::Environment;

/// Writes the commits of one LMDB transaction into the journal.
pub(in crate::engine::lmdb) struct Appender {
    state: JournalState,
    version: u64,
    time: Timestamp,
}

/// What a record takes besides what it changes.
const OVERHEAD_BYTES: usize = 64;

impl Appender {
    /// Returns nothing if no journal is kept.
    pub(in crate::engine::lmdb) fn open(
        environment: &Environment,
        txn: &RwTxn<'_>,
        version: u64,
    ) -> heed::Result<Option<Self>> {
        let Some(state) = state::journal(environment, txn)?.filter(|state| state.stopped.is_none()) else {
            return Ok(None);
        };
        // A clock that was set back must not make later commits older than earlier ones.
        let time = SystemClock.now().max(state::last_time(environment, txn, &state)?);
        Ok(Some(Self { state, version, time }))
    }

    pub(in crate::engine::lmdb) fn record(&self, growth_bytes: usize) -> RecordWriter {
        RecordWriter::new(self.time, growth_bytes + OVERHEAD_BYTES)
    }

    /// Appends the record of the commit at `place`.
    pub(in crate::engine::lmdb) fn append(
        &self,
        environment: &Environment,
        txn: &mut RwTxn<'_>,
        place: u16,
        record: &RecordWriter,
    ) -> heed::Result<()> {
        if record.is_empty() {
            return Ok(());
        }
        environment.journal.put_with_flags(
            txn,
            PutFlags::APPEND,
            &key(self.version, place),
            record.as_bytes(),
        )
    }

    /// Ends the journal before this version. Without room, what is in it goes as well.
    pub(in crate::engine::lmdb) fn stop(
        mut self,
        environment: &Environment,
        txn: &mut RwTxn<'_>,
        why: StopReason,
    ) -> heed::Result<()> {
        if why == StopReason::NoRoom {
            environment.journal.clear(txn)?;
        } else {
            let first = key(self.version, 0);
            environment.journal.delete_range(txn, &(Bound::Included(first.as_slice()), Bound::Unbounded))?;
        }
        let at = if why == StopReason::NoRoom { self.state.trimmed } else { self.version.saturating_sub(1) };
        self.state.stopped = Some(JournalStop { at, why });
        tracing::warn!(at, ?why, "the journal has ended; backups need a new snapshot");
        state::set_journal(environment, txn, &self.state)
    }
}

/// Tells whether a commit that adds `growth_bytes` fits. Ends the journal if it is too long, or if only that makes room.
pub(in crate::engine::lmdb) fn admit(
    environment: &Environment,
    txn: &mut RwTxn<'_>,
    journal: &mut Option<Appender>,
    growth_bytes: usize,
    use_reserve: bool,
) -> heed::Result<bool> {
    let (used, taken) = (environment.used_bytes(txn)?, environment.journal_bytes(txn)?);
    let record = growth_bytes + OVERHEAD_BYTES;
    let mut fits = use_reserve || environment.has_room(used + growth_bytes);
    let Some(active) = journal else {
        if !fits && taken > 0 && environment.has_room(used - taken + growth_bytes) {
            // What is left of a journal that has ended.
            environment.journal.clear(txn)?;
            fits = true;
        }
        return Ok(fits);
    };
    let too_long = (taken + record) as u64 > active.state.limit_bytes;
    let has_room = environment.has_room(used + growth_bytes + record)
        || (use_reserve && taken + record <= environment.journal_reserve_bytes());
    if has_room && !too_long {
        return Ok(fits);
    }
    let makes_room = fits || environment.has_room(used - taken + growth_bytes);
    if !has_room && !makes_room {
        return Ok(false);
    }
    let why = if has_room { StopReason::Limit } else { StopReason::NoRoom };
    if let Some(active) = journal.take() {
        active.stop(environment, txn, why)?;
    }
    Ok(true)
}
