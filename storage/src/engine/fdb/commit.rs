use std::any::Any;

use foundationdb::{
    Database, FdbError, Transaction,
    options::{ConflictRangeType, MutationType, TransactionOption},
};
use futures::future::try_join_all;

use super::{
    failure,
    snapshot::{FdbSnapshot, rows},
    space::{Space, with_stamp},
};
use crate::{
    AtomicOp, Error, Range,
    engine::{Commit, Mutation, Observed, Snapshot, Versionstamp},
    key::after,
};

/// Commits in one transaction of FoundationDB, and never tries twice: whoever asked knows whether a second time is right.
pub(super) async fn commit(
    database: &Database,
    space: &Space,
    mut commit: Commit,
) -> Result<Versionstamp, Error> {
    let transaction = match commit.snapshot.take() {
        Some(snapshot) => {
            let transaction = at(database, snapshot)?;
            observe(&transaction, space, &commit.observed).map_err(failure::of_read)?;
            transaction
        }
        None => {
            let transaction = begin(database)?;
            compare(&transaction, space, &commit.observed).await?;
            transaction
        }
    };
    write(&transaction, space, &commit.mutations);
    let stamp = transaction.get_versionstamp();
    if let Err(error) = transaction.commit().await {
        return Err(failure::of_commit(FdbError::from(error), size(&commit)));
    }
    let stamp = stamp.await.map_err(|error| failure::of_commit(error, 0))?;
    // It was committed, but under which stamp nobody can say.
    stamp.as_ref().try_into().map_err(|_| Error::CommitUnknown)
}

fn begin(database: &Database) -> Result<Transaction, Error> {
    let transaction = database.create_trx().map_err(failure::of_read)?;
    transaction.set_option(TransactionOption::ReadYourWritesDisable).map_err(failure::of_read)?;
    Ok(transaction)
}

/// Returns a transaction that reads at a snapshot's version: its own, or where another engine stands before this one, a new one.
fn at(database: &Database, snapshot: Box<dyn Snapshot>) -> Result<Transaction, Error> {
    let version = snapshot.version();
    let snapshot: Box<dyn Any> = snapshot;
    if let Ok(own) = snapshot.downcast::<FdbSnapshot>() {
        return own.into_transaction().map_err(failure::of_read);
    }
    let version = i64::try_from(version)
        .map_err(|_| Error::unavailable("a snapshot of another engine can't be committed here"))?;
    let transaction = begin(database)?;
    transaction.set_read_version(version);
    Ok(transaction)
}

/// Has the commit refused if anything that was read has changed since the read version.
fn observe(transaction: &Transaction, space: &Space, observed: &[Observed]) -> Result<(), FdbError> {
    for seen in observed {
        let (start, end) = match seen {
            Observed::Point { key, .. } => (space.key(key), space.key(&after(key))),
            Observed::Range { start, end, .. } if start < end => (space.key(start), space.key(end)),
            Observed::Range { .. } => continue,
        };
        transaction.add_conflict_range(&start, &end, ConflictRangeType::Read)?;
    }
    Ok(())
}

/// Without a snapshot only the values can tell: what is known without a look, as that a request id is new, is looked at here.
async fn compare(transaction: &Transaction, space: &Space, observed: &[Observed]) -> Result<(), Error> {
    let looks = observed.iter().map(async |seen| match seen {
        Observed::Point { key, value } => {
            let found = transaction.get(&space.key(key), false).await.map_err(failure::of_read)?;
            Ok::<_, Error>(found.as_deref() == value.as_deref())
        }
        Observed::Range { start, end, rows: seen } => {
            let range = Range::new(start.as_slice(), end.as_slice());
            Ok(rows(transaction, space, &range, false).await? == *seen)
        }
    });
    let unchanged = try_join_all(looks).await?.into_iter().all(|same| same);
    if unchanged { Ok(()) } else { Err(Error::Conflict) }
}

fn write(transaction: &Transaction, space: &Space, mutations: &[Mutation]) {
    for mutation in mutations {
        match mutation {
            Mutation::Set { key, value } => transaction.set(&space.key(key), value),
            Mutation::Clear { key } => transaction.clear(&space.key(key)),
            Mutation::ClearRange { start, end } if start < end => {
                transaction.clear_range(&space.key(start), &space.key(end));
            }
            Mutation::ClearRange { .. } => {}
            Mutation::Atomic { key, op } => match op {
                AtomicOp::Add(delta) => {
                    transaction.atomic_op(&space.key(key), &delta.to_le_bytes(), MutationType::Add);
                }
                AtomicOp::Max(least) => {
                    transaction.atomic_op(&space.key(key), &least.to_le_bytes(), MutationType::Max);
                }
            },
            Mutation::StampedKey { prefix, suffix, value } => {
                let key = space.stamped_key(prefix, suffix);
                transaction.atomic_op(&key, value, MutationType::SetVersionstampedKey);
            }
            Mutation::StampedValue { key, prefix, suffix } => {
                let value = with_stamp(prefix, suffix);
                transaction.atomic_op(&space.key(key), &value, MutationType::SetVersionstampedValue);
            }
        }
    }
}

/// Returns about how many bytes a commit has, for the error that says that they are too many.
fn size(commit: &Commit) -> usize {
    let written = commit.mutations.iter().map(|mutation| match mutation {
        Mutation::Set { key, value } => key.len() + value.len(),
        Mutation::Clear { key } => key.len(),
        Mutation::ClearRange { start, end } => start.len() + end.len(),
        Mutation::Atomic { key, .. } => key.len() + 8,
        Mutation::StampedKey { prefix, suffix, value } => prefix.len() + 10 + suffix.len() + value.len(),
        Mutation::StampedValue { key, prefix, suffix } => key.len() + prefix.len() + 10 + suffix.len(),
    });
    let read = commit.observed.iter().map(|seen| match seen {
        Observed::Point { key, .. } => 2 * key.len() + 1,
        Observed::Range { start, end, .. } => start.len() + end.len(),
    });
    written.chain(read).sum()
}
