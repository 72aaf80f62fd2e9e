//! Rotation of a tenant's data key: new writes use the new one at once, old rows are sealed anew in bounded steps.

use aesp_proto::{TenantId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    DataKeyVersion, Error, Kind, Range, Row, Transaction,
    key::{PREFIX_BYTES, after, after_prefix, row_key},
    keys_row::{KeysRow, keys_key},
    row::CHUNKED,
    seal::OVERHEAD_BYTES,
    tenant_keys::sealed_under,
};

/// A rotation of a tenant's data key that is not over yet. Lies with the platform, in the clear: it has nothing but numbers and a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataKeyRotation {
    /// The version that rows are sealed under anew.
    pub to: u32,
    /// When it began.
    pub started_at: Timestamp,
    /// Where to go on, as the bytes of a raw key; at the tenant's first row if there is none.
    pub next: Option<Vec<u8>>,
    /// Rows that were looked at.
    pub seen: u64,
    /// Rows that were sealed anew.
    pub resealed: u64,
    /// Rows that no key of the tenant opens.
    pub unreadable: u64,
}

impl Row for DataKeyRotation {
    const KIND: Kind = Kind::KEY_ROTATION;
    const SEALED: bool = false;
    type Key = TenantId;
}

/// The most rows that one step looks at.
const STEP_ROWS: usize = 500;
/// A step that has written so much ends, so that its transaction stays below 1 MB.
const STEP_BYTES: usize = 500_000;

/// What lies under a tenant and is never sealed under its data key.
const NEVER_SEALED: [Kind; 15] = [
    Kind::REQUEST,
    Kind::SHARD,
    Kind::TENANT_KEYS,
    Kind::REVISION,
    Kind::INCARNATION,
    Kind::CANARY,
    Kind::CHUNK,
    Kind::RIGHTS_CHANGE,
    Kind::AUDIT_EVENT,
    Kind::AUDIT_BATCH,
    Kind::AUDIT_COMMIT,
    Kind::LOG_TILE,
    Kind::LOG_BUNDLE,
    Kind::LOG_CHECKPOINT,
    Kind::LOG_LEAF,
];

const PLATFORM: TenantId = TenantId::PLATFORM;

impl Transaction {
    /// Draws a new data key for the tenant, which seals from this commit on, and notes that its old rows are to be sealed anew.
    ///
    /// # Errors
    /// [`Error::KeyRotating`] if the rotation before is not over, [`Error::KeyDestroyed`], or that of the key provider.
    pub async fn begin_data_key_rotation(
        &self,
        tenant: TenantId,
        now: Timestamp,
    ) -> Result<DataKeyVersion, Error> {
        if self.get::<DataKeyRotation>(PLATFORM, &tenant).await?.is_some() {
            return Err(Error::KeyRotating { tenant });
        }
        let to = self.change_keys(tenant, |plain| plain.add_data_key()).await?;
        let rotation =
            DataKeyRotation { to: to.0, started_at: now, next: None, seen: 0, resealed: 0, unreadable: 0 };
        self.put(PLATFORM, &tenant, &rotation).await?;
        Ok(to)
    }

    /// Seals the next rows of the tenant anew; drops the old data key after the last. Returns the rotation as it then is, or
    /// nothing when it is over.
    ///
    /// # Errors
    /// That of the store or of the key provider. A tenant whose keys were destroyed has nothing to be sealed: its rotation is over.
    pub async fn step_data_key_rotation(&self, tenant: TenantId) -> Result<Option<DataKeyRotation>, Error> {
        let Some(mut rotation) = self.get::<DataKeyRotation>(PLATFORM, &tenant).await? else {
            return Ok(None);
        };
        match self.reseal(tenant, &mut rotation).await {
            Ok(true) => {}
            Ok(false) => {
                self.put(PLATFORM, &tenant, &rotation).await?;
                return Ok(Some(rotation));
            }
            Err(Error::KeyDestroyed { tenant: gone }) if gone == tenant => {
                self.delete::<DataKeyRotation>(PLATFORM, &tenant).await?;
                return Ok(None);
            }
            Err(error) => return Err(error),
        }
        self.change_keys(tenant, |plain| {
            plain.drop_old_data_keys();
            Ok(())
        })
        .await?;
        self.delete::<DataKeyRotation>(PLATFORM, &tenant).await?;
        Ok(None)
    }

