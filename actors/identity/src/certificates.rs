use aesp_proto::{PrincipalId, TenantId};
use aesp_storage::{Blind, Row, Transaction};

use crate::{
    CertificateIdentity, Error, Principal,
    accounts::active_row,
    rows::{CertificateBindingRow, PrincipalRow, PrincipalStatus},
};

const MAX_IDENTITIES: usize = 16;

/// Lets the holder of certificates with this identity act as the principal. An identity acts as one principal in all
/// tenants together; binding it to the same one again changes nothing.
///
/// Whoever may bind an identity decides whom its holder acts as: grant that to the platform's administrators, or to
/// those of a tenant for identities of its own only.
///
/// # Errors
/// [`Error::IdentityTaken`], [`Error::TooManyIdentities`], [`Error::NotFound`], [`Error::Revoked`]; the store's.
pub async fn bind_certificate(
    tx: &Transaction,
    tenant: TenantId,
    principal: PrincipalId,
    identity: &CertificateIdentity,
) -> Result<Principal, Error> {
    let mut row = active_row(tx, tenant, principal).await?;
    let blind = blind(tx, identity).await?;
    if let Some(bound) = tx.get::<CertificateBindingRow>(TenantId::PLATFORM, &blind).await? {
        if (bound.tenant, bound.principal) == (tenant, principal) {
            return Ok(Principal::from_row(tenant, principal, row));
        }
        if is_alive(tx, &bound).await? {
            return Err(Error::IdentityTaken);
        }
    }
    if row.certificate_identities.len() >= MAX_IDENTITIES {
        return Err(Error::TooManyIdentities);
    }
    row.certificate_identities.push(identity.clone());
    tx.put(TenantId::PLATFORM, &blind, &CertificateBindingRow { tenant, principal }).await?;
    tx.put(tenant, &principal, &row).await?;
    tx.bump_revision(tenant).await?;
    Ok(Principal::from_row(tenant, principal, row))
}

/// Ends what [`bind_certificate`] began, and every token of the principal with it, because some of them may have been
/// had by the certificate.
///
/// # Errors
/// [`Error::NotFound`] if there is no such principal or binding; the store's.
pub async fn unbind_certificate(
    tx: &Transaction,
    tenant: TenantId,
    principal: PrincipalId,
    identity: &CertificateIdentity,
) -> Result<Principal, Error> {
    tx.use_reserve();
    let mut row = tx.get::<PrincipalRow>(tenant, &principal).await?.ok_or(Error::NotFound)?;
    let position =
        row.certificate_identities.iter().position(|bound| bound == identity).ok_or(Error::NotFound)?;
    row.certificate_identities.remove(position);
    row.generation += 1;
    release(tx, identity).await?;
    tx.put(tenant, &principal, &row).await?;
    tx.bump_revision(tenant).await?;
    Ok(Principal::from_row(tenant, principal, row))
}

/// Returns whom the holder of a certificate with this identity acts as. Whether that principal is active is for
/// [`Snapshot::check_certificate`](crate::Snapshot::check_certificate).
///
/// # Errors
/// The store's.
pub async fn certificate_principal(
    tx: &Transaction,
    identity: &str,
) -> Result<Option<(TenantId, PrincipalId)>, Error> {
    let Ok(identity) = identity.parse::<CertificateIdentity>() else { return Ok(None) };
    let blind = blind(tx, &identity).await?;
    let bound = tx.get::<CertificateBindingRow>(TenantId::PLATFORM, &blind).await?;
    Ok(bound.map(|bound| (bound.tenant, bound.principal)))
}

/// Forgets the binding of an identity.
pub(crate) async fn release(tx: &Transaction, identity: &CertificateIdentity) -> Result<(), Error> {
    let blind = blind(tx, identity).await?;
    Ok(tx.delete::<CertificateBindingRow>(TenantId::PLATFORM, &blind).await?)
}

async fn blind(tx: &Transaction, identity: &CertificateIdentity) -> Result<Blind, Error> {
    Ok(tx.blind(TenantId::PLATFORM, CertificateBindingRow::KIND, identity.as_str()).await?)
}

/// Tells whether a binding still means somebody; a deleted tenant leaves its bindings behind.
async fn is_alive(tx: &Transaction, bound: &CertificateBindingRow) -> Result<bool, Error> {
    match tx.get::<PrincipalRow>(bound.tenant, &bound.principal).await {
        Ok(row) => Ok(row.is_some_and(|row| row.status == PrincipalStatus::Active)),
        Err(aesp_storage::Error::KeyDestroyed { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
