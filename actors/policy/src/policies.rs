//! What changes policies, inside a transaction of the caller's. Every change bumps the revision.

use aesp_proto::{PrincipalId, TenantId, Timestamp, TokenId};
use aesp_storage::{Scan, Transaction, encode};

use crate::{Error, rows::StoredPolicy};

/// How many policy texts a tenant may have, and how long they may be together, so that one transaction can read them.
const MAX_POLICIES: usize = 10_000;
const MAX_TOTAL_BYTES: usize = 4 << 20;

/// A policy as its author writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyDraft {
    /// The id that it will have; drawn by the caller, because a transaction may run twice.
    pub id: TokenId,
    /// For people.
    pub name: String,
    /// For people.
    pub description: String,
    /// Cedar source, one or more policies.
    pub text: String,
}

/// Validates and stores a policy; it holds from the commit.
///
/// # Errors
/// [`Error::InvalidPolicy`] with everything that Cedar finds, [`Error::Invalid`], [`Error::TooMany`].
pub async fn create_policy(
    tx: &Transaction,
    tenant: TenantId,
    draft: &PolicyDraft,
    author: PrincipalId,
    now: Timestamp,
) -> Result<StoredPolicy, Error> {
    if draft.name.is_empty() || draft.name.len() > 200 || draft.description.len() > 2000 {
        return Err(Error::Invalid(
            "a policy has a name of 1 to 200 and a description of at most 2000 bytes".into(),
        ));
    }
    let text = draft.text.clone();
    let row = StoredPolicy::new(draft.id, &draft.name, text, author, now)?;
    let row = StoredPolicy { description: draft.description.clone(), ..row };
    let others = tx.scan_all::<StoredPolicy>(tenant, vec![]).await?;
    if others.len() >= MAX_POLICIES {
        return Err(Error::TooMany { what: "policies", limit: MAX_POLICIES });
    }
    if others.iter().map(|policy| policy.text.len()).sum::<usize>() + draft.text.len() > MAX_TOTAL_BYTES {
        return Err(Error::TooMany { what: "bytes of policies", limit: MAX_TOTAL_BYTES });
    }
    tx.put(tenant, &row.id, &row).await?;
    tx.bump_revision(tenant).await?;
    Ok(row)
}

/// Deletes a policy.
///
/// # Errors
/// [`Error::NoSuchPolicy`].
pub async fn delete_policy(tx: &Transaction, tenant: TenantId, id: TokenId) -> Result<(), Error> {
    get_policy(tx, tenant, id).await?;
    // What it permitted ends.
    tx.use_reserve();
    tx.delete::<StoredPolicy>(tenant, &id).await?;
    tx.bump_revision(tenant).await?;
    Ok(())
}

/// Returns a policy.
///
/// # Errors
/// [`Error::NoSuchPolicy`].
pub async fn get_policy(tx: &Transaction, tenant: TenantId, id: TokenId) -> Result<StoredPolicy, Error> {
    tx.get::<StoredPolicy>(tenant, &id).await?.ok_or(Error::NoSuchPolicy)
}

/// Returns at most `limit` policies in the order of their ids, after the one given.
///
/// # Errors
/// [`Error::Store`].
pub async fn list_policies(
    tx: &Transaction,
    tenant: TenantId,
    after: Option<TokenId>,
    limit: usize,
) -> Result<Vec<StoredPolicy>, Error> {
    let scan = Scan { after: after.map(|id| encode(&id)), limit, ..Scan::default() };
    Ok(tx.scan::<StoredPolicy>(tenant, scan).await?.into_iter().map(|(_, row)| row).collect())
}
