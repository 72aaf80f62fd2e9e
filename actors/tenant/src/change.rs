use std::collections::BTreeMap;

use aesp_proto::{TenantId, Timestamp};
use aesp_storage::{Kind, Scan, Transaction, encode};

use crate::{
    Error, Quotas, Status, TenantRow,
    rows::NameRow,
    state::{Transition, is_name},
};

const PLATFORM: TenantId = TenantId::PLATFORM;
const MAX_TEXT_CHARS: usize = 200;
const MAX_METADATA: usize = 64;

/// What a tenant starts with.
#[derive(Clone, Debug)]
pub struct NewTenant {
    /// Drawn by the caller, so that a transaction that runs twice makes one tenant.
    pub id: TenantId,
    /// `^[a-z][a-z0-9-]{1,62}$`, and nobody else's, ever.
    pub name: String,
    /// Its name for people, at most 200 characters; the name if empty.
    pub display_name: String,
    /// What it may use.
    pub quotas: Quotas,
    /// The operators' notes: at most 64, each name and value at most 200 characters.
    pub metadata: BTreeMap<String, String>,
}

/// Creates the tenant of the platform itself; its keys are made with the store.
///
/// # Errors
/// [`Error::NameTaken`] if it exists, or the store's.
pub async fn create_platform(tx: &Transaction, now: Timestamp) -> Result<TenantRow, Error> {
    insert(
        tx,
        NewTenant {
            id: PLATFORM,
            name: "platform".into(),
            display_name: "Platform".into(),
            quotas: Quotas::default(),
            metadata: BTreeMap::new(),
        },
        now,
    )
    .await
}

/// Creates a tenant and its keys.
///
/// # Errors
/// [`Error::InvalidName`], [`Error::Invalid`], [`Error::NameTaken`], or the store's.
pub async fn create(tx: &Transaction, new: NewTenant, now: Timestamp) -> Result<TenantRow, Error> {
    check(&new)?;
    let row = insert(tx, new, now).await?;
    tx.create_tenant_keys(row.id).await?;
    Ok(row)
}

async fn insert(tx: &Transaction, new: NewTenant, now: Timestamp) -> Result<TenantRow, Error> {
    let name = tx.blind(PLATFORM, Kind::TENANT_NAME, &new.name).await?;
    if tx.get::<NameRow>(PLATFORM, &name).await?.is_some() {
        return Err(Error::NameTaken);
    }
    let display_name = if new.display_name.is_empty() { new.name.clone() } else { new.display_name };
    let row = TenantRow {
        id: new.id,
        name: new.name,
        display_name,
        status: Status::Active,
        reason: String::new(),
        quotas: new.quotas,
        created_at: now,
        metadata: new.metadata,
    };
    tx.put(PLATFORM, &name, &NameRow { tenant: row.id }).await?;
    tx.put(PLATFORM, &row.id, &row).await?;
    tx.bump_revision(row.id).await?;
    Ok(row)
}

/// Returns what an export of one tenant says of it: its row as it would lie under its own keys, which go with it.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Deleted`], or the store's.
pub async fn pack(tx: &Transaction, tenant: TenantId) -> Result<(Vec<u8>, Vec<u8>), Error> {
    let row = get(tx, tenant).await?;
    if row.status == Status::Deleted {
        return Err(Error::Deleted);
    }
    Ok(tx.written_row(tenant, &tenant, &row).await?)
}

/// Takes a tenant in whose rows were imported, with the one that [`pack`] made; under another name if one is given.
///
/// # Errors
/// [`Error::NotFound`] if there is no such row; [`Error::NameTaken`], [`Error::InvalidName`], or the store's.
pub async fn unpack(tx: &Transaction, tenant: TenantId, name: Option<&str>) -> Result<TenantRow, Error> {
    let mut row = tx.get::<TenantRow>(tenant, &tenant).await?.ok_or(Error::NotFound)?;
    if let Some(name) = name {
        if !is_name(name) {
            return Err(Error::InvalidName);
        }
        name.clone_into(&mut row.name);
    }
    let name = tx.blind(PLATFORM, Kind::TENANT_NAME, &row.name).await?;
    if tx.get::<NameRow>(PLATFORM, &name).await?.is_some()
        || tx.get::<TenantRow>(PLATFORM, &tenant).await?.is_some()
    {
        return Err(Error::NameTaken);
    }
    tx.delete::<TenantRow>(tenant, &tenant).await?;
    tx.put(PLATFORM, &name, &NameRow { tenant }).await?;
    tx.put(PLATFORM, &tenant, &row).await?;
    Ok(row)
}

