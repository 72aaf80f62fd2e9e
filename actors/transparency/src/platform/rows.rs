//! The rows of the platform log, all of the platform's tenant. Numbers are big-endian.
//!
//! - a head that waits: `PLATFORM_LOG_NEWS | log epoch (4) | versionstamp (10) | 0000` → `1 if it is of the platform's own log (1) | text`;
//! - a leaf: `PLATFORM_LOG_ENTRY | log epoch (4) | index (8)` → the text of the head;
//! - where a head is: `PLATFORM_LOG_HEAD | log id (16) | size (8)` → `log epoch (4) | leaf (8)`;
//! - its tiles as those of the tenants' logs.

use aesp_merkle::Checkpoint;
use aesp_proto::{TenantId, Timestamp};
use aesp_storage::{Kind, Range, Row, Scan, Transaction, row_key};
use bytes::Bytes;
use data_encoding::HEXLOWER;
use futures::future::try_join_all;
use serde::{Deserialize, Serialize};

use crate::Error;

const PLATFORM: TenantId = TenantId::PLATFORM;
const LOG_ID_BYTES: usize = 16;
const PREFIX_BYTES: usize = 18;

/// How far the platform log is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    /// Names the log, at random: 32 hexadecimal digits.
    pub(super) log_id: String,
    pub(super) size: u64,
    /// When the checkpoint was signed.
    pub(super) signed_at: Timestamp,
    /// Leaves of the newest checkpoint that as many witnesses as must had cosigned when this one was signed, and since when that has been
    /// the newest of them although the log grew.
    pub(super) quorate: u64,
    pub(super) quorate_since: Timestamp,
    /// Whether the step that signed it left heads waiting.
    pub(super) behind: bool,
    /// The signed checkpoint of this size.
    pub(super) checkpoint: String,
    /// Behind which tenant those come whose logs were sealed before there was a platform log; nothing once all are in.
    pub(super) gathering: Option<TenantId>,
    /// Heads in it that are not of the platform's own log.
    pub(super) others: u64,
    /// The size of the platform's own log, as the last head of it says.
    pub(super) own: u64,
}

impl Row for State {
    const KIND: Kind = Kind::PLATFORM_LOG_STATE;
    const SEALED: bool = false;
    /// The log epoch.
    type Key = u32;
}

impl State {
    pub(super) async fn newest(tx: &Transaction) -> Result<Option<(u32, Self)>, Error> {
        let newest = Scan { limit: 1, reverse: true, ..Scan::default() };
        Ok(tx.scan::<Self>(PLATFORM, newest).await?.into_iter().next())
    }

    /// Reads all of them, one for each log epoch.
    pub(super) async fn all(tx: &Transaction) -> Result<Vec<(u32, Self)>, Error> {
        Ok(tx.scan::<Self>(PLATFORM, Scan::default()).await?)
    }
}

/// Returns the first line of the platform log's checkpoints, which also names its key.
pub(super) fn origin(log_id: &str) -> String {
    format!("aesp/platform/{log_id}")
}

/// A head that is to be appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct News {
    /// Whether it is of the platform's own log.
    pub(super) own: bool,
    pub(super) head: Checkpoint,
}

/// Queues a head for the platform log, in the transaction that signs it. Nobody conflicts with it.
pub(crate) async fn announce(tx: &Transaction, tenant: TenantId, head: &Checkpoint) -> Result<(), Error> {
    let prefix = row_key(PLATFORM, Kind::PLATFORM_LOG_NEWS, &tx.log_epoch().await?.to_be_bytes());
    let value = [&[u8::from(tenant == PLATFORM)], head.text().as_bytes()].concat();
    Ok(tx.set_versionstamped_key(&prefix, &[0, 0], &value)?)
}

/// Takes up to `limit` heads out of the queue, in the order of their commits; tells whether there may be more.
pub(super) async fn take(tx: &Transaction, limit: usize) -> Result<(Vec<News>, bool), Error> {
    let prefix = row_key(PLATFORM, Kind::PLATFORM_LOG_NEWS, &[]);
    // Without a conflict with the sealers: what commits after this read comes behind what it found.
    let found = tx.range_raw(Range::prefix(&prefix).limit(limit).snapshot(true)).await?;
    if let Some((last, _)) = found.last() {
        tx.clear_range_raw(&prefix, &[last.as_ref(), &[0]].concat())?;
    }
    let read = |(_, value): &(Bytes, Bytes)| {
        let (own, text) = value.split_first()?;
        Some(News { own: *own == 1, head: Checkpoint::read(str::from_utf8(text).ok()?)? })
    };
    let news: Option<Vec<News>> = found.iter().map(read).collect();
    let news = news.ok_or_else(|| Error::Damaged("a head that waits for the platform log".into()))?;
    Ok((news, found.len() == limit))
}

