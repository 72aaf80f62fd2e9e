//! The keys that sign checkpoints: one at a time for all logs of the Host, rotated with a signed hand-over.

use aesp_audit::{Handover, LogKey, PublicKey, Seals, handover_text, node_key_text};
use aesp_merkle::Checkpoint;
use aesp_proto::{TenantId, Timestamp};
use aesp_storage::{Kind, Row, Scan, Store, Transaction};
use aws_lc_rs::{
    encoding::AsBigEndian,
    signature::{Ed25519KeyPair, KeyPair},
};
use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::Error;

const PLATFORM: TenantId = TenantId::PLATFORM;

/// The keys of a store.
#[derive(Clone, Copy, Debug)]
pub struct LogKeys;

/// A key at rest, sealed under the platform's data key. Of an old one only the public half is left.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
struct KeyRow {
    public: String,
    seed: Option<String>,
    #[zeroize(skip)]
    since: Timestamp,
    /// By the key before, and by this one.
    handover: Option<(String, String)>,
}

impl Row for KeyRow {
    const KIND: Kind = Kind::LOG_KEY;
    type Key = u32;
}

impl LogKeys {
    /// Makes the first key, unless there is one.
    ///
    /// # Errors
    /// The store's, or [`Error::Key`].
    pub async fn ensure(store: &Store, now: Timestamp) -> Result<(), Error> {
        store
            .run(move |tx| {
                Box::pin(async move {
                    if newest(tx).await?.is_some() {
                        return Ok(());
                    }
                    let row = row(&generate()?, now, None)?;
                    Ok(tx.put(PLATFORM, &1, &row).await?)
                })
            })
            .await
    }

    /// Returns every key, the first first.
    ///
    /// # Errors
    /// The store's, or [`Error::Key`].
    pub async fn all(tx: &Transaction) -> Result<Vec<LogKey>, Error> {
        let rows = tx.scan::<KeyRow>(PLATFORM, Scan::default()).await?;
        rows.into_iter().map(|(number, row)| row.public(number)).collect()
    }

    /// Makes the next key, handed over by the last, which signs nothing more: its private half is removed. Returns the new one.
    ///
    /// # Errors
    /// The store's, or [`Error::Key`].
    pub async fn rotate(tx: &Transaction, now: Timestamp) -> Result<LogKey, Error> {
        let (number, mut old) = newest(tx).await?.ok_or(Error::Key("there is none yet"))?;
        let pair = generate()?;
        let next = number + 1;
        let before = old.pair()?;
        let text = handover_text(next, &public_of(&before)?, &public_of(&pair)?);
        let sign = |pair: &Ed25519KeyPair| pair.sign(&text).as_ref().to_vec();
        let handover = Handover { by_previous: sign(&before), by_next: sign(&pair) };
        let new = row(&pair, now, Some(handover))?;
        old.seed.zeroize();
        old.seed = None;
        tx.put(PLATFORM, &number, &old).await?;
        tx.put(PLATFORM, &next, &new).await?;
        new.public(next)
    }

    /// Returns what an export is sealed with; nothing in a store whose logs were never sealed.
    ///
    /// # Errors
    /// The store's, or [`Error::Key`].
    pub async fn seals(tx: &Transaction) -> Result<Option<Seals>, Error> {
        let log_keys = Self::all(tx).await?;
        if log_keys.is_empty() {
            return Ok(None);
        }
        let pair = Self::signing(tx).await?;
        let certify = |key: PublicKey| (key, pair.sign(&node_key_text(&key)).as_ref().to_vec());
        let certificates = aesp_audit::batch_keys(tx).await?.into_iter().map(certify).collect();
        Ok(Some(Seals { log_keys, certificates }))
    }

    /// Returns since when each key signs, in the order of [`all`](Self::all).
    ///
    /// # Errors
    /// The store's.
    pub async fn since(tx: &Transaction) -> Result<Vec<Timestamp>, Error> {
        let rows = tx.scan::<KeyRow>(PLATFORM, Scan::default()).await?;
        Ok(rows.iter().map(|(_, row)| row.since).collect())
    }

    /// Reads a stored checkpoint, which one of the keys signed.
    pub(crate) async fn opened(tx: &Transaction, note: &str) -> Result<Checkpoint, Error> {
        let keys = Self::all(tx).await?;
        let head = keys.iter().find_map(|key| Checkpoint::open(note, key.public.0).ok());
        head.ok_or_else(|| Error::Damaged("the last checkpoint is not signed by a log key".into()))
    }

    /// Returns the pair that signs now.
    pub(crate) async fn signing(tx: &Transaction) -> Result<Ed25519KeyPair, Error> {
        newest(tx).await?.ok_or(Error::Key("there is none yet"))?.1.pair()
    }
}

async fn newest(tx: &Transaction) -> Result<Option<(u32, KeyRow)>, Error> {
    let newest = Scan { limit: 1, reverse: true, ..Scan::default() };
    Ok(tx.scan::<KeyRow>(PLATFORM, newest).await?.into_iter().next())
}

fn generate() -> Result<Ed25519KeyPair, Error> {
    Ed25519KeyPair::generate().map_err(|_| Error::Key("it can't be generated"))
}

fn public_of(pair: &Ed25519KeyPair) -> Result<PublicKey, Error> {
    let public = pair.public_key().as_ref().try_into();
    public.map(PublicKey).map_err(|_| Error::Key("its public half is not one"))
}

fn row(pair: &Ed25519KeyPair, since: Timestamp, handover: Option<Handover>) -> Result<KeyRow, Error> {
    const UNREADABLE: Error = Error::Key("its seed can't be read");
    let seed = pair.seed().map_err(|_| UNREADABLE)?;
    let seed = seed.as_be_bytes().map_err(|_| UNREADABLE)?;
    Ok(KeyRow {
        public: BASE64.encode(&public_of(pair)?.0),
        seed: Some(BASE64.encode(seed.as_ref())),
        since,
        handover: handover.map(|both| (BASE64.encode(&both.by_previous), BASE64.encode(&both.by_next))),
    })
}

impl KeyRow {
    fn pair(&self) -> Result<Ed25519KeyPair, Error> {
        const DAMAGED: Error = Error::Key("its row is damaged");
        let seed = self.seed.as_ref().ok_or(DAMAGED)?;
        let seed = BASE64.decode(seed.as_bytes()).map(Zeroizing::new).map_err(|_| DAMAGED)?;
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| DAMAGED)?;
        if BASE64.encode(&public_of(&pair)?.0) == self.public { Ok(pair) } else { Err(DAMAGED) }
    }

    fn public(&self, number: u32) -> Result<LogKey, Error> {
        const DAMAGED: Error = Error::Key("its row is damaged");
        let read = |text: &str| BASE64.decode(text.as_bytes()).map_err(|_| DAMAGED);
        let handover = match &self.handover {
            None => None,
            Some((previous, next)) => Some(Handover { by_previous: read(previous)?, by_next: read(next)? }),
        };
        let public = read(&self.public)?.try_into().map(PublicKey).map_err(|_| DAMAGED)?;
        Ok(LogKey { number, public, handover })
    }
}
