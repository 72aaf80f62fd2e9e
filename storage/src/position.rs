use aesp_proto::{Epoch, Incarnation, Revision, ShardId, TenantId};

use crate::{Error, Kind, Range, Transaction, encode, key::row_key};

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

/// Who owns a shard, and since when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardRow {
    /// The owner; nobody before the first one, and after one that gave it up.
    pub owner: Option<Incarnation>,
    /// How often the owner has changed.
    pub epoch: Epoch,
}

impl ShardRow {
    /// Reads `owner's incarnation (8) | epoch (8)`; incarnations begin with 1.
    fn read(bytes: &[u8]) -> Result<Self, Error> {
        let damaged = || Error::damaged_row("a shard's row has the wrong length");
        let (owner, epoch) = bytes.split_first_chunk::<8>().ok_or_else(damaged)?;
        let owner = u64::from_be_bytes(*owner);
        let epoch = Epoch(epoch.try_into().map(u64::from_be_bytes).map_err(|_| damaged())?);
        Ok(Self { owner: (owner != 0).then_some(Incarnation(owner)), epoch })
    }

    fn write(self) -> Vec<u8> {
        let owner = self.owner.map_or(0, |owner| owner.0);
        [owner.to_be_bytes(), self.epoch.0.to_be_bytes()].concat()
    }
}

/// Returns the raw key that changes whenever a shard changes its owner or a node its state, to watch it.
#[must_use]
pub fn cluster_changes_key() -> Vec<u8> {
    row_key(TenantId::PLATFORM, Kind::CLUSTER, &encode(&"changes".to_owned()))
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

    /// Says that rights within the tenant change with this transaction; returns the revision that it makes. The transaction
    /// takes one place in the log of changed rights, however many tenants it changes.
    ///
    /// # Errors
    /// That of [`get_raw`](Self::get_raw).
    pub async fn bump_revision(&self, tenant: TenantId) -> Result<Revision, Error> {
        self.log_rights(tenant).await?;
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
        let current = self.shard_row(shard).await?.epoch;
        if current == epoch { Ok(()) } else { Err(Error::Fenced { shard, current }) }
    }

    /// Takes every shard for a node, whoever has it, and returns their new epochs in the order of the shards. For tests of
    /// what a single node does; a cluster's node takes what is free.
    ///
    /// # Errors
    /// That of [`get_raw`](Self::get_raw).
    pub async fn claim_shards(&self, incarnation: u64) -> Result<Vec<Epoch>, Error> {
        let mut epochs = Vec::with_capacity(usize::from(SHARDS));
        for shard in (0..SHARDS).map(ShardId) {
            let epoch = Epoch(self.shard_row(shard).await?.epoch.0 + 1);
            self.set_shard(shard, ShardRow { owner: Some(Incarnation(incarnation)), epoch })?;
            epochs.push(epoch);
        }
        Ok(epochs)
    }

    /// Reads who owns a shard.
    ///
    /// # Errors
    /// [`Error::Damaged`] if its row makes no sense, or that of [`get_raw`](Self::get_raw).
    pub async fn shard_row(&self, shard: ShardId) -> Result<ShardRow, Error> {
        let row = self.get_raw(&shard_key(shard)).await?;
        row.map_or_else(|| Ok(ShardRow::default()), |row| ShardRow::read(&row))
    }

    /// Says who owns a shard. The caller has read the row, and raises the epoch with every new owner.
    ///
    /// # Errors
    /// That of [`set_raw`](Self::set_raw).
    pub fn set_shard(&self, shard: ShardId, row: ShardRow) -> Result<(), Error> {
        self.set_raw(&shard_key(shard), &row.write())
    }

    /// Reads who owns which shard, in the order of the shards and without a conflict. A shard whose row makes no sense has
    /// an error in its place.
    ///
    /// # Errors
    /// That of [`range_raw`](Self::range_raw).
    pub async fn shard_rows(&self) -> Result<Vec<Result<ShardRow, Error>>, Error> {
        let prefix = row_key(TenantId::PLATFORM, Kind::SHARD, &[]);
        let mut out = vec![Ok(ShardRow::default()); usize::from(SHARDS)];
        for (key, row) in self.range_raw(Range::prefix(&prefix).snapshot(true)).await? {
            let shard = key[prefix.len()..].try_into().map(u16::from_be_bytes);
            if let Some(place) = shard.ok().and_then(|shard| out.get_mut(usize::from(shard))) {
                *place = ShardRow::read(&row);
            }
        }
        Ok(out)
    }

    /// Wakes everybody who follows the cluster when this transaction commits. Conflicts with nothing.
    ///
    /// # Errors
    /// That of [`atomic_add`](Self::atomic_add).
    pub fn tell_cluster(&self) -> Result<(), Error> {
        self.atomic_add(&cluster_changes_key(), 1)
    }

    pub(crate) async fn number(&self, key: &[u8]) -> Result<u64, Error> {
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
    fn rows_of_shards_never_change() {
        let row = ShardRow { owner: Some(Incarnation(258)), epoch: Epoch(3) };
        assert_eq!(row.write(), [0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 3]);
        assert_eq!(ShardRow::read(&row.write()).unwrap(), row);
        let nobody = ShardRow { owner: None, epoch: Epoch(4) };
        assert_eq!(ShardRow::read(&nobody.write()).unwrap(), nobody);
        for length in [0, 8, 15, 17] {
            assert!(ShardRow::read(&vec![1; length]).is_err(), "{length} bytes");
        }
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
