use std::sync::Arc;

use aesp_proto::TenantId;
use bytes::Bytes;
use futures::future::join;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Error, Kind, MAX_ROW_BYTES, MAX_VALUE_BYTES, Range, RowKey, TenantKeys, Transaction, encode,
    key::{self, PREFIX_BYTES, after, after_prefix, chunk_prefix, row_key},
    limits,
    tenant_keys::{SEALED, SEALED_LATER},
};

/// A typed row. At rest it is JSON behind a version byte, sealed under the tenant's data key and bound to its place.
pub trait Row: Serialize + DeserializeOwned + Send + Sync {
    /// What the row is.
    const KIND: Kind;
    /// Whether it is sealed. Only rows without any secret or personal data may say no.
    const SEALED: bool = true;
    /// Where it is within the tenant and kind.
    type Key: RowKey + Sync;
}

/// Which rows to return.
#[derive(Clone, Debug)]
pub struct Scan {
    /// What the encoded key starts with; empty for all rows of the kind.
    pub prefix: Vec<u8>,
    /// The encoded key of the last row seen (in reverse: before which to start).
    pub after: Option<Vec<u8>>,
    /// The most rows to return.
    pub limit: usize,
    /// From the last row backwards.
    pub reverse: bool,
}

impl Default for Scan {
    fn default() -> Self {
        Self { prefix: Vec::new(), after: None, limit: 10_000, reverse: false }
    }
}

/// A row as it lies in the store, readable or not.
#[derive(Clone, Debug)]
pub struct Found<R> {
    /// The row, or why it can't be read.
    pub row: Result<R, Error>,
    /// Its bytes, to tell later whether it is still the same.
    pub bytes: Bytes,
}

// The first byte of a value says what follows; 2 and 4 are sealed JSON (`tenant_keys`).
/// JSON.
const PLAIN: u8 = 1;
/// The length (4 bytes, big-endian) of one of the others, which lies in chunks.
pub(crate) const CHUNKED: u8 = 3;

impl Transaction {
    /// Reads a row.
    ///
    /// # Errors
    /// [`Error::KeyDestroyed`] if the tenant's keys are gone, [`Error::Damaged`] if the row is not what was written, or that
    /// of [`get_raw`](Self::get_raw).
    pub async fn get<R: Row>(&self, tenant: TenantId, key: &R::Key) -> Result<Option<R>, Error> {
        let key = key::typed(tenant, R::KIND, key)?;
        let (value, keys) = join(self.get_raw(&key), self.keys_of::<R>(tenant)).await;
        let (value, keys) = (value?, keys?);
        match value {
            Some(value) => self.decode(keys.as_deref(), &key, value).await.map(Some),
            None => {
                self.state().whole.insert(key);
                Ok(None)
            }
        }
    }

    /// Returns the keys that rows of this type are sealed with. Asked for together with the rows, so that the check of the
    /// keys costs no round trip of its own.
    async fn keys_of<R: Row>(&self, tenant: TenantId) -> Result<Option<Arc<TenantKeys>>, Error> {
        if R::SEALED { self.tenant_keys(tenant).await.map(Some) } else { Ok(None) }
    }

    /// Writes a row, over the one that is there.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if its JSON has more than about 9.9 MB, [`Error::KeyDestroyed`], [`Error::Encoding`], or that of
    /// [`set_raw`](Self::set_raw).
    pub async fn put<R: Row>(&self, tenant: TenantId, key: &R::Key, row: &R) -> Result<(), Error> {
        self.put_at(key::typed(tenant, R::KIND, key)?, tenant, row).await
    }