    /// Changes the tenant's keys and gives them another name, so that nobody goes on with what was remembered of them.
    pub(crate) async fn change_keys<T>(
        &self,
        tenant: TenantId,
        change: impl FnOnce(&mut crate::tenant_keys::PlainKeys) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let keyring = &self.shared.keyring;
        let row = self.keys_row(tenant).await?.ok_or(Error::KeyDestroyed { tenant })?;
        let provider = keyring.provider()?;
        let mut plain = keyring.ask(row.plain(&*provider, tenant)).await?;
        let changed = change(&mut plain)?;
        let row = keyring.ask(KeysRow::changed(&plain, &*provider, tenant)).await?;
        self.set_raw(&keys_key(tenant), &row)?;
        self.state().keys.insert(tenant, plain.to_keys().into());
        Ok(changed)
    }

    /// Seals a step's rows anew and moves the rotation on; tells whether it was the last.
    async fn reseal(&self, tenant: TenantId, rotation: &mut DataKeyRotation) -> Result<bool, Error> {
        // Read in this transaction: it conflicts with the destruction of the keys and with their next rotation.
        let keys = self.tenant_keys(tenant).await?;
        let start = rotation.next.clone().unwrap_or_else(|| tenant.as_bytes().to_vec());
        let end = after_prefix(tenant.as_bytes());
        // Without a conflict: what is written beside is sealed under the new key already.
        let rows = self.range_raw(Range::new(start, end).limit(STEP_ROWS).snapshot(true)).await?;
        let full = rows.len() == STEP_ROWS;
        let mut written = 0;
        for (key, value) in rows {
            rotation.seen += 1;
            if let Some(kind) = never_sealed(&key) {
                rotation.next = Some(after_prefix(&row_key(tenant, kind, &[])));
                return Ok(false);
            }
            rotation.next = Some(after(&key));
            let old = match value.first() {
                Some(&CHUNKED) => true,
                // What is shorter is a number, whatever it begins with.
                _ => sealed_under(&value).is_some_and(|(version, sealed)| {
                    version != keys.data_version() && sealed.len() >= OVERHEAD_BYTES
                }),
            };
            if !old {
                continue;
            }
            // Read again, with a conflict: nobody writes it meanwhile.
            let Some(value) = self.get_raw(&key).await? else { continue };
            let Ok(value) = self.whole(&key, value).await else {
                rotation.unreadable += 1;
                continue;
            };
            match sealed_under(&value) {
                Some((version, _)) if version != keys.data_version() => {}
                _ => continue,
            }
            if written > 0 && written + value.len() > STEP_BYTES {
                // Its own step: a transaction carries one of the largest rows, and no more.
                rotation.seen -= 1;
                rotation.next = Some(key.to_vec());
                return Ok(false);
            }
            let Ok(plain) = keys.open_row(&key, &value).map(zeroize::Zeroizing::new) else {
                rotation.unreadable += 1;
                continue;
            };
            let sealed = keys.seal_row(&key, &plain)?;
            written += sealed.len();
            self.write_row(key.to_vec(), sealed)?;
            rotation.resealed += 1;
            if written > STEP_BYTES {
                return Ok(false);
            }
        }
        Ok(!full)
    }
}

fn never_sealed(key: &[u8]) -> Option<Kind> {
    NEVER_SEALED.into_iter().find(|kind| key.get(16..PREFIX_BYTES) == Some(&kind.to_bytes()[..]))
}
