use std::time::Duration;

use aesp_proto::{PrincipalId, TenantId, Timestamp, TokenId};
use aesp_storage::Transaction;

use crate::{
    Claims, Error, Principal, RefreshToken,
    refresh::authentic_family,
    rows::{PrincipalRow, RefreshFamilyRow, RevokedTokenRow},
    tokens::MAX_ACCESS_LIFETIME,
};

/// How much longer than the token a revocation is remembered, so that a clock that is set back does not revive it.
pub(crate) const MARGIN: Duration = Duration::from_secs(600);

/// Ends one access token.
///
/// # Errors
/// The store's.
pub async fn revoke_access_token(tx: &Transaction, claims: &Claims) -> Result<(), Error> {
    tx.use_reserve();
    let row = RevokedTokenRow { until: claims.expires_at.plus(MARGIN) };
    tx.put(claims.tenant, &claims.token, &row).await?;
    tx.bump_revision(claims.tenant).await?;
    Ok(())
}

/// Ends the family of a refresh token, current or old, and the access tokens that came with it. Returns whose it was;
/// ending it again changes nothing.
///
/// # Errors
/// [`Error::Credentials`] unless the token is one of the family's; the store's.
pub async fn revoke_refresh_token(
    tx: &Transaction,
    token: &RefreshToken,
    now: Timestamp,
) -> Result<PrincipalId, Error> {
    let row = authentic_family(tx, token).await?;
    let principal = row.principal;
    if !row.revoked {
        end_family(tx, token.tenant(), token.id(), row, now).await?;
    }
    Ok(principal)
}

/// Ends every token that the principal holds, whatever any clock says. Its API key and certificates stay good.
///
/// # Errors
/// [`Error::NotFound`]; the store's.
pub async fn revoke_all(
    tx: &Transaction,
    tenant: TenantId,
    principal: PrincipalId,
) -> Result<Principal, Error> {
    tx.use_reserve();
    let mut row = tx.get::<PrincipalRow>(tenant, &principal).await?.ok_or(Error::NotFound)?;
    row.generation += 1;
    tx.put(tenant, &principal, &row).await?;
    tx.bump_revision(tenant).await?;
    Ok(Principal::from_row(tenant, principal, row))
}

pub(crate) async fn end_family(
    tx: &Transaction,
    tenant: TenantId,
    id: TokenId,
    mut row: RefreshFamilyRow,
    now: Timestamp,
) -> Result<(), Error> {
    tx.use_reserve();
    row.revoked = true;
    tx.put(tenant, &id, &row).await?;
    // The youngest access token of the family was issued by now.
    let until = now.plus(MAX_ACCESS_LIFETIME).plus(MARGIN);
    tx.put(tenant, &id, &RevokedTokenRow { until }).await?;
    tx.bump_revision(tenant).await?;
    Ok(())
}
