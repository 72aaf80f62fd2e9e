use heed::RwTxn;

use super::{environment::Environment, snapshot::bounds};
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

/// Writes the mutations, in their order.
pub(super) fn apply(
    environment: &Environment,
    txn: &mut RwTxn<'_>,
    mutations: &[Mutation],
    stamp: &Versionstamp,
) -> heed::Result<()> {
    let rows = environment.rows;
    for mutation in mutations {
        match mutation {
            Mutation::Set { key, value } => rows.put(txn, key, value)?,
            Mutation::Clear { key } => {
                rows.delete(txn, key)?;
            }
            Mutation::ClearRange { start, end } => {
                if start < end {
                    rows.delete_range(txn, &bounds(start, end))?;
                }
            }
            Mutation::Atomic { key, op } => {
                let value = op.apply(rows.get(txn, key)?);
                rows.put(txn, key, &value)?;
            }
            Mutation::StampedKey { prefix, suffix, value } => {
                rows.put(txn, &stamped(prefix, stamp, suffix), value)?;
            }
            Mutation::StampedValue { key, prefix, suffix } => {
                rows.put(txn, key, &stamped(prefix, stamp, suffix))?;
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
