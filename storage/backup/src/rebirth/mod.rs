//! What a restored or imported store changes before a node may start on it: nothing that its former life gave out may hold in
//! the new one, nor be given out again, also not what came after the restored point.

mod error;
mod life;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use aesp_audit::{Origin, open_origins};
use aesp_proto::{Clock, Entropy, TenantId, Timestamp};
use aesp_storage::{Kind, Range, Store, Transaction, row_key};
use tokio::time::sleep;

use self::life::Life;
pub(crate) use self::life::{Arrival, Stage};
pub use self::{error::Error, life::key as life_key};

/// More than anybody can have counted in what is lost after the restored point: revisions, changes of rights, epochs of shards,
/// nodes. So nobody has to know what was.
pub(crate) const GAP: u64 = 1 << 32;
/// Tenants that are changed in one transaction.
const TENANTS_AT_ONCE: usize = 256;

/// Where the new life comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descent {
    /// What was done: `restore` or `import`.
    pub cause: &'static str,
    /// Tells this life from all others of the cluster: the same again changes nothing.
    pub life: String,
    /// The cluster that it was.
    pub cluster: String,
    /// The version of the last commit that was restored.
    pub version: u64,
    /// When that was committed.
    pub time: Timestamp,
}

/// What was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reborn {
    /// What the keys of the audit log begin with from now on.
    pub log_epoch: u32,
    /// Tenants, the platform among them.
    pub tenants: u64,
    /// Logs that were opened anew; the others had been before a crash.
    pub origins: u64,
    /// Nodes of the former life that are gone.
    pub nodes: u64,
}

/// Gives a store its new life, in several transactions: run it again if it was cut off.
///
/// The log epoch, revisions, incarnations, changed rights and shards' epochs start above all old ones. Rows of nodes, open join
/// tokens, refresh tokens and the keys that signed access tokens are gone: a token that was revoked after the restored point,
/// or issued after it, opens nothing. API keys, passwords and certificates are as they were at that point. Each tenant's audit
/// log goes on with an event `store.restored` that names its last head.
///
/// `patience` is how long the rows of nodes are watched for one that lives; nothing if nobody else can have the store.
///
/// # Errors
/// [`Error::Serving`] if a node lives on the store; the store's and the audit log's.
pub async fn rebirth(
    store: &Store,
    clock: Arc<dyn Clock>,
    entropy: &Entropy,
    descent: &Descent,
    patience: Duration,
) -> Result<Reborn, Error> {
    let nodes = watch(store, patience).await?;
    let now = clock.now();
    let begun = store.run_borrowing(|tx| Box::pin(begin(tx, descent, nodes.clone(), now)));
    let life = begun.await?;
    let mut reborn = Reborn { log_epoch: life.log_epoch, tenants: 0, origins: 0, nodes: life.nodes };
    if life.stage == Stage::Done {
        return Ok(reborn);
    }
    let mut last = None;
    loop {
        let tenants = store.run(move |tx| Box::pin(next(tx, last))).await?;
        let Some(end) = tenants.last().copied() else { break };
        reborn.tenants += tenants.len() as u64;
        last = Some(end);
    }
    let told = vec![
        ("cause".to_owned(), descent.cause.to_owned()),
        ("cluster".to_owned(), descent.cluster.clone()),
        ("restored_version".to_owned(), descent.version.to_string()),
        ("restored_to_ms".to_owned(), descent.time.0.to_string()),
    ];
    let origin = Origin { log_epoch: life.log_epoch, told };
    reborn.origins = open_origins(store, clock, entropy, &origin).await?;
    let done = Life { stage: Stage::Done, ..life };
    store.run_borrowing(|tx| Box::pin(done.keep(tx))).await?;
    Ok(reborn)
}

