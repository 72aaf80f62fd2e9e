//! What changes a catalogue, inside a transaction of the caller's.
//!
//! A version goes from DRAFT to ACTIVE to RETIRED and never back. Several versions of a name may be ACTIVE: each can be called
//! by naming it, and the one activated last is the default. Retiring the default leaves the name without one until a version is
//! activated (again): nobody is moved to an older version silently.

use aesp_proto::{PrincipalId, TenantId, Timestamp};
use aesp_storage::{Blind, Kind, Transaction, encode};

use crate::{
    Contract, Error,
    read::active_versions,
    rows::{DefaultVersion, Origin, Status, StoredContract},
};

/// How many versions of contracts a tenant may have, retired ones included.
const MAX_VERSIONS: usize = 2000;

/// Stores a draft. The same content again is no change.
///
/// # Errors
/// [`Error::VersionTaken`] if the version is stored with other content, [`Error::NotPlatform`], [`Error::TooMany`].
pub async fn create_draft(
    tx: &Transaction,
    owner: TenantId,
    contract: &Contract,
    origin: Origin,
) -> Result<StoredContract, Error> {
    if contract.is_development() {
        return Err(Error::InvalidContract("a development contract is never stored".into()));
    }
    if owner != TenantId::PLATFORM && contract.offered_to().iter().any(|tenant| *tenant != owner) {
        return Err(Error::NotPlatform);
    }
    let version = contract.version().to_string();
    let key = key_of(tx, owner, contract.name(), &version).await?;
    if let Some(stored) = tx.get::<StoredContract>(owner, &key).await? {
        if stored.digest == contract.digest() {
            return Ok(stored);
        }
        return Err(Error::VersionTaken { name: contract.name().to_owned(), version });
    }
    if tx.scan_all::<StoredContract>(owner, vec![]).await?.len() >= MAX_VERSIONS {
        return Err(Error::TooMany { limit: MAX_VERSIONS });
    }
    let row = StoredContract::draft(contract, origin);
    tx.put(owner, &key, &row).await?;
    Ok(row)
}

/// Puts a version into service, and makes it the default of its name. For a version in service already only the latter.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Retired`], [`Error::DigestMismatch`] if it is not what was reviewed, [`Error::NameTaken`] if a
/// tenant would have both a contract of its own and one of the platform's under the name.
pub async fn activate(
    tx: &Transaction,
    owner: TenantId,
    (name, version): (&str, &str),
    expected: Option<&[u8]>,
    by: PrincipalId,
    now: Timestamp,
) -> Result<StoredContract, Error> {
    let key = key_of(tx, owner, name, version).await?;
    let mut row = tx.get::<StoredContract>(owner, &key).await?.ok_or(Error::NotFound)?;
    if expected.is_some_and(|digest| digest != row.digest.as_bytes().as_slice()) {
        return Err(Error::DigestMismatch);
    }
    if row.status == Status::Retired {
        return Err(Error::Retired);
    }
    refuse_clash(tx, owner, &row).await?;
    if row.status == Status::Draft {
        row.status = Status::Active;
        row.activated = Some((by, now));
        tx.put(owner, &key, &row).await?;
    }
    let default = DefaultVersion { name: name.to_owned(), version: row.content.version.clone() };
    tx.put(owner, &key.0, &default).await?;
    bump(tx, owner, &row).await?;
    Ok(row)
}

/// Takes a version out of service for good; a draft too.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Retired`] if it is already.
pub async fn retire(
    tx: &Transaction,
    owner: TenantId,
    (name, version): (&str, &str),
    reason: &str,
) -> Result<StoredContract, Error> {
    tx.use_reserve();
    let key = key_of(tx, owner, name, version).await?;
    let mut row = tx.get::<StoredContract>(owner, &key).await?.ok_or(Error::NotFound)?;
    if row.status == Status::Retired {
        return Err(Error::Retired);
    }
    row.status = Status::Retired;
    row.retired_because = Some(reason.chars().take(500).collect());
    tx.put(owner, &key, &row).await?;
    let default = tx.get::<DefaultVersion>(owner, &key.0).await?;
    if default.is_some_and(|default| default.version == row.content.version) {
        tx.delete::<DefaultVersion>(owner, &key.0).await?;
    }
    bump(tx, owner, &row).await?;
    Ok(row)
}

pub(crate) async fn key_of(
    tx: &Transaction,
    owner: TenantId,
    name: &str,
    version: &str,
) -> Result<(Blind, Blind), Error> {
    let name = tx.blind(owner, Kind::CONTRACT, name).await?;
    Ok((name, tx.blind(owner, Kind::CONTRACT, version).await?))
}

/// A name means one thing in a tenant: its own contract, or one that the platform offers it.
async fn refuse_clash(tx: &Transaction, owner: TenantId, row: &StoredContract) -> Result<(), Error> {
    let name = row.content.name.as_str();
    if owner == TenantId::PLATFORM {
        for tenant in row.content.offered_to.iter().filter(|tenant| **tenant != owner) {
            if !active_versions(tx, *tenant, name).await?.is_empty() {
                return Err(Error::NameTaken {
                    name: name.to_owned(),
                    owner: "a tenant that it is offered to",
                });
            }
        }
        return Ok(());
    }
    let offered = active_versions(tx, TenantId::PLATFORM, name).await?;
    if offered.iter().any(|other| other.content.offered_to.contains(&owner)) {
        return Err(Error::NameTaken { name: name.to_owned(), owner: "the platform" });
    }
    Ok(())
}

async fn bump(tx: &Transaction, owner: TenantId, row: &StoredContract) -> Result<(), Error> {
    tx.bump_revision(owner).await?;
    for tenant in row.content.offered_to.iter().filter(|tenant| **tenant != owner) {
        tx.bump_revision(*tenant).await?;
    }
    Ok(())
}

pub(crate) fn name_prefix(name: Blind) -> Vec<u8> {
    encode(&name)
}