    /// Does as [`put`](Self::put) where no row is or one that fits a value, which the caller knows without reading it: then there
    /// are no chunks to remove.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub async fn put_over_whole<R: Row>(&self, tenant: TenantId, key: &R::Key, row: &R) -> Result<(), Error> {
        let key = key::typed(tenant, R::KIND, key)?;
        self.state().whole.insert(key.clone());
        self.put_at(key, tenant, row).await
    }

    async fn put_at<R: Row>(&self, key: Vec<u8>, tenant: TenantId, row: &R) -> Result<(), Error> {
        let value = self.value_of(&key, tenant, row).await?;
        self.write_row(key, value)
    }

    /// Returns the key and the value that [`put`](Self::put) would write of a row that fits a value, and writes nothing.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if it does not fit, else as [`put`](Self::put).
    pub async fn written_row<R: Row>(
        &self,
        tenant: TenantId,
        key: &R::Key,
        row: &R,
    ) -> Result<(Vec<u8>, Vec<u8>), Error> {
        let key = key::typed(tenant, R::KIND, key)?;
        let value = self.value_of(&key, tenant, row).await?;
        limits::check("value", value.len(), MAX_VALUE_BYTES)?;
        Ok((key, value))
    }

    async fn value_of<R: Row>(&self, key: &[u8], tenant: TenantId, row: &R) -> Result<Vec<u8>, Error> {
        let json = serde_json::to_vec(row).map_err(|error| Error::Encoding(Arc::new(error)))?;
        limits::check("row", json.len(), MAX_ROW_BYTES)?;
        match self.keys_of::<R>(tenant).await? {
            Some(keys) => keys.seal_row(key, &json),
            None => Ok([&[PLAIN], json.as_slice()].concat()),
        }
    }

    /// Removes a row, if it is there.
    ///
    /// # Errors
    /// That of [`clear_raw`](Self::clear_raw).
    pub async fn delete<R: Row>(&self, tenant: TenantId, key: &R::Key) -> Result<(), Error> {
        let key = key::typed(tenant, R::KIND, key)?;
        self.clear_raw(&key)?;
        self.clear_chunks(&key)
    }

    /// Returns the rows whose keys start with a prefix, in the order of their keys.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn scan<R: Row>(&self, tenant: TenantId, scan: Scan) -> Result<Vec<(R::Key, R)>, Error> {
        let start = row_key(tenant, R::KIND, &scan.prefix);
        let mut range =
            Range::new(start.as_slice(), after_prefix(&start)).limit(scan.limit).reverse(scan.reverse);
        if let Some(cursor) = scan.after.map(|cursor| row_key(tenant, R::KIND, &cursor)) {
            if scan.reverse {
                range.end = range.end.min(cursor);
            } else {
                range.start = range.start.max(after(&cursor));
            }
        }
        let (rows, keys) = join(self.range_raw(range), self.keys_of::<R>(tenant)).await;
        let (rows, keys) = (rows?, keys?);
        let mut out = Vec::with_capacity(rows.len());
        for (key, value) in rows {
            let row_key = R::Key::decode(&key[PREFIX_BYTES..]).map_err(|error| {
                Error::damaged_row(format!("a key of kind {:04x}: {error}", R::KIND.code()))
            })?;
            out.push((row_key, self.decode(keys.as_deref(), &key, value).await?));
        }
        Ok(out)
    }

    /// Reads a row that may be damaged.
    ///
    /// # Errors
    /// As [`get`](Self::get), but for a row that can't be read.
    pub async fn find<R: Row>(&self, tenant: TenantId, key: &R::Key) -> Result<Option<Found<R>>, Error> {
        let key = key::typed(tenant, R::KIND, key)?;
        let (value, keys) = join(self.get_raw(&key), self.keys_of::<R>(tenant)).await;
        let (value, keys) = (value?, keys?);
        let Some(bytes) = value else { return Ok(None) };
        let row = self.decode(keys.as_deref(), &key, bytes.clone()).await;
        Ok(Some(Found { row, bytes }))
    }

    /// Returns all rows of a kind that has few, in the order of their keys; some may be damaged. What has no key of the kind is
    /// left out.
    ///
    /// # Errors
    /// As [`scan`](Self::scan), but for rows that can't be read.
    pub async fn find_all<R: Row>(&self, tenant: TenantId) -> Result<Vec<(R::Key, Found<R>)>, Error> {
        self.find_each(tenant, false).await
    }

    /// As [`find_all`](Self::find_all), without a conflict.
    ///
    /// # Errors
    /// As [`find_all`](Self::find_all).
    pub async fn glance_all<R: Row>(&self, tenant: TenantId) -> Result<Vec<(R::Key, Found<R>)>, Error> {
        self.find_each(tenant, true).await
    }

    async fn find_each<R: Row>(
        &self,
        tenant: TenantId,
        snapshot: bool,
    ) -> Result<Vec<(R::Key, Found<R>)>, Error> {
        let range = Range::prefix(&row_key(tenant, R::KIND, &[])).snapshot(snapshot);
        let (rows, keys) = join(self.range_raw(range), self.keys_of::<R>(tenant)).await;
        let (rows, keys) = (rows?, keys?);
        let mut out = Vec::with_capacity(rows.len());
        for (key, bytes) in rows {
            match R::Key::decode(&key[PREFIX_BYTES..]) {
                Ok(row_key) => {
                    let row = self.decode(keys.as_deref(), &key, bytes.clone()).await;
                    out.push((row_key, Found { row, bytes }));
                }
                Err(error) => tracing::error!(kind = R::KIND.code(), %error, "a key in the store is damaged"),
            }
        }
        Ok(out)
    }

    /// Returns every row whose key starts with `prefix`, in the order of their keys. For kinds that have bounds of their own.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn scan_all<R: Row>(&self, tenant: TenantId, prefix: Vec<u8>) -> Result<Vec<R>, Error> {
        const PAGE: usize = 1_000;
        let mut rows = Vec::new();
        let mut after = None;
        loop {
            let scan = Scan { prefix: prefix.clone(), after: after.take(), limit: PAGE, reverse: false };
            let page = self.scan::<R>(tenant, scan).await?;
            let full = page.len() == PAGE;
            after = page.last().map(|(key, _)| encode(key));
            rows.extend(page.into_iter().map(|(_, row)| row));
            if !full {
                return Ok(rows);
            }
        }
    }

    pub(crate) fn write_row(&self, key: Vec<u8>, value: Vec<u8>) -> Result<(), Error> {
        self.clear_chunks(&key)?;
        if value.len() <= MAX_VALUE_BYTES {
            self.set(key.clone(), value.into())?;
            self.state().whole.insert(key);
            return Ok(());
        }
        let length = u32::try_from(value.len()).expect("MAX_ROW_BYTES is below 4 GB");
        let prefix = chunk_prefix(&key);
        let value = Bytes::from(value);
        for (number, start) in (0_u16..).zip((0..value.len()).step_by(MAX_VALUE_BYTES)) {
            let chunk = value.slice(start..value.len().min(start + MAX_VALUE_BYTES));
            self.set([prefix.as_slice(), &number.to_be_bytes()].concat(), chunk)?;
        }
        self.state().whole.remove(&key);
        self.set(key, [&[CHUNKED][..], &length.to_be_bytes()].concat().into())
    }

    /// Removes the row's chunks, unless it is known to have none.
    fn clear_chunks(&self, key: &[u8]) -> Result<(), Error> {
        if self.state().whole.contains(key) {
            return Ok(());
        }
        let prefix = chunk_prefix(key);
        self.clear_range_raw(&prefix, &after_prefix(&prefix))
    }

    async fn decode<R: Row>(&self, keys: Option<&TenantKeys>, key: &[u8], head: Bytes) -> Result<R, Error> {
        let damaged = |what: &str| Error::damaged_row(format!("a row of kind {:04x} {what}", R::KIND.code()));
        let value = self.whole(key, head).await?;
        let json = match (value.split_first(), keys) {
            (Some((&(SEALED | SEALED_LATER), _)), Some(keys)) => Bytes::from(keys.open_row(key, &value)?),
            (Some((&PLAIN, _)), None) => value.slice(1..),
            _ => return Err(damaged("has an unknown form")),
        };
        serde_json::from_slice(&json).map_err(|error| damaged(&format!("does not decode: {error}")))
    }

    /// Returns the value at a row's key with its chunks, if it has any.
    pub(crate) async fn whole(&self, key: &[u8], head: Bytes) -> Result<Bytes, Error> {
        let Some((&CHUNKED, length)) = head.split_first() else {
            self.state().whole.insert(key.to_vec());
            return Ok(head);
        };
        let damaged = |what: &str| {
            let kind = key.get(16..PREFIX_BYTES).map(kind_code).unwrap_or_default();
            Error::damaged_row(format!("a row of kind {kind:04x} {what}"))
        };
        let length = length.try_into().map(u32::from_be_bytes).map_err(|_| damaged("has a bad head"))?;
        let value = self.read_chunks(key).await?;
        if value.len() == length as usize { Ok(value) } else { Err(damaged("lacks a part")) }
    }

    async fn read_chunks(&self, key: &[u8]) -> Result<Bytes, Error> {
        let chunks = self.range_raw(Range::prefix(&chunk_prefix(key))).await?;
        Ok(chunks.into_iter().flat_map(|(_, chunk)| chunk).collect::<Vec<u8>>().into())
    }
}

fn kind_code(bytes: &[u8]) -> u16 {
    bytes.try_into().map(u16::from_be_bytes).unwrap_or_default()
}
