use aesp_cluster::Fence;
use aesp_proto::{DispatchId, EventId, SessionId, TenantId, Timestamp};
use aesp_storage::{Blind, Kind, Row, Scan, Transaction, encode};
use futures::future::join;
use serde::{Deserialize, Serialize};

use crate::{Error, Payload};

/// What is known of a call, by its session and invocation id. The id is the client's own text, so it is in the row, which
/// is sealed, and in the key only blinded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomeRow {
    /// The client's name of the call.
    pub invocation: String,
    /// The contract's name.
    pub tool: String,
    /// The contract's version.
    pub version: String,
    /// Of the call's arguments; a repeat must have the same.
    pub arguments_digest: [u8; 32],
    /// How far it came.
    pub state: OutcomeState,
    /// The first attempt, for a Runtime that redelivers.
    pub dispatch: Option<DispatchId>,
    /// For a tool that runs at the agent: until when it may start. Nothing for a call that a Runtime runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permitted_until: Option<Timestamp>,
    /// When this was written.
    pub written_at: Timestamp,
    /// Until when it is kept at least; it goes when its session is purged.
    pub keep_until: Timestamp,
}

/// How far a call came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeState {
    /// A Runtime may have started it.
    Intended,
    /// It ended so.
    Recorded(Outcome),
    /// It may have had its effect, and nobody knows.
    Unknown,
    /// It was unknown, and a Runtime or an operator settled it so.
    Resolved(Outcome),
}

/// How a call ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// In one word.
    pub settled: Settled,
    /// What a repeat is answered with.
    pub payload: Payload,
    /// The audit record of it.
    pub event: Option<EventId>,
}

/// How a call ended, in one word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Settled {
    /// It answered.
    Succeeded,
    /// It failed.
    #[default]
    Failed,
    /// It never ran, or its end was not awaited.
    Cancelled,
}

impl Row for OutcomeRow {
    const KIND: Kind = Kind::OUTCOME;
    type Key = (SessionId, Blind);
}

/// Returns what is known of a call.
///
/// # Errors
/// The store's.
pub async fn read_outcome(
    tx: &Transaction,
    tenant: TenantId,
    session: SessionId,
    invocation: &str,
) -> Result<Option<OutcomeRow>, Error> {
    Ok(tx.get_blinded(tenant, invocation, |blind| (session, blind)).await?)
}

/// Writes that a call is about to be given to a Runtime, unless what is known of an earlier attempt forbids it: then writes
/// nothing and returns that. `may_repeat` says whether an attempt may follow one whose end nobody knows.
///
/// # Errors
/// [`Error::Store`] with `Fenced`, or the store's other errors.
pub async fn write_intent(
    tx: &Transaction,
    fence: Fence,
    tenant: TenantId,
    session: SessionId,
    row: &OutcomeRow,
    may_repeat: bool,
) -> Result<Option<OutcomeRow>, Error> {
    let (fenced, found) = join(fence.check(tx), read_outcome(tx, tenant, session, &row.invocation)).await;
    fenced?;
    let found = found?;
    // INVARIANT I1: what ended is not begun again, whatever became of the session's actor meanwhile.
    let stands = found.as_ref().is_some_and(|found| {
        !may_repeat
            || !matches!(found.state, OutcomeState::Intended | OutcomeState::Unknown)
            || found.arguments_digest != row.arguments_digest
    });
    if stands {
        return Ok(found);
    }
    put(tx, tenant, session, row).await?;
    Ok(None)
}

/// Takes back the intent of a call that had no effect. What has an outcome stays.
///
/// # Errors
/// [`Error::Store`] with `Fenced`, or the store's other errors.
pub async fn withdraw_intent(
    tx: &Transaction,
    fence: Fence,
    tenant: TenantId,
    session: SessionId,
    invocation: &str,
) -> Result<(), Error> {
    let (fenced, found) = join(fence.check(tx), read_outcome(tx, tenant, session, invocation)).await;
    fenced?;
    if let Some(OutcomeRow { state: OutcomeState::Intended, .. }) = found? {
        let blind = tx.blind(tenant, Kind::OUTCOME, invocation).await?;
        tx.delete::<OutcomeRow>(tenant, &(session, blind)).await?;
    }
    Ok(())
}

/// Writes what came of a call, over its intent.
///
/// # Errors
/// [`Error::Store`] with `Fenced`, or the store's other errors.
pub async fn write_outcome(
    tx: &Transaction,
    fence: Fence,
    tenant: TenantId,
    session: SessionId,
    row: &OutcomeRow,
) -> Result<(), Error> {
    let (fenced, put) = join(fence.check(tx), put(tx, tenant, session, row)).await;
    fenced?;
    put
}

/// Settles a call whose outcome is open, and returns its row.
///
/// # Errors
/// [`Error::NotOpen`] if there is no such call or it has an outcome, [`Error::Store`] with `Fenced`, or the store's others.
pub async fn resolve(
    tx: &Transaction,
    fence: Fence,
    (tenant, session): (TenantId, SessionId),
    invocation: &str,
    outcome: Outcome,
    now: Timestamp,
) -> Result<OutcomeRow, Error> {
    let (fenced, found) = join(fence.check(tx), read_outcome(tx, tenant, session, invocation)).await;
    fenced?;
    let mut row = found?.ok_or(Error::NotOpen)?;
    if !matches!(row.state, OutcomeState::Intended | OutcomeState::Unknown) {
        return Err(Error::NotOpen);
    }
    row.state = OutcomeState::Resolved(outcome);
    row.written_at = now;
    put(tx, tenant, session, &row).await?;
    Ok(row)
}

/// Removes up to `limit` outcomes of a session; tells whether there may be more.
pub(crate) async fn purge_outcomes(
    tx: &Transaction,
    tenant: TenantId,
    session: SessionId,
    limit: usize,
) -> Result<bool, Error> {
    let scan = Scan { prefix: encode(&session), limit, ..Scan::default() };
    let rows = tx.scan::<OutcomeRow>(tenant, scan).await?;
    for (key, _) in &rows {
        tx.delete::<OutcomeRow>(tenant, key).await?;
    }
    Ok(rows.len() == limit)
}

async fn put(tx: &Transaction, tenant: TenantId, session: SessionId, row: &OutcomeRow) -> Result<(), Error> {
    let blind = tx.blind(tenant, Kind::OUTCOME, &row.invocation).await?;
    // Only an outcome makes a row long, and by I1 none is written over.
    Ok(tx.put_over_whole(tenant, &(session, blind), row).await?)
}
