use aesp_proto::{PrincipalId, TenantId, Timestamp, TokenId};
use aesp_storage::Transaction;

use crate::{
    Error, Grant, Principal, RefreshLifetime, RefreshToken, Refusal,
    fingerprint::Fingerprint,
    login::{find_row, keys_or_decoy},
    revocation::end_family,
    rows::{PrincipalRow, PrincipalStatus, RefreshFamilyRow},
};

/// What presenting a refresh token led to. Both must be committed.
#[derive(Clone, Debug)]
#[must_use = "a reuse must be recorded as a security alert"]
pub enum Refresh {
    /// The token was exchanged for the next of its family.
    Granted(Box<Grant>),
    /// The token had been exchanged before, so two parties hold the family. It has ended, its access tokens too.
    Reused(Reuse),
}

/// Whom a reused refresh token was issued to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reuse {
    /// The tenant.
    pub tenant: TenantId,
    /// The principal.
    pub principal: PrincipalId,
    /// The family that has ended.
    pub family: TokenId,
}

impl Reuse {
    /// Returns what the client gets to hear: what every failed login hears.
    #[must_use]
    pub fn refusal(&self) -> Error {
        Error::Credentials(Refusal::Reused)
    }
}

/// Exchanges a refresh token for the next one of its family.
///
/// # Errors
/// [`Error::Credentials`], the same to the client for an unknown, wrong, expired and revoked token; the store's.
///
/// Source: RFC 9700 §4.14.2 (refresh token rotation).
pub async fn refresh(
    tx: &Transaction,
    token: &RefreshToken,
    now: Timestamp,
    lifetime: RefreshLifetime,
) -> Result<Refresh, Error> {
    let (tenant, id) = (token.tenant(), token.id());
    let mut row = authentic_family(tx, token).await?;
    if row.revoked {
        return Err(Error::Credentials(Refusal::Revoked));
    }
    let keys = tx.tenant_keys(tenant).await?;
    if !row.current.matches(&Fingerprint::of(&keys, token)) {
        let reuse = Reuse { tenant, principal: row.principal, family: id };
        end_family(tx, tenant, id, row, now).await?;
        return Ok(Refresh::Reused(reuse));
    }
    let principal = tx.get::<PrincipalRow>(tenant, &row.principal).await?;
    let principal = principal.ok_or(Error::Credentials(Refusal::Unknown))?;
    if principal.status == PrincipalStatus::Revoked {
        return Err(Error::Credentials(Refusal::PrincipalRevoked));
    }
    if principal.generation != row.principal_generation {
        return Err(Error::Credentials(Refusal::Revoked));
    }
    if now >= row.expires_at {
        return Err(Error::Credentials(Refusal::Expired));
    }
    let next = RefreshToken::new(tenant, id, token.secret().successor()?);
    row.current = Fingerprint::of(&keys, &next);
    row.generation += 1;
    row.expires_at = now.plus(lifetime.idle).min(row.ends_at);
    tx.put(tenant, &id, &row).await?;
    Ok(Refresh::Granted(Box::new(Grant {
        principal: Principal::from_row(tenant, row.principal, principal),
        family: id,
        refresh_token: next,
        refresh_expires_at: row.expires_at,
    })))
}

/// Returns the family of a token that is, or once was, its own. Knowing a family's id, which every access token shows,
/// does not suffice.
pub(crate) async fn authentic_family(
    tx: &Transaction,
    token: &RefreshToken,
) -> Result<RefreshFamilyRow, Error> {
    let keys = keys_or_decoy(tx, token.tenant()).await?;
    let presented = Fingerprint::of_family(&keys, token);
    let row = find_row(tx.get::<RefreshFamilyRow>(token.tenant(), &token.id()).await)?;
    let matches = row.as_ref().map_or(&Fingerprint::absent(), |row| &row.family).matches(&presented);
    match row {
        Some(row) if matches => Ok(row),
        Some(_) => Err(Error::Credentials(Refusal::WrongSecret)),
        None => Err(Error::Credentials(Refusal::Unknown)),
    }
}
