use aesp_proto::{Entropy, PrincipalId, TenantId, Timestamp, TokenId, v1};
use aesp_storage::{Row, Scan, Transaction, encode};

use crate::{
    ApiKey, Error, Principal, PrincipalName, Secret, certificates,
    fingerprint::Fingerprint,
    rows::{ApiKeyRow, PrincipalKind, PrincipalNameRow, PrincipalRow, PrincipalStatus},
};

const MAX_PAGE: usize = 1_000;
/// How many rows of other kinds a page with a filter may pass over before it ends early.
const MAX_SCANNED: usize = 5_000;

/// Part of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// In the order of their ids.
    pub principals: Vec<Principal>,
    /// Where the next page starts; empty after the last.
    pub next_cursor: String,
}

/// Creates a principal that can log in only by what it is given later.
///
/// # Errors
/// [`Error::NameTaken`]; [`Error::InvalidKind`]; the store's.
pub async fn create_principal(
    tx: &Transaction,
    tenant: TenantId,
    kind: v1::PrincipalType,
    name: &PrincipalName,
    entropy: &Entropy,
    now: Timestamp,
) -> Result<Principal, Error> {
    let kind = PrincipalKind::try_from(kind)?;
    let blind = tx.blind(tenant, PrincipalNameRow::KIND, name.as_str()).await?;
    if tx.get::<PrincipalNameRow>(tenant, &blind).await?.is_some() {
        return Err(Error::NameTaken);
    }
    let id = PrincipalId::random(entropy);
    let row = PrincipalRow {
        kind,
        name: name.clone(),
        status: PrincipalStatus::Active,
        created_at: now,
        certificate_identities: Vec::new(),
        generation: 0,
        api_key: None,
    };
    tx.put(tenant, &blind, &PrincipalNameRow { principal: id }).await?;
    tx.put(tenant, &id, &row).await?;
    tx.bump_revision(tenant).await?;
    Ok(Principal::from_row(tenant, id, row))
}

/// Creates a service account with its API key, which is nowhere but in the answer.
///
/// # Errors
/// As [`create_principal`].
pub async fn create_service_account(
    tx: &Transaction,
    tenant: TenantId,
    name: &PrincipalName,
    entropy: &Entropy,
    now: Timestamp,
) -> Result<(Principal, ApiKey), Error> {
    let kind = v1::PrincipalType::ServiceAccount;
    let principal = create_principal(tx, tenant, kind, name, entropy, now).await?;
    rotate_api_key(tx, tenant, principal.id, entropy, now).await
}

/// Creates the platform's first principal, a user with an API key. Its role is the policy component's to assign, in the
/// same transaction.
///
/// # Errors
/// [`Error::AlreadyInitialised`] if the platform has a principal, whatever its state.
pub async fn create_first_administrator(
    tx: &Transaction,
    name: &PrincipalName,
    entropy: &Entropy,
    now: Timestamp,
) -> Result<(Principal, ApiKey), Error> {
    let tenant = TenantId::PLATFORM;
    if !tx.scan::<PrincipalRow>(tenant, Scan { limit: 1, ..Scan::default() }).await?.is_empty() {
        return Err(Error::AlreadyInitialised);
    }
    let principal = create_principal(tx, tenant, v1::PrincipalType::User, name, entropy, now).await?;
    rotate_api_key(tx, tenant, principal.id, entropy, now).await
}

/// Gives a principal a new API key, its first too. The old key ends, and with it all that was gained by it: refresh
/// tokens, access tokens. Whoever rotates a leaked key wants its thief out.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Revoked`]; the store's.
pub async fn rotate_api_key(
    tx: &Transaction,
    tenant: TenantId,
    principal: PrincipalId,
    entropy: &Entropy,
    now: Timestamp,
) -> Result<(Principal, ApiKey), Error> {
    let mut row = active_row(tx, tenant, principal).await?;
    if let Some(old) = row.api_key.take() {
        tx.use_reserve();
        tx.delete::<ApiKeyRow>(tenant, &old).await?;
        row.generation += 1;
    }
    let key = ApiKey::new(tenant, TokenId::random(entropy), Secret::generate()?);
    let fingerprint = Fingerprint::of(&*tx.tenant_keys(tenant).await?, &key);
    tx.put(tenant, &key.id(), &ApiKeyRow { principal, fingerprint, created_at: now }).await?;
    row.api_key = Some(key.id());
    tx.put(tenant, &principal, &row).await?;
    tx.bump_revision(tenant).await?;
    Ok((Principal::from_row(tenant, principal, row), key))
}

