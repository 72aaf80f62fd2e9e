use aesp_proto::{Epoch, Revision, ShardId, TenantId};

use crate::{Error, Kind, Transaction, key::row_key};

/// How many shards a cluster has. Part of every store; never changes.
pub const SHARDS: u16 = 256;

/// Returns the shard of an entity: FNV-1a of its id, folded. Part of every store; never changes.
#[must_use]
pub fn shard_of(id: &[u8; 16]) -> ShardId {
    let hash = id.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    // The upper bits of FNV are the better mixed ones.
    let folded = (hash >> 32) ^ hash;
    ShardId(u16::try_from(folded % u64::from(SHARDS)).expect("below SHARDS"))
}

/// Returns the raw key of a tenant's revision, to watch it.
#[must_use]
pub fn revision_key(tenant: TenantId) -> Vec<u8> {
    row_key(tenant, Kind::REVISION, &[])
}

fn shard_key(shard: ShardId) -> Vec<u8> {
    row_key(TenantId::PLATFORM, Kind::SHARD, &shard.0.to_be_bytes())
}

impl Transaction {
    /// Returns how often the rights within the tenant have changed.
    ///
    /// # Errors
    /// That of [`get_raw`](Self::get_raw).
    pub async fn revision(&self, tenant: TenantId) -> Result<Revision, Error> {
        self.number(&revision_key(tenant)).await.map(Revision)
    }

    /// Says that rights within the tenant change with this transaction; returns the revision that it makes.
    ///
    /// # Errors
    /// That of [`get_raw`](Self::get_raw).
    pub async fn bump_revision(&self, tenant: TenantId) -> Result<Revision, Error> {
        self.count_up(&revision_key(tenant)).await.map(Revision)
    }

    /// Returns a number for a node's new life that no other has had.
    ///
    /// # Errors
    /// That of [`get_raw`](Self::get_raw).
    pub async fn next_incarnation(&self) -> Result<u64, Error> {
        self.count_up(&row_key(TenantId::PLATFORM, Kind::INCARNATION, &[])).await
    }

    /// Makes sure that the shard is still at `epoch`, now and when the transaction commits.
    ///
    /// # Errors
    /// [`Error::Fenced`] if it has a newer owner.
    pub async fn fence(&self, shard: ShardId, epoch: Epoch) -> Result<(), Error> {
        let current = Epoch(self.shard(shard).await?);
        if current == epoch { Ok(()) } else { Err(Error::Fenced { shard, current }) }
    }

    /// Takes every shard for a node and returns their new epochs, in the order of the shards.
    ///
    /// # Errors
    /// That of [`get_raw`](Self::get_raw).
    pub async fn claim_shards(&self, incarnation: u64) -> Result<Vec<Epoch>, Error> {
        let mut epochs = Vec::with_capacity(usize::from(SHARDS));
        for shard in (0..SHARDS).map(ShardId) {
            let epoch = self.shard(shard).await? + 1;
            let owner = [incarnation.to_be_bytes(), epoch.to_be_bytes()].concat();
            self.set_raw(&shard_key(shard), &owner)?;
            epochs.push(Epoch(epoch));
        }
        Ok(epochs)
    }

    /// Returns the epoch of a shard; its row is `owner's incarnation (8) | epoch (8)`.
    async fn shard(&self, shard: ShardId) -> Result<u64, Error> {
        let Some(row) = self.get_raw(&shard_key(shard)).await? else { return Ok(0) };
        let epoch = row.get(8..).and_then(|epoch| epoch.try_into().ok());
        epoch.map(u64::from_be_bytes).ok_or_else(|| Error::damaged_row("a shard's row has the wrong length"))
    }

    async fn number(&self, key: &[u8]) -> Result<u64, Error> {
        let Some(row) = self.get_raw(key).await? else { return Ok(0) };
        let number = row.as_ref().try_into().map(u64::from_be_bytes);
        number.map_err(|_| Error::damaged_row("a number has the wrong length"))
    }

    async fn count_up(&self, key: &[u8]) -> Result<u64, Error> {
        let next = self.number(key).await? + 1;
        self.set_raw(key, &next.to_be_bytes())?;
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_never_change() {
        assert_eq!(
            [shard_of(&[0; 16]), shard_of(&[1; 16]), shard_of(b"0123456789abcdef")],
            [ShardId(220), ShardId(158), ShardId(110)]
        );
    }

    #[test]
    fn entities_spread_over_all_shards() {
        let mut count = [0_u32; SHARDS as usize];
        for n in 0..25_600_u128 {
            count[usize::from(shard_of(&n.to_be_bytes()).0)] += 1;
        }
        assert!(count.iter().all(|&entities| (60..140).contains(&entities)), "{count:?}");
    }
}
