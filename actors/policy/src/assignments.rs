//! What changes who has which role, inside a transaction of the caller's. Every change bumps the revision.

use aesp_proto::{PrincipalId, TenantId, Timestamp};
use aesp_storage::Transaction;

use crate::{
    Error, Role, builtin,
    role::check_name,
    roles::key_of,
    rows::{Assignment, assignments_of},
};

/// How many roles one principal may have.
const MAX_ASSIGNMENTS: usize = 100;

/// Gives a role to a principal, until `expires_at` if there is one. A repeat replaces the end.
///
/// The caller has made sure that the principal exists.
///
/// # Errors
/// [`Error::NoSuchRole`], [`Error::TooMany`].
pub async fn assign_role(
    tx: &Transaction,
    tenant: TenantId,
    principal: PrincipalId,
    role: &str,
    expires_at: Option<Timestamp>,
) -> Result<(), Error> {
    put(tx, tenant, principal, role, expires_at).await?;
    let held = assignments_of(tx, tenant, principal).await?;
    if held.len() > MAX_ASSIGNMENTS {
        return Err(Error::TooMany { what: "roles for a principal", limit: MAX_ASSIGNMENTS });
    }
    tx.bump_revision(tenant).await?;
    Ok(())
}

/// Takes a role from a principal, and returns whether it had it.
///
/// # Errors
/// [`Error::Store`].
pub async fn revoke_role(
    tx: &Transaction,
    tenant: TenantId,
    principal: PrincipalId,
    role: &str,
) -> Result<bool, Error> {
    tx.use_reserve();
    let key = (principal, key_of(tx, tenant, role).await?);
    let had = tx.get::<Assignment>(tenant, &key).await?.is_some();
    if had {
        tx.delete::<Assignment>(tenant, &key).await?;
        tx.bump_revision(tenant).await?;
    }
    Ok(had)
}

/// Makes these the roles of a principal, without end. An assignment that stays keeps its end.
///
/// # Errors
/// [`Error::NoSuchRole`], [`Error::TooMany`].
pub async fn set_roles(
    tx: &Transaction,
    tenant: TenantId,
    principal: PrincipalId,
    roles: &[String],
) -> Result<(), Error> {
    if roles.len() > MAX_ASSIGNMENTS {
        return Err(Error::TooMany { what: "roles for a principal", limit: MAX_ASSIGNMENTS });
    }
    let held = assignments_of(tx, tenant, principal).await?;
    for assignment in held.iter().filter(|held| !roles.contains(&held.role)) {
        let key = (principal, key_of(tx, tenant, &assignment.role).await?);
        tx.delete::<Assignment>(tenant, &key).await?;
    }
    let added: Vec<_> = roles.iter().filter(|role| !held.iter().any(|held| held.role == **role)).collect();
    if added.is_empty() {
        // Rights are taken only, which must be possible on a full disk.
        tx.use_reserve();
    }
    for role in added {
        put(tx, tenant, principal, role, None).await?;
    }
    tx.bump_revision(tenant).await?;
    Ok(())
}

/// Returns what roles a principal was given, ended ones included, by name.
///
/// # Errors
/// [`Error::Store`].
pub async fn list_assignments(
    tx: &Transaction,
    tenant: TenantId,
    principal: PrincipalId,
) -> Result<Vec<Assignment>, Error> {
    let mut held = assignments_of(tx, tenant, principal).await?;
    held.sort_by(|a, b| a.role.cmp(&b.role));
    Ok(held)
}

async fn put(
    tx: &Transaction,
    tenant: TenantId,
    principal: PrincipalId,
    role: &str,
    expires_at: Option<Timestamp>,
) -> Result<(), Error> {
    check_name(role)?;
    let key = key_of(tx, tenant, role).await?;
    if builtin::find(tenant, role).is_none() && tx.get::<Role>(tenant, &key).await?.is_none() {
        return Err(Error::NoSuchRole(role.to_owned()));
    }
    let row = Assignment { principal, role: role.to_owned(), expires_at };
    tx.put(tenant, &(principal, key), &row).await?;
    Ok(())
}