/// Makes sure that no rebirth of the store, nor the import of a tenant, was cut off.
///
/// # Errors
/// [`Error::Unfinished`] or [`Error::Arriving`] if one was; the store's.
pub async fn check(store: &Store) -> Result<(), Error> {
    store.run(|tx| Box::pin(check_in(tx))).await
}

pub(crate) async fn check_in(tx: &Transaction) -> Result<(), Error> {
    if let Some(Life { stage: Stage::Begun, .. }) = Life::load(tx).await? {
        return Err(Error::Unfinished);
    }
    match Arrival::load(tx).await? {
        Some(Arrival { tenant, .. }) => Err(Error::Arriving { tenant }),
        None => Ok(()),
    }
}

/// Makes sure that no node lives on the store: none of their rows changes for so long.
pub(crate) async fn quiet(store: &Store, patience: Duration) -> Result<(), Error> {
    watch(store, patience).await.map(|_| ())
}

/// Keeps nodes away from a store that is being filled, until its [`rebirth`].
///
/// # Errors
/// The store's.
pub async fn keep_away(tx: &Transaction, why: &str) -> Result<(), aesp_storage::Error> {
    let filling = Life { descent: format!("{why}, unfinished"), stage: Stage::Begun, log_epoch: 0, nodes: 0 };
    filling.keep(tx).await
}

type Rows = Vec<(Vec<u8>, Vec<u8>)>;

async fn nodes(tx: &Transaction) -> Result<Rows, Error> {
    let rows = tx.range_raw(Range::prefix(&row_key(TenantId::PLATFORM, Kind::NODE, &[]))).await?;
    Ok(rows.into_iter().map(|(key, row)| (key.to_vec(), row.to_vec())).collect())
}

/// Returns the rows of nodes once none of them has changed for so long.
async fn watch(store: &Store, patience: Duration) -> Result<Rows, Error> {
    let seen = store.run(|tx| Box::pin(nodes(tx))).await?;
    if seen.is_empty() || patience.is_zero() {
        return Ok(seen);
    }
    sleep(patience).await;
    let still = store.run(|tx| Box::pin(nodes(tx))).await?;
    if still == seen { Ok(seen) } else { Err(Error::Serving) }
}

/// Changes what is the platform's.
async fn begin(tx: &Transaction, descent: &Descent, seen: Rows, now: Timestamp) -> Result<Life, Error> {
    let known = Life::load(tx).await?.filter(|life| life.descent == descent.life);
    if let Some(life) = known {
        return Ok(life);
    }
    if nodes(tx).await? != seen {
        return Err(Error::Serving);
    }
    // By the clock, because the lost part may have held lives that nobody here knows of.
    let least = u32::try_from(now.0 / 1_000).unwrap_or_default();
    let log_epoch = tx.raise_log_epoch(least).await?;
    tx.raise_incarnation(GAP).await?;
    tx.restart_rights(GAP).await?;
    tx.free_shards(GAP).await?;
    for kind in [Kind::NODE, Kind::JOIN_TOKEN, Kind::SIGNING_KEY] {
        clear(tx, TenantId::PLATFORM, kind)?;
    }
    let life =
        Life { descent: descent.life.clone(), stage: Stage::Begun, log_epoch, nodes: seen.len() as u64 };
    life.keep(tx).await?;
    Ok(life)
}

/// Changes the tenants after `last`, and returns them.
async fn next(tx: &Transaction, last: Option<TenantId>) -> Result<Vec<TenantId>, Error> {
    let tenants = tx.tenants_with_rows(last, TENANTS_AT_ONCE).await?;
    for tenant in &tenants {
        tx.raise_revision(*tenant, GAP).await?;
        clear(tx, *tenant, Kind::REFRESH_FAMILY)?;
    }
    Ok(tenants)
}

fn clear(tx: &Transaction, tenant: TenantId, kind: Kind) -> Result<(), Error> {
    let rows = Range::prefix(&row_key(tenant, kind, &[]));
    Ok(tx.clear_range_raw(&rows.start, &rows.end)?)
}
