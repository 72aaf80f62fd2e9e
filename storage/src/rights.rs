use std::collections::BTreeSet;

use aesp_proto::TenantId;
use serde::{Deserialize, Serialize};

use crate::{
    Error, Kind, Range, Transaction, encode,
    key::{after, row_key},
};

/// A place in the log of changed rights: how many transactions that changed rights were committed until then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RightsPosition(pub u64);

impl std::fmt::Display for RightsPosition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Whose rights changed after a place in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RightsSince {
    /// The end of the log.
    pub position: RightsPosition,
    /// Whose. None if it may be anybody's: the platform's own rights changed, or the log does not reach back so far.
    pub tenants: Option<BTreeSet<TenantId>>,
}

/// A transaction's own entry in the log.
#[derive(Debug)]
pub(crate) struct Entry {
    position: u64,
    tenants: BTreeSet<TenantId>,
}

/// A change of more tenants than that counts as one of the platform's.
const LISTED_TENANTS: usize = 64;
/// Who is further behind than that takes everything for changed.
const FOLLOWED: u64 = 1_000;
const TENANT_BYTES: usize = 16;

/// Returns the raw key that changes whenever anybody's rights do, to watch it.
#[must_use]
pub fn rights_key() -> Vec<u8> {
    row_key(TenantId::PLATFORM, Kind::CLUSTER, &encode(&"rights".to_owned()))
}

fn change_key(position: u64) -> Vec<u8> {
    row_key(TenantId::PLATFORM, Kind::RIGHTS_CHANGE, &position.to_be_bytes())
}

impl Transaction {
    /// Adds a tenant to this transaction's entry in the log. The row is the ids of the tenants, 16 bytes each.
    pub(crate) async fn log_rights(&self, tenant: TenantId) -> Result<(), Error> {
        let known = self.state().rights.as_ref().map(|entry| entry.position);
        let position = match known {
            Some(position) => position,
            None => self.number(&rights_key()).await? + 1,
        };
        let row = {
            let mut state = self.state();
            let entry = state.rights.get_or_insert_with(|| Entry { position, tenants: BTreeSet::new() });
            if entry.tenants.contains(&TenantId::PLATFORM) || !entry.tenants.insert(tenant) {
                return Ok(());
            }
            if entry.tenants.len() > LISTED_TENANTS || tenant == TenantId::PLATFORM {
                entry.tenants = BTreeSet::from([TenantId::PLATFORM]);
            }
            entry.tenants.iter().flat_map(|tenant| *tenant.as_bytes()).collect::<Vec<u8>>()
        };
        self.set_raw(&rights_key(), &position.to_be_bytes())?;
        self.set_raw(&change_key(position), &row)
    }

    /// Returns the end of the log of changed rights. A transaction that writes conflicts with every change of rights.
    ///
    /// # Errors
    /// That of [`get_raw`](Self::get_raw).
    pub async fn rights_position(&self) -> Result<RightsPosition, Error> {
        self.number(&rights_key()).await.map(RightsPosition)
    }

    /// As [`rights_position`](Self::rights_position), without a conflict.
    ///
    /// # Errors
    /// That of [`range_raw`](Self::range_raw).
    pub async fn glance_rights_position(&self) -> Result<RightsPosition, Error> {
        let key = rights_key();
        let rows = self.range_raw(Range::new(key.as_slice(), after(&key)).snapshot(true)).await?;
        let Some((_, row)) = rows.first() else { return Ok(RightsPosition::default()) };
        let number = row.as_ref().try_into().map(u64::from_be_bytes);
        number
            .map(RightsPosition)
            .map_err(|_| Error::damaged_row("the end of the log of rights has the wrong length"))
    }

    /// Returns whose rights changed after `position`.
    ///
    /// # Errors
    /// That of [`range_raw`](Self::range_raw).
    pub async fn rights_since(&self, position: RightsPosition) -> Result<RightsSince, Error> {
        let end = self.rights_position().await?;
        let everybody = RightsSince { position: end, tenants: None };
        // A log that ends before its reader's place is another one.
        let Some(missing) = end.0.checked_sub(position.0) else { return Ok(everybody) };
        if missing > FOLLOWED {
            return Ok(everybody);
        }
        let range = Range::new(change_key(position.0 + 1), after(&change_key(end.0))).snapshot(true);
        let rows = self.range_raw(range).await?;
        if u64::try_from(rows.len()) != Ok(missing) {
            return Ok(everybody);
        }
        let mut tenants = BTreeSet::new();
        for (_, row) in rows {
            let ids = row.chunks_exact(TENANT_BYTES);
            if !ids.remainder().is_empty() {
                return Ok(everybody);
            }
            tenants.extend(ids.filter_map(|id| TenantId::from_slice(id).ok()));
        }
        let tenants = (!tenants.contains(&TenantId::PLATFORM)).then_some(tenants);
        Ok(RightsSince { position: end, tenants })
    }

    /// Forgets whose rights changed up to `position`, which everybody has applied.
    ///
    /// # Errors
    /// That of [`clear_range_raw`](Self::clear_range_raw).
    pub fn prune_rights(&self, position: RightsPosition) -> Result<(), Error> {
        self.clear_range_raw(&change_key(0), &after(&change_key(position.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Store;

    #[tokio::test]
    async fn the_log_is_what_it_was() {
        let store = Store::for_tests();
        let tenants = [TenantId::from_bytes([2; 16]), TenantId::from_bytes([1; 16])];
        let rows = store.run(move |tx| {
            Box::pin(async move {
                for tenant in tenants {
                    tx.bump_revision(tenant).await?;
                }
                let row = tx.get_raw(&change_key(1)).await?;
                Ok::<_, Error>((tx.get_raw(&rights_key()).await?, row))
            })
        });
        let (end, row) = rows.await.unwrap();
        assert_eq!(end.as_deref(), Some(&[0, 0, 0, 0, 0, 0, 0, 1][..]));
        assert_eq!(row.as_deref(), Some(&[[1; 16], [2; 16]].concat()[..]));
        let key = [&[0; 16][..], &[0, 0x0B], b"rights\x00\x01"].concat();
        assert_eq!(rights_key(), key);
        assert_eq!(change_key(258), [&[0; 16][..], &[0, 0x0A, 0, 0, 0, 0, 0, 0, 1, 2]].concat());
    }
}
