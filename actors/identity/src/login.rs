use std::{sync::Arc, time::Duration};

use aesp_proto::{Entropy, TenantId, Timestamp, TokenId};
use aesp_storage::{TenantKeys, Transaction};

use crate::{
    ApiKey, Error, Principal, RefreshToken, Refusal, Secret, certificate_principal,
    fingerprint::Fingerprint,
    rows::{ApiKeyRow, PrincipalRow, RefreshFamilyRow},
};

/// How long refresh tokens live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefreshLifetime {
    /// Of one token, unless it is refreshed.
    pub idle: Duration,
    /// Of the whole family, however often it is refreshed.
    pub total: Duration,
}

impl Default for RefreshLifetime {
    fn default() -> Self {
        Self { idle: Duration::from_secs(24 * 3600), total: Duration::from_secs(30 * 24 * 3600) }
    }
}

/// A successful login or refresh. The access token follows from it through [`Tokens::issue`](crate::Tokens::issue).
#[derive(Clone, Debug)]
pub struct Grant {
    /// Who logged in.
    pub principal: Principal,
    /// The refresh tokens that descend from this login.
    pub family: TokenId,
    /// Good for one refresh.
    pub refresh_token: RefreshToken,
    /// When the refresh token ends.
    pub refresh_expires_at: Timestamp,
}

/// Logs a principal in with its API key.
///
/// # Errors
/// [`Error::Credentials`], the same to the client for an unknown tenant or key, a wrong secret and a revoked principal;
/// the store's.
pub async fn login_api_key(
    tx: &Transaction,
    key: &ApiKey,
    entropy: &Entropy,
    now: Timestamp,
    lifetime: RefreshLifetime,
) -> Result<Grant, Error> {
    let tenant = key.tenant();
    let keys = keys_or_decoy(tx, tenant).await?;
    let presented = Fingerprint::of(&keys, key);
    let row = find_row(tx.get::<ApiKeyRow>(tenant, &key.id()).await)?;
    let matches = row.as_ref().map_or(&Fingerprint::absent(), |row| &row.fingerprint).matches(&presented);
    let row = row.ok_or(Error::Credentials(Refusal::Unknown))?;
    if !matches {
        return Err(Error::Credentials(Refusal::WrongSecret));
    }
    let principal = tx.get::<PrincipalRow>(tenant, &row.principal).await?;
    let principal = principal.ok_or(Error::Credentials(Refusal::Unknown))?;
    let principal = Principal::from_row(tenant, row.principal, principal);
    begin_family(tx, principal, entropy, now, lifetime).await
}

/// Logs a principal in by a certificate whose chain and revocation the TLS layer has checked.
///
/// # Errors
/// [`Error::Credentials`] if the identity is bound to nobody who is active; the store's.
pub async fn login_certificate(
    tx: &Transaction,
    identity: &str,
    entropy: &Entropy,
    now: Timestamp,
    lifetime: RefreshLifetime,
) -> Result<Grant, Error> {
    let unbound = Error::Credentials(Refusal::CertificateUnbound);
    let Some((tenant, id)) = certificate_principal(tx, identity).await? else { return Err(unbound) };
    let Some(row) = find_row(tx.get::<PrincipalRow>(tenant, &id).await)? else { return Err(unbound) };
    let principal = Principal::from_row(tenant, id, row);
    if principal.is_active() && !principal.has_certificate(identity) {
        return Err(unbound);
    }
    begin_family(tx, principal, entropy, now, lifetime).await
}

async fn begin_family(
    tx: &Transaction,
    principal: Principal,
    entropy: &Entropy,
    now: Timestamp,
    lifetime: RefreshLifetime,
) -> Result<Grant, Error> {
    if !principal.is_active() {
        return Err(Error::Credentials(Refusal::PrincipalRevoked));
    }
    let tenant = principal.tenant;
    let keys = tx.tenant_keys(tenant).await?;
    let token = RefreshToken::new(tenant, TokenId::random(entropy), Secret::generate()?);
    let ends_at = now.plus(lifetime.total);
    let row = RefreshFamilyRow {
        principal: principal.id,
        principal_generation: principal.generation,
        family: Fingerprint::of_family(&keys, &token),
        current: Fingerprint::of(&keys, &token),
        generation: 0,
        created_at: now,
        expires_at: now.plus(lifetime.idle).min(ends_at),
        ends_at,
        revoked: false,
    };
    tx.put(tenant, &token.id(), &row).await?;
    Ok(Grant { principal, family: token.id(), refresh_token: token, refresh_expires_at: row.expires_at })
}

/// Returns the tenant's keys, or the platform's where there is no such tenant, so that a stranger who tries tenants out
/// sees the same work done.
pub(crate) async fn keys_or_decoy(tx: &Transaction, tenant: TenantId) -> Result<Arc<TenantKeys>, Error> {
    match tx.tenant_keys(tenant).await {
        Err(aesp_storage::Error::KeyDestroyed { .. }) => Ok(tx.tenant_keys(TenantId::PLATFORM).await?),
        other => Ok(other?),
    }
}

/// Takes a row that can't be read any more, because its tenant was erased, for a row that isn't there.
pub(crate) fn find_row<R>(row: Result<Option<R>, aesp_storage::Error>) -> Result<Option<R>, Error> {
    match row {
        Err(aesp_storage::Error::KeyDestroyed { .. }) => Ok(None),
        other => Ok(other?),
    }
}
