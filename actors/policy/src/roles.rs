//! What changes roles, inside a transaction of the caller's. Every change bumps the revision of the tenant's rights.

use std::collections::{HashMap, HashSet};

use aesp_proto::{TenantId, Timestamp};
use aesp_storage::{Blind, Kind, Transaction};

use crate::{Error, Role, builtin, rows::Assignment};

/// How many roles of its own a tenant may have.
const MAX_ROLES: usize = 1000;

/// Creates a role.
///
/// # Errors
/// [`Error::Invalid`] if it is malformed or grants what does not exist, [`Error::RoleExists`], [`Error::NoSuchRole`] for an
/// unknown parent, [`Error::Cycle`], [`Error::TooMany`].
pub async fn create_role(tx: &Transaction, tenant: TenantId, role: &Role) -> Result<(), Error> {
    role.check()?;
    if builtin::find(tenant, &role.name).is_some() {
        return Err(Error::BuiltIn(role.name.clone()));
    }
    let key = key_of(tx, tenant, &role.name).await?;
    if tx.get::<Role>(tenant, &key).await?.is_some() {
        return Err(Error::RoleExists(role.name.clone()));
    }
    let mut roles = tx.scan_all::<Role>(tenant, vec![]).await?;
    if roles.len() >= MAX_ROLES {
        return Err(Error::TooMany { what: "roles", limit: MAX_ROLES });
    }
    roles.push(role.clone());
    check_inheritance(tenant, &roles)?;
    tx.put(tenant, &key, role).await?;
    tx.bump_revision(tenant).await?;
    Ok(())
}

/// Deletes a role that nobody has and no role inherits from. Assignments that have ended go with it.
///
/// # Errors
/// [`Error::BuiltIn`], [`Error::NoSuchRole`], [`Error::InUse`].
pub async fn delete_role(
    tx: &Transaction,
    tenant: TenantId,
    name: &str,
    now: Timestamp,
) -> Result<(), Error> {
    if builtin::find(tenant, name).is_some() {
        return Err(Error::BuiltIn(name.to_owned()));
    }
    let key = key_of(tx, tenant, name).await?;
    if tx.get::<Role>(tenant, &key).await?.is_none() {
        return Err(Error::NoSuchRole(name.to_owned()));
    }
    tx.use_reserve();
    let in_use = |how: String| Err(Error::InUse { role: name.to_owned(), how });
    let roles = tx.scan_all::<Role>(tenant, vec![]).await?;
    if let Some(heir) = roles.iter().find(|role| role.inherits.iter().any(|parent| parent == name)) {
        return in_use(format!("inherited by {:?}", heir.name));
    }
    let assignments = tx.scan_all::<Assignment>(tenant, vec![]).await?;
    for assignment in assignments.iter().filter(|assignment| assignment.role == name) {
        if assignment.holds(now) {
            return in_use("assigned".into());
        }
        tx.delete::<Assignment>(tenant, &(assignment.principal, key)).await?;
    }
    tx.delete::<Role>(tenant, &key).await?;
    tx.bump_revision(tenant).await?;
    Ok(())
}

/// Returns every role of the tenant by name, the built-in ones first.
///
/// # Errors
/// [`Error::Store`].
pub async fn list_roles(tx: &Transaction, tenant: TenantId) -> Result<Vec<Role>, Error> {
    let mut own = tx.scan_all::<Role>(tenant, vec![]).await?;
    own.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(builtin::built_in(tenant).iter().cloned().chain(own).collect())
}

pub(crate) async fn key_of(tx: &Transaction, tenant: TenantId, name: &str) -> Result<Blind, Error> {
    Ok(tx.blind(tenant, Kind::ROLE, name).await?)
}

/// Checks that every parent exists and that no role inherits from itself.
pub(crate) fn check_inheritance(tenant: TenantId, own: &[Role]) -> Result<(), Error> {
    let built_in = builtin::built_in(tenant).iter();
    let by_name: HashMap<&str, &Role> = built_in.chain(own).map(|role| (role.name.as_str(), role)).collect();
    for role in own {
        let mut seen = HashSet::new();
        let mut open: Vec<&str> = role.inherits.iter().map(String::as_str).collect();
        while let Some(name) = open.pop() {
            if name == role.name {
                return Err(Error::Cycle(role.name.clone()));
            }
            let parent = by_name.get(name).ok_or_else(|| Error::NoSuchRole(name.to_owned()))?;
            if seen.insert(name) {
                open.extend(parent.inherits.iter().map(String::as_str));
            }
        }
    }
    Ok(())
}
