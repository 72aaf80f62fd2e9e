use aesp_proto::{PrincipalId, TenantId, Timestamp, v1};
use aesp_storage::{Scan, Transaction, encode};

use crate::{
    Error,
    config_row::{ConfigRow, HistoryRow, Version},
    key::{KEYS, Key},
};

const MAX_COMMENT_CHARS: usize = 500;

/// One version of a configuration value as it may be shown: a sensitive one without its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// The key's name.
    pub key: &'static str,
    /// The text; empty for a sensitive key.
    pub value: String,
    /// Counts from 1; 0 when it was never set.
    pub version: u32,
    /// When it was set.
    pub changed_at: Timestamp,
    /// Who set it.
    pub changed_by: Option<PrincipalId>,
    /// Why, in the words of who set it.
    pub comment: String,
    /// Whether the text is never shown.
    pub sensitive: bool,
    /// Whether the default holds.
    pub is_default: bool,
}

impl Value {
    pub(crate) fn new(key: &'static Key, version: Option<Version>) -> Self {
        let sensitive = key.is_sensitive();
        let set = version.as_ref().and_then(|version| version.value.clone());
        let is_default = set.is_none();
        let text = set.unwrap_or_else(|| key.default.to_owned());
        let value = if sensitive { String::new() } else { text };
        match version {
            None => Self {
                key: key.name,
                value,
                version: 0,
                changed_at: Timestamp::default(),
                changed_by: None,
                comment: String::new(),
                sensitive,
                is_default,
            },
            Some(version) => Self {
                key: key.name,
                value,
                version: version.version,
                changed_at: version.changed_at,
                changed_by: Some(version.changed_by),
                comment: version.comment,
                sensitive,
                is_default,
            },
        }
    }
}

impl From<Value> for v1::ConfigValue {
    fn from(value: Value) -> Self {
        Self {
            key: value.key.to_owned(),
            value: value.value,
            version: value.version,
            changed_at_ms: value.changed_at.0,
            changed_by: value.changed_by.map(|id| id.to_string()).unwrap_or_default(),
            sensitive: value.sensitive,
            is_default: value.is_default,
        }
    }
}

/// Returns the value that holds.
///
/// # Errors
/// [`Error::UnknownKey`], or the store's.
pub async fn get(tx: &Transaction, tenant: TenantId, key: &str) -> Result<Value, Error> {
    let key = Key::find(key)?;
    Ok(Value::new(key, current(tx, tenant, key).await?))
}

/// Returns the values of all keys, in the order of their names.
///
/// # Errors
/// The store's.
pub async fn list(tx: &Transaction, tenant: TenantId) -> Result<Vec<Value>, Error> {
    let mut values = Vec::with_capacity(KEYS.len());
    for key in KEYS {
        values.push(Value::new(key, current(tx, tenant, key).await?));
    }
    Ok(values)
}

/// Sets a value as a new version and moves the tenant's revision. When `expected_version` is not 0, the stored version must
/// be that one.
///
/// # Errors
/// [`Error::UnknownKey`], [`Error::InvalidValue`], [`Error::VersionConflict`], or the store's.
pub async fn set(
    tx: &Transaction,
    tenant: TenantId,
    key: &str,
    value: &str,
    expected_version: u32,
    by: (PrincipalId, Timestamp, &str),
) -> Result<Value, Error> {
    let key = Key::find(key)?;
    key.check(value)?;
    write(tx, tenant, key, Some(value.to_owned()), expected_version, by).await
}

/// Sets the key to what it was at `version` (0: the default), as a new version.
///
/// # Errors
/// [`Error::UnknownKey`], [`Error::UnknownVersion`], or the store's.
pub async fn rollback(
    tx: &Transaction,
    tenant: TenantId,
    key: &str,
    version: u32,
    by: (PrincipalId, Timestamp, &str),
) -> Result<Value, Error> {
    let key = Key::find(key)?;
    let value = if version == 0 {
        None
    } else {
        let row = tx.get::<HistoryRow>(tenant, &(key.name.to_owned(), version)).await?;
        row.ok_or(Error::UnknownVersion { key: key.name, version })?.0.value
    };
    // A value that this release would not take is not brought back either.
    value.as_deref().map_or(Ok(()), |value| key.check(value))?;
    write(tx, tenant, key, value, 0, by).await
}

/// Returns up to `limit` versions, the newest first; `before` is the last version of the page before.
///
/// # Errors
/// [`Error::UnknownKey`], or the store's.
pub async fn history(
    tx: &Transaction,
    tenant: TenantId,
    key: &str,
    before: Option<u32>,
    limit: usize,
) -> Result<Vec<Value>, Error> {
    let key = Key::find(key)?;
    let name = key.name.to_owned();
    let after = before.map(|version| encode(&(name.clone(), version)));
    let scan = Scan { prefix: encode(&name), after, limit, reverse: true };
    let rows = tx.scan::<HistoryRow>(tenant, scan).await?;
    Ok(rows.into_iter().map(|(_, row)| Value::new(key, Some(row.0))).collect())
}

/// Returns the versions after `version`, the oldest first.
pub(crate) async fn since(
    tx: &Transaction,
    tenant: TenantId,
    key: &'static Key,
    version: u32,
) -> Result<Vec<Value>, Error> {
    let name = key.name.to_owned();
    let after = Some(encode(&(name.clone(), version)));
    let scan = Scan { prefix: encode(&name), after, ..Scan::default() };
    let rows = tx.scan::<HistoryRow>(tenant, scan).await?;
    Ok(rows.into_iter().map(|(_, row)| Value::new(key, Some(row.0))).collect())
}

async fn current(tx: &Transaction, tenant: TenantId, key: &Key) -> Result<Option<Version>, Error> {
    Ok(tx.get::<ConfigRow>(tenant, &key.name.to_owned()).await?.map(|row| row.0))
}

async fn write(
    tx: &Transaction,
    tenant: TenantId,
    key: &'static Key,
    value: Option<String>,
    expected_version: u32,
    (changed_by, changed_at, comment): (PrincipalId, Timestamp, &str),
) -> Result<Value, Error> {
    if comment.chars().count() > MAX_COMMENT_CHARS {
        return Err(Error::Invalid(format!("a comment has at most {MAX_COMMENT_CHARS} characters")));
    }
    let stored = current(tx, tenant, key).await?.map_or(0, |version| version.version);
    if expected_version != 0 && expected_version != stored {
        return Err(Error::VersionConflict { key: key.name, current: stored });
    }
    let comment = comment.to_owned();
    let version = Version { version: stored + 1, value, changed_at, changed_by, comment };
    let name = key.name.to_owned();
    tx.put(tenant, &(name.clone(), version.version), &HistoryRow(version.clone())).await?;
    tx.put(tenant, &name, &ConfigRow(version.clone())).await?;
    tx.bump_revision(tenant).await?;
    Ok(Value::new(key, Some(version)))
}