/// Returns a tenant, also a deleted one.
///
/// # Errors
/// [`Error::NotFound`], or the store's.
pub async fn get(tx: &Transaction, tenant: TenantId) -> Result<TenantRow, Error> {
    tx.get::<TenantRow>(PLATFORM, &tenant).await?.ok_or(Error::NotFound)
}

/// Finds the tenant that has this name or id, also a deleted one.
///
/// # Errors
/// The store's.
pub async fn resolve(tx: &Transaction, name_or_id: &str) -> Result<Option<TenantId>, Error> {
    if let Ok(id) = name_or_id.parse::<TenantId>() {
        return Ok(tx.get::<TenantRow>(PLATFORM, &id).await?.map(|row| row.id));
    }
    if !is_name(name_or_id) {
        return Ok(None);
    }
    let name = tx.blind(PLATFORM, Kind::TENANT_NAME, name_or_id).await?;
    Ok(tx.get::<NameRow>(PLATFORM, &name).await?.map(|row| row.tenant))
}

/// Returns up to `limit` tenants in the order of their ids, after the one named.
///
/// # Errors
/// The store's.
pub async fn list(tx: &Transaction, after: Option<TenantId>, limit: usize) -> Result<Vec<TenantRow>, Error> {
    let after = after.map(|id| encode(&id));
    let rows = tx.scan::<TenantRow>(PLATFORM, Scan { after, limit, ..Scan::default() }).await?;
    Ok(rows.into_iter().map(|(_, row)| row).collect())
}

/// Gives the tenant other quotas.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Deleted`], or the store's.
pub async fn update_quotas(tx: &Transaction, tenant: TenantId, quotas: Quotas) -> Result<TenantRow, Error> {
    let mut row = get(tx, tenant).await?;
    if row.status == Status::Deleted {
        return Err(Error::Deleted);
    }
    row.quotas = quotas;
    save(tx, row).await
}

/// Suspends the tenant: everything it starts is refused from the moment that this holds.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Conflict`], [`Error::Invalid`] for the platform itself or a long reason, or the store's.
pub async fn suspend(tx: &Transaction, tenant: TenantId, reason: &str) -> Result<TenantRow, Error> {
    check_text("a reason", reason)?;
    // A revocation must succeed on a full store too.
    tx.use_reserve();
    let mut row = moved(tx, tenant, Transition::Suspend).await?;
    row.reason = reason.to_owned();
    save(tx, row).await
}

/// Ends the suspension.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Conflict`], or the store's.
pub async fn resume(tx: &Transaction, tenant: TenantId) -> Result<TenantRow, Error> {
    let mut row = moved(tx, tenant, Transition::Resume).await?;
    row.reason.clear();
    save(tx, row).await
}

/// Deletes the tenant: destroys its keys, so that whatever was sealed under them is gone for good, and keeps a row without
/// anything but its name, so that nobody else gets it.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Conflict`], [`Error::Invalid`] for the platform itself, or the store's.
pub async fn delete(tx: &Transaction, tenant: TenantId) -> Result<TenantRow, Error> {
    tx.use_reserve();
    let mut row = moved(tx, tenant, Transition::Delete).await?;
    row.display_name.clear();
    row.reason.clear();
    row.metadata.clear();
    tx.destroy_tenant_keys(tenant).await?;
    save(tx, row).await
}

async fn moved(tx: &Transaction, tenant: TenantId, transition: Transition) -> Result<TenantRow, Error> {
    if tenant == PLATFORM {
        return Err(Error::Invalid("the platform's own tenant always is active".into()));
    }
    let mut row = get(tx, tenant).await?;
    row.status = row.status.after(transition)?;
    Ok(row)
}

async fn save(tx: &Transaction, row: TenantRow) -> Result<TenantRow, Error> {
    tx.put(PLATFORM, &row.id, &row).await?;
    tx.bump_revision(row.id).await?;
    Ok(row)
}

fn check(new: &NewTenant) -> Result<(), Error> {
    if !is_name(&new.name) {
        return Err(Error::InvalidName);
    }
    check_text("a display name", &new.display_name)?;
    if new.metadata.len() > MAX_METADATA {
        return Err(Error::Invalid(format!("metadata has at most {MAX_METADATA} entries")));
    }
    for (name, value) in &new.metadata {
        check_text("a metadata name", name)?;
        check_text("a metadata value", value)?;
    }
    Ok(())
}

fn check_text(what: &str, text: &str) -> Result<(), Error> {
    if text.chars().count() > MAX_TEXT_CHARS {
        return Err(Error::Invalid(format!("{what} has at most {MAX_TEXT_CHARS} characters")));
    }
    Ok(())
}
