//! What a store raises when it begins another life, after a restore: nothing that an older life gave out is given out again.

use aesp_proto::{Epoch, Revision, ShardId, TenantId};

use crate::{
    Error, Kind, Range, SHARDS, ShardRow, Transaction, encode,
    key::{PREFIX_BYTES, after_prefix, row_key},
    position::revision_key,
    rights::rights_key,
};

/// The log epoch of a store that was never restored.
const FIRST_LOG_EPOCH: u32 = 1;
/// Bytes of a tenant's id, with which every key starts.
const TENANT_BYTES: usize = 16;

fn log_epoch_key() -> Vec<u8> {
    row_key(TenantId::PLATFORM, Kind::CLUSTER, &encode(&"log-epoch".to_owned()))
}

impl Transaction {
    /// Returns what comes before the versionstamp in the keys of the audit log. It is raised with each life of the store,
    /// because its versionstamps may start again lower.
    ///
    /// # Errors
    /// [`Error::Damaged`] if the row makes no sense, or that of [`get_raw`](Self::get_raw).
    pub async fn log_epoch(&self) -> Result<u32, Error> {
        let Some(row) = self.get_raw(&log_epoch_key()).await? else { return Ok(FIRST_LOG_EPOCH) };
        let epoch = row.as_ref().try_into().map(u32::from_be_bytes);
        epoch.map_err(|_| Error::damaged_row("the log epoch has the wrong length"))
    }

    /// Begins another log epoch, `least` or the one after the last, whichever is higher, and returns it.
    ///
    /// # Errors
    /// As [`log_epoch`](Self::log_epoch); [`Error::Damaged`] when there is no higher one.
    pub async fn raise_log_epoch(&self, least: u32) -> Result<u32, Error> {
        let next = self.log_epoch().await?.checked_add(1);
        let next = next.ok_or_else(|| Error::damaged_row("the log epoch is the last one"))?.max(least);
        self.set_raw(&log_epoch_key(), &next.to_be_bytes())?;
        Ok(next)
    }

    /// Raises the tenant's revision by `gap` and returns it. Takes no place in the log of changed rights: see
    /// [`restart_rights`](Self::restart_rights).
    ///
    /// # Errors
    /// That of [`get_raw`](Self::get_raw).
    pub async fn raise_revision(&self, tenant: TenantId, gap: u64) -> Result<Revision, Error> {
        self.raise(&revision_key(tenant), gap).await.map(Revision)
    }

    /// Raises the last incarnation number given to a node by `gap` and returns it.
    ///
    /// # Errors
    /// That of [`get_raw`](Self::get_raw).
    pub async fn raise_incarnation(&self, gap: u64) -> Result<u64, Error> {
        self.raise(&row_key(TenantId::PLATFORM, Kind::INCARNATION, &[]), gap).await
    }

    /// Empties the log of changed rights and lets it go on `gap` places later: whoever is behind takes everything for changed.
    ///
    /// # Errors
    /// That of [`get_raw`](Self::get_raw).
    pub async fn restart_rights(&self, gap: u64) -> Result<u64, Error> {
        let start = row_key(TenantId::PLATFORM, Kind::RIGHTS_CHANGE, &[]);
        self.clear_range_raw(&start, &after_prefix(&start))?;
        self.raise(&rights_key(), gap).await
    }

    /// Takes every shard from its owner, and raises its epoch by `gap`.
    ///
    /// # Errors
    /// That of [`shard_row`](Self::shard_row).
    pub async fn free_shards(&self, gap: u64) -> Result<(), Error> {
        for shard in (0..SHARDS).map(ShardId) {
            let epoch = Epoch(self.shard_row(shard).await?.epoch.0.saturating_add(gap));
            self.set_shard(shard, ShardRow { owner: None, epoch })?;
        }
        Ok(())
    }

    /// Returns up to `limit` tenants that have rows, `after` this one, in the order of their ids and without a conflict.
    ///
    /// # Errors
    /// That of [`range_raw`](Self::range_raw).
    pub async fn tenants_with_rows(
        &self,
        after: Option<TenantId>,
        limit: usize,
    ) -> Result<Vec<TenantId>, Error> {
        let mut start = after.map_or_else(Vec::new, |tenant| after_prefix(tenant.as_bytes()));
        let end = after_prefix(&[u8::MAX; TENANT_BYTES]);
        let mut out = Vec::new();
        while out.len() < limit {
            let next = Range::new(start.as_slice(), end.as_slice()).limit(1).snapshot(true);
            let rows = self.range_raw(next).await?;
            let Some((key, _)) = rows.first().filter(|(key, _)| key.len() >= PREFIX_BYTES) else { break };
            let tenant = TenantId::from_slice(&key[..TENANT_BYTES])
                .map_err(|_| Error::damaged_row("a key that starts with no tenant"))?;
            out.push(tenant);
            start = after_prefix(tenant.as_bytes());
        }
        Ok(out)
    }

    async fn raise(&self, key: &[u8], gap: u64) -> Result<u64, Error> {
        let next = self.number(key).await?.saturating_add(gap);
        self.set_raw(key, &next.to_be_bytes())?;
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Store;

    #[tokio::test]
    async fn a_new_life_starts_above_the_old_one() {
        let store = Store::for_tests();
        let tenant = TenantId::from_bytes([7; 16]);
        store
            .run(move |tx| {
                Box::pin(async move {
                    tx.bump_revision(tenant).await?;
                    tx.next_incarnation().await?;
                    tx.claim_shards(1).await?;
                    assert_eq!(tx.log_epoch().await?, 1);
                    Ok::<_, Error>(())
                })
            })
            .await
            .unwrap();
        let (before, tenants) = store
            .run(move |tx| {
                Box::pin(async move {
                    let before = tx.rights_position().await?;
                    assert_eq!(tx.raise_log_epoch(40).await?, 40);
                    tx.raise_revision(tenant, 1_000).await?;
                    tx.raise_incarnation(1_000).await?;
                    tx.restart_rights(1_000).await?;
                    tx.free_shards(1_000).await?;
                    Ok::<_, Error>((before, tx.tenants_with_rows(None, 10).await?))
                })
            })
            .await
            .unwrap();
        assert_eq!(tenants, [TenantId::PLATFORM, tenant]);
        store
            .run(move |tx| {
                Box::pin(async move {
                    assert_eq!(tx.log_epoch().await?, 40);
                    assert_eq!(tx.raise_log_epoch(0).await?, 41, "one that is lower is not taken");
                    assert_eq!(tx.revision(tenant).await?.0, 1_001);
                    assert_eq!(tx.next_incarnation().await?, 1_002);
                    assert_eq!(tx.rights_since(before).await?.tenants, None, "everything counts as changed");
                    let shard = tx.shard_row(ShardId(9)).await?;
                    assert_eq!(shard, ShardRow { owner: None, epoch: Epoch(1_001) });
                    assert_eq!(tx.tenants_with_rows(Some(TenantId::PLATFORM), 10).await?, [tenant]);
                    Ok::<_, Error>(())
                })
            })
            .await
            .unwrap();
    }
}
