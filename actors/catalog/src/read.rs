//! What reads a catalogue, inside a transaction of the caller's.

use aesp_proto::TenantId;
use aesp_storage::{Error as StoreError, Kind, Transaction};

use crate::{
    Error, Status,
    changes::{key_of, name_prefix},
    rows::{DefaultVersion, StoredContract},
};

/// Returns a version of a contract and its owner: of the tenant's own, in whatever state, or an active one that the platform
/// offers it. Without a version, the default one.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn get_contract(
    tx: &Transaction,
    tenant: TenantId,
    name: &str,
    version: Option<&str>,
) -> Result<(TenantId, StoredContract), Error> {
    for owner in [tenant, TenantId::PLATFORM] {
        let found = match version {
            Some(version) => {
                tx.get::<StoredContract>(owner, &key_of(tx, owner, name, version).await?).await?
            }
            None => default_of(tx, owner, name).await?,
        };
        if let Some(row) = found.filter(|row| owner == tenant || offered(row, tenant)) {
            return Ok((owner, row));
        }
    }
    Err(Error::NotFound)
}

/// Returns every version that a tenant may see, with its owner, by name and version: its own, and the active ones that the
/// platform offers it.
///
/// # Errors
/// [`Error::Store`].
pub async fn list_contracts(
    tx: &Transaction,
    tenant: TenantId,
    status: Option<Status>,
) -> Result<Vec<(TenantId, StoredContract)>, Error> {
    let own = tx.scan_all::<StoredContract>(tenant, vec![]).await?.into_iter().map(|row| (tenant, row));
    let mut rows: Vec<_> = own.collect();
    if tenant != TenantId::PLATFORM {
        let platform = tx.scan_all::<StoredContract>(TenantId::PLATFORM, vec![]).await?;
        let visible = platform.into_iter().filter(|row| offered(row, tenant));
        rows.extend(visible.map(|row| (TenantId::PLATFORM, row)));
    }
    rows.retain(|(_, row)| status.is_none_or(|status| row.status == status));
    let order = |row: &StoredContract| (row.content.name.clone(), row.content.version.clone());
    rows.sort_by_cached_key(|(_, row)| order(row));
    Ok(rows)
}

fn offered(row: &StoredContract, tenant: TenantId) -> bool {
    row.status == Status::Active && row.content.offered_to.contains(&tenant)
}

async fn default_of(tx: &Transaction, owner: TenantId, name: &str) -> Result<Option<StoredContract>, Error> {
    let key = tx.blind(owner, Kind::CONTRACT, name).await?;
    let Some(default) = tx.get::<DefaultVersion>(owner, &key).await? else { return Ok(None) };
    let key = key_of(tx, owner, name, &default.version.to_string()).await?;
    Ok(tx.get::<StoredContract>(owner, &key).await?)
}

/// Returns the active versions of a name; none where the owner's keys, and so its catalogue, are gone.
pub(crate) async fn active_versions(
    tx: &Transaction,
    owner: TenantId,
    name: &str,
) -> Result<Vec<StoredContract>, Error> {
    let prefix = match tx.blind(owner, Kind::CONTRACT, name).await {
        Ok(blind) => name_prefix(blind),
        Err(StoreError::KeyDestroyed { .. }) => return Ok(vec![]),
        Err(error) => return Err(error.into()),
    };
    let mut rows = tx.scan_all::<StoredContract>(owner, prefix).await?;
    rows.retain(|row| row.status == Status::Active);
    Ok(rows)
}