/// Ends a principal for ever: its API key, certificates, refresh and access tokens. Its name stays taken, so that no
/// other is mistaken for it in an old record. Revoking it again changes nothing.
///
/// # Errors
/// [`Error::NotFound`]; the store's.
pub async fn revoke_principal(
    tx: &Transaction,
    tenant: TenantId,
    principal: PrincipalId,
) -> Result<Principal, Error> {
    tx.use_reserve();
    let mut row = tx.get::<PrincipalRow>(tenant, &principal).await?.ok_or(Error::NotFound)?;
    if row.status == PrincipalStatus::Active {
        if let Some(key) = row.api_key.take() {
            tx.delete::<ApiKeyRow>(tenant, &key).await?;
        }
        for identity in std::mem::take(&mut row.certificate_identities) {
            certificates::release(tx, &identity).await?;
        }
        row.status = PrincipalStatus::Revoked;
        row.generation += 1;
        tx.put(tenant, &principal, &row).await?;
        tx.bump_revision(tenant).await?;
    }
    Ok(Principal::from_row(tenant, principal, row))
}

/// Finds a principal, revoked ones too, by its name or its id.
///
/// # Errors
/// [`Error::NotFound`]; the store's.
pub async fn find(tx: &Transaction, tenant: TenantId, name_or_id: &str) -> Result<Principal, Error> {
    let id = match name_or_id.parse::<PrincipalId>() {
        Ok(id) => id,
        Err(_) => {
            let name: PrincipalName = name_or_id.parse().map_err(|_| Error::NotFound)?;
            let blind = tx.blind(tenant, PrincipalNameRow::KIND, name.as_str()).await?;
            tx.get::<PrincipalNameRow>(tenant, &blind).await?.ok_or(Error::NotFound)?.principal
        }
    };
    let row = tx.get::<PrincipalRow>(tenant, &id).await?.ok_or(Error::NotFound)?;
    Ok(Principal::from_row(tenant, id, row))
}

/// Lists the tenant's principals, of one kind or all, after `cursor` (empty to start), at most 1,000. A page may have
/// fewer than `limit` and still not be the last.
///
/// # Errors
/// [`Error::InvalidCursor`]; the store's.
pub async fn list(
    tx: &Transaction,
    tenant: TenantId,
    kind: Option<v1::PrincipalType>,
    cursor: &str,
    limit: usize,
) -> Result<Page, Error> {
    let limit = limit.clamp(1, MAX_PAGE);
    let mut after = match cursor {
        "" => None,
        text => Some(text.parse::<PrincipalId>().map_err(|_| Error::InvalidCursor)?),
    };
    let mut principals = Vec::new();
    let mut scanned = 0;
    while scanned < MAX_SCANNED {
        let scan = Scan { after: after.as_ref().map(encode), limit, ..Scan::default() };
        let rows = tx.scan::<PrincipalRow>(tenant, scan).await?;
        let last = rows.len() < limit;
        scanned += rows.len();
        for (id, row) in rows {
            after = Some(id);
            let principal = Principal::from_row(tenant, id, row);
            if kind.is_none_or(|kind| principal.kind == kind) {
                principals.push(principal);
            }
            if principals.len() == limit {
                break;
            }
        }
        if principals.len() == limit {
            break;
        }
        if last {
            return Ok(Page { principals, next_cursor: String::new() });
        }
    }
    Ok(Page { principals, next_cursor: after.map(|id| id.to_string()).unwrap_or_default() })
}

/// Returns the row of a principal that may be given something.
pub(crate) async fn active_row(
    tx: &Transaction,
    tenant: TenantId,
    principal: PrincipalId,
) -> Result<PrincipalRow, Error> {
    let row = tx.get::<PrincipalRow>(tenant, &principal).await?.ok_or(Error::NotFound)?;
    if row.status == PrincipalStatus::Revoked { Err(Error::Revoked) } else { Ok(row) }
}