fn entry_key(log_epoch: u32, index: u64) -> Vec<u8> {
    let place = [&log_epoch.to_be_bytes()[..], &index.to_be_bytes()].concat();
    row_key(PLATFORM, Kind::PLATFORM_LOG_ENTRY, &place)
}

pub(super) fn put_entry(tx: &Transaction, log_epoch: u32, index: u64, text: &str) -> Result<(), Error> {
    Ok(tx.set_raw(&entry_key(log_epoch, index), text.as_bytes())?)
}

/// Reads `count` leaves from `first` on.
pub(super) async fn entries(
    tx: &Transaction,
    log_epoch: u32,
    first: u64,
    count: usize,
) -> Result<Vec<Bytes>, Error> {
    let mut range = Range::prefix(&row_key(PLATFORM, Kind::PLATFORM_LOG_ENTRY, &log_epoch.to_be_bytes()));
    range.start = entry_key(log_epoch, first);
    let found = tx.range_raw(range.limit(count).snapshot(true)).await?;
    let whole = found.len() == count
        && (first..).zip(&found).all(|(index, (key, _))| key.as_ref() == entry_key(log_epoch, index));
    if !whole {
        return Err(Error::Damaged(format!("a leaf of the platform log from {first} on is missing")));
    }
    Ok(found.into_iter().map(|(_, text)| text).collect())
}

/// Where the heads of a log are listed; nothing for an origin that is none of a log of this Host.
fn heads(origin: &str) -> Option<Vec<u8>> {
    let id = HEXLOWER.decode(origin.strip_prefix("aesp/")?.as_bytes()).ok()?;
    (id.len() == LOG_ID_BYTES).then(|| row_key(PLATFORM, Kind::PLATFORM_LOG_HEAD, &id))
}

pub(super) fn put_head(tx: &Transaction, head: &Checkpoint, log_epoch: u32, index: u64) -> Result<(), Error> {
    let Some(prefix) = heads(&head.origin) else { return Ok(()) };
    let key = [prefix.as_slice(), &head.size.to_be_bytes()].concat();
    Ok(tx.set_raw(&key, &[&log_epoch.to_be_bytes()[..], &index.to_be_bytes()].concat())?)
}

/// A head of a log that is in the platform log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Leaves of the log.
    pub(super) size: u64,
    /// In which platform log, and which leaf of it.
    pub(super) log_epoch: u32,
    pub(super) index: u64,
}

/// Finds the head of the log of exactly `size` leaves, or for 0 the newest one.
pub(super) async fn head(tx: &Transaction, origin: &str, size: u64) -> Result<Option<Place>, Error> {
    let Some(prefix) = heads(origin) else { return Ok(None) };
    let found = if size == 0 {
        tx.range_raw(Range::prefix(&prefix).limit(1).reverse(true).snapshot(true)).await?.into_iter().next()
    } else {
        let key = [prefix.as_slice(), &size.to_be_bytes()].concat();
        tx.get_raw(&key).await?.map(|value| (Bytes::from(key), value))
    };
    let Some((key, value)) = found else { return Ok(None) };
    let place = value.split_first_chunk::<4>().and_then(|(epoch, index)| {
        Some(Place {
            size: u64::from_be_bytes(key[PREFIX_BYTES + LOG_ID_BYTES..].try_into().ok()?),
            log_epoch: u32::from_be_bytes(*epoch),
            index: u64::from_be_bytes(index.try_into().ok()?),
        })
    });
    place.map(Some).ok_or_else(|| Error::Damaged("the row of a head's leaf".into()))
}

/// Leaves the heads of which the platform log has none that is as new: what was gathered may still wait, too.
pub(super) async fn unknown(tx: &Transaction, log_epoch: u32, news: Vec<News>) -> Result<Vec<News>, Error> {
    let mut looks = Vec::new();
    for one in &news {
        looks.push(head(tx, &one.head.origin, 0));
    }
    let known = try_join_all(looks).await?;
    let is_new = |one: &News, known: Option<Place>| {
        known.is_none_or(|known| known.log_epoch != log_epoch || known.size < one.head.size)
    };
    Ok(news.into_iter().zip(known).filter(|(one, known)| is_new(one, *known)).map(|(one, _)| one).collect())
}
