//! The versions of a tenant's rules.

use aesp_proto::{PrincipalId, TenantId, Timestamp};
use aesp_storage::{Scan, Transaction, encode};

use super::{Applied, TEXT_BYTES};
use crate::{
    Error, RuleForm, RulesRow,
    document::DOCUMENT_BYTES,
    rows::{Head, touch},
    store,
};

/// A rule that holds.
#[derive(Clone, Debug)]
pub struct Ruling {
    /// As it is written, with the changes to a built-in one.
    pub form: RuleForm,
    /// Whether it is built in.
    pub built_in: bool,
}

/// Makes a checked document the tenant's rules, if they are at the version that is expected.
///
/// # Errors
/// [`Error::OtherVersion`], or the store's.
pub async fn apply(
    tx: &Transaction,
    tenant: TenantId,
    checked: &Applied,
    expected: Option<u32>,
    (author, at, comment): (PrincipalId, Timestamp, &str),
) -> Result<RulesRow, Error> {
    let row = |version| RulesRow {
        version,
        text: checked.text.clone(),
        author,
        at,
        comment: comment.to_owned(),
        rolled_back_to: None,
    };
    put(tx, tenant, expected, comment, row).await
}

/// Makes what an earlier version said hold again, as a new version. `checked` is that version's document.
///
/// # Errors
/// [`Error::Unknown`], [`Error::OtherVersion`] if it is not that version's, or the store's.
pub async fn roll_back(
    tx: &Transaction,
    tenant: TenantId,
    (to, checked): (u32, &Applied),
    expected: Option<u32>,
    (author, at, comment): (PrincipalId, Timestamp, &str),
) -> Result<RulesRow, Error> {
    let row = |version| RulesRow {
        version,
        text: checked.text.clone(),
        author,
        at,
        comment: comment.to_owned(),
        rolled_back_to: Some(to),
    };
    put(tx, tenant, expected, comment, row).await
}

async fn put(
    tx: &Transaction,
    tenant: TenantId,
    expected: Option<u32>,
    comment: &str,
    row: impl Fn(u32) -> RulesRow,
) -> Result<RulesRow, Error> {
    if comment.len() > TEXT_BYTES {
        return Err(Error::Invalid(format!("the comment has more than {TEXT_BYTES} bytes")));
    }
    let head = tx.get::<Head>(tenant, &()).await?.unwrap_or_default();
    if expected.is_some_and(|expected| expected != head.version) {
        return Err(Error::OtherVersion(head.version));
    }
    let row = row(head.version + 1);
    tx.put(tenant, &row.version, &row).await?;
    touch(tx, tenant, Some(row.version)).await?;
    Ok(row)
}

/// Returns the rules that hold, with the version of the tenant's document; 0 if it has none.
///
/// # Errors
/// The store's, or [`Error::Rules`] if the stored document makes no sense to this release.
pub async fn rules(tx: &Transaction, tenant: TenantId) -> Result<(u32, Vec<Ruling>), Error> {
    let head = tx.get::<Head>(tenant, &()).await?.unwrap_or_default();
    let rules = store::rules(tx, tenant, head.version).await?;
    let all = rules.forms().map(|(form, built_in)| Ruling { form: form.clone(), built_in });
    Ok((head.version, all.collect()))
}

/// Returns one of the rules that hold, with the version of the tenant's document.
///
/// # Errors
/// [`Error::Unknown`], or as [`rules`].
pub async fn rule(tx: &Transaction, tenant: TenantId, name: &str) -> Result<(u32, Ruling), Error> {
    let (version, all) = rules(tx, tenant).await?;
    let found = all.into_iter().find(|rule| rule.form.name == name);
    found.map(|rule| (version, rule)).ok_or(Error::Unknown("alert rule"))
}

/// Returns a version of the tenant's document; the one that holds for 0.
///
/// # Errors
/// [`Error::Unknown`], or the store's.
pub async fn version(tx: &Transaction, tenant: TenantId, version: u32) -> Result<RulesRow, Error> {
    let version = match version {
        0 => tx.get::<Head>(tenant, &()).await?.unwrap_or_default().version,
        version => version,
    };
    tx.get::<RulesRow>(tenant, &version).await?.ok_or(Error::Unknown("version of the alert rules"))
}

/// Returns the document that holds, to be changed; an empty one before the first.
///
/// # Errors
/// The store's.
pub async fn applied(tx: &Transaction, tenant: TenantId) -> Result<String, Error> {
    match version(tx, tenant, 0).await {
        Ok(row) => Ok(row.text),
        Err(Error::Unknown(_)) => Ok(String::new()),
        Err(error) => Err(error),
    }
}

/// Returns versions of the tenant's document, the newest first.
///
/// # Errors
/// The store's.
pub async fn versions(
    tx: &Transaction,
    tenant: TenantId,
    before: Option<u32>,
    limit: usize,
) -> Result<Vec<RulesRow>, Error> {
    // A document may be large.
    let limit = limit.min(DOCUMENT_BYTES / 4_096);
    let scan = Scan { after: before.map(|before| encode(&before)), limit, reverse: true, ..Scan::default() };
    Ok(tx.scan::<RulesRow>(tenant, scan).await?.into_iter().map(|(_, row)| row).collect())
}
