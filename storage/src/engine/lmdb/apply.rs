use heed::RwTxn;

use super::{
    environment::{Environment, Rows},
    journal::Change,
    snapshot::bounds,
};
use crate::engine::{Commit, Mutation, Observed, Versionstamp, stamped};

/// Tells whether everything that the transaction has read is still so.
pub(super) fn is_valid(environment: &Environment, txn: &RwTxn<'_>, commit: &Commit) -> heed::Result<bool> {
    let rows = environment.rows;
    for observed in &commit.observed {
        let same = match observed {
            Observed::Point { key, value } => rows.get(txn, key)? == value.as_deref(),
            Observed::Range { start, end, .. } if start >= end => true,
            Observed::Range { start, end, rows: seen } => {
                let mut now = rows.range(txn, &bounds(start, end))?;
                let mut seen = seen.iter();
                loop {
                    match (now.next().transpose()?, seen.next()) {
                        (None, None) => break true,
                        (Some((key, value)), Some((old_key, old_value)))
                            if key == old_key && value == old_value => {}
                        _ => break false,
                    }
                }
            }
        };
        if !same {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Writes the mutations, in their order, and tells `written` what each came to.
pub(super) fn apply(
    environment: &Environment,
    txn: &mut RwTxn<'_>,
    mutations: &[Mutation],
    stamp: &Versionstamp,
    mut written: impl FnMut(Change<'_>),
) -> heed::Result<()> {
    let rows = environment.rows;
    let mut write = |txn: &mut RwTxn<'_>, change: Change<'_>| {
        put(rows, txn, change)?;
        written(change);
        Ok::<_, heed::Error>(())
    };
    for mutation in mutations {
        match mutation {
            Mutation::Set { key, value } => write(txn, Change::Set { key, value })?,
            Mutation::Clear { key } => write(txn, Change::Clear { key })?,
            Mutation::ClearRange { start, end } => write(txn, Change::ClearRange { start, end })?,
            Mutation::Atomic { key, op } => {
                let value = op.apply(rows.get(txn, key)?);
                write(txn, Change::Set { key, value: &value })?;
            }
            Mutation::StampedKey { prefix, suffix, value } => {
                write(txn, Change::Set { key: &stamped(prefix, stamp, suffix), value })?;
            }
            Mutation::StampedValue { key, prefix, suffix } => {
                write(txn, Change::Set { key, value: &stamped(prefix, stamp, suffix) })?;
            }
        }
    }
    Ok(())
}

/// Writes one change.
pub(super) fn put(rows: Rows, txn: &mut RwTxn<'_>, change: Change<'_>) -> heed::Result<()> {
    match change {
        Change::Set { key, value } => rows.put(txn, key, value)?,
        Change::Clear { key } => {
            rows.delete(txn, key)?;
        }
        Change::ClearRange { start, end } => {
            if start < end {
                rows.delete_range(txn, &bounds(start, end))?;
            }
        }
    }
    Ok(())
}

/// Returns about how many bytes the mutations add.
pub(super) fn growth_bytes(mutations: &[Mutation]) -> usize {
    let grows = |mutation: &Mutation| match mutation {
        Mutation::Set { key, value } => key.len() + value.len(),
        Mutation::Clear { .. } | Mutation::ClearRange { .. } => 0,
        Mutation::Atomic { key, .. } => key.len() + 8,
        Mutation::StampedKey { prefix, suffix, value } => prefix.len() + suffix.len() + value.len(),
        Mutation::StampedValue { key, prefix, suffix } => key.len() + prefix.len() + suffix.len(),
    };
    mutations.iter().map(grows).sum()
}
