use std::{
    io::{Read, Seek},
    sync::Arc,
    time::Duration,
};

use aesp_audit::{Origin, PublicKey, adopt_keys, open_origin};
use aesp_proto::{Clock, Entropy, TenantId};
use aesp_storage::{KeyProvider, Range, Store, Transaction};
use data_encoding::BASE64;
use futures::future::BoxFuture;

use super::{
    Error, Exported, TenantHeader,
    import::{check, load},
};
use crate::rebirth::{self, Arrival, GAP, Stage};

/// What takes a tenant in whose rows are there: makes it known to the platform. Runs in a transaction, so perhaps several times.
pub type Adopt<'a> =
    &'a (dyn for<'t> Fn(&'t Transaction) -> BoxFuture<'t, Result<(), aesp_proto::Error>> + Sync);

/// A tenant that was imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// Which one.
    pub tenant: TenantId,
    /// What the keys of all audit logs of the store begin with from now on.
    pub log_epoch: u32,
}

/// Writes the export of one tenant into a store that others live in, and whose nodes are stopped. Nothing is written of an export
/// that [`check`] refuses. One that was cut off keeps nodes away from the store; the same again completes it.
///
/// Its revision starts above all old ones, its audit log goes on with an event `store.restored` in a later log epoch, and the keys
/// that signed it elsewhere are noted. `patience` is how long the rows of nodes are watched for one that lives.
///
/// # Errors
/// Those of [`check`]; [`Error::WholeStore`], [`Error::TenantExists`], what `adopt` says; the store's and the audit log's.
pub async fn import_tenant(
    file: &mut (impl Read + Seek + Send),
    (store, provider): (&Store, &dyn KeyProvider),
    (clock, entropy): (Arc<dyn Clock>, &Entropy),
    patience: Duration,
    adopt: Adopt<'_>,
    told: &mut (dyn FnMut(u64) + Send),
) -> Result<(Exported, Arrived), Error> {
    let exported = check(file, provider).await?;
    let Some(header) = exported.header.tenant.clone() else { return Err(Error::WholeStore) };
    let keys = audit_keys(&header)?;
    rebirth::quiet(store, patience).await?;
    let mac = exported.manifest.mac.as_str();
    let arrival = store.run_borrowing(|tx| Box::pin(claim(tx, header.id, mac))).await?;
    let tenant = header.id;
    let log_epoch = match arrival.stage {
        Stage::Done => arrival.log_epoch,
        Stage::Begun => {
            load(file, store, told).await?;
            let least = u32::try_from(clock.now().0 / 1_000).unwrap_or_default().max(header.log_epoch + 1);
            let settled = store.run_borrowing(|tx| Box::pin(settle(tx, &arrival, &keys, least, adopt))).await;
            match settled {
                Ok(log_epoch) => log_epoch,
                Err(refused @ Error::Adopt(_)) => {
                    store.run(move |tx| Box::pin(forget(tx, tenant))).await?;
                    return Err(refused);
                }
                Err(error) => return Err(error),
            }
        }
    };
    let mut told = vec![
        ("cause".to_owned(), "import of the tenant".to_owned()),
        ("cluster".to_owned(), exported.header.cluster.clone()),
        ("restored_version".to_owned(), exported.header.version.to_string()),
        ("restored_to_ms".to_owned(), exported.header.exported_at.0.to_string()),
    ];
    told.extend(header.checkpoint.map(|note| ("last_checkpoint".to_owned(), note)));
    open_origin(store, clock, entropy, &Origin { log_epoch, told }, tenant).await?;
    store.run(|tx| Box::pin(Arrival::done(tx))).await?;
    Ok((exported, Arrived { tenant, log_epoch }))
}

fn audit_keys(header: &TenantHeader) -> Result<Vec<PublicKey>, Error> {
    let key = |text: &String| BASE64.decode(text.as_bytes()).ok()?.try_into().ok().map(PublicKey);
    let keys: Option<Vec<_>> = header.audit_keys.iter().map(key).collect();
    keys.ok_or(Error::Altered("a key of its audit log is none"))
}

/// Makes sure that the store has nothing of the tenant but what the same import left, and keeps nodes away from it.
async fn claim(tx: &Transaction, tenant: TenantId, mac: &str) -> Result<Arrival, Error> {
    if let Some(begun) = Arrival::load(tx).await? {
        if begun.tenant != tenant || begun.export != mac {
            return Err(rebirth::Error::Arriving { tenant: begun.tenant }.into());
        }
        return Ok(begun);
    }
    rebirth::check_in(tx).await?;
    if tenant == TenantId::PLATFORM || !tx.range_raw(rows_of(tenant).limit(1)).await?.is_empty() {
        return Err(Error::TenantExists(tenant));
    }
    let arrival = Arrival { tenant, export: mac.to_owned(), stage: Stage::Begun, log_epoch: 0 };
    arrival.keep(tx).await?;
    Ok(arrival)
}

/// Makes the tenant known, with everything that its former life gave out behind it.
async fn settle(
    tx: &Transaction,
    arrival: &Arrival,
    keys: &[PublicKey],
    least: u32,
    adopt: Adopt<'_>,
) -> Result<u32, Error> {
    adopt(tx).await.map_err(Error::Adopt)?;
    tx.raise_revision(arrival.tenant, GAP).await?;
    adopt_keys(tx, keys).await?;
    let log_epoch = tx.raise_log_epoch(least).await?;
    Arrival { stage: Stage::Done, log_epoch, ..arrival.clone() }.keep(tx).await?;
    Ok(log_epoch)
}

/// Removes what was written of a tenant that is not taken in.
async fn forget(tx: &Transaction, tenant: TenantId) -> Result<(), Error> {
    let rows = rows_of(tenant);
    tx.clear_range_raw(&rows.start, &rows.end)?;
    Ok(Arrival::done(tx).await?)
}

fn rows_of(tenant: TenantId) -> Range {
    Range::prefix(tenant.as_bytes())
}
