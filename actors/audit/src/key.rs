pub use aesp_audit_receipt::{KeyId, PublicKey};
use aesp_proto::TenantId;
use aesp_storage::{Kind, Row, Scan, Store, Transaction};
use aws_lc_rs::{
    encoding::AsBigEndian,
    signature::{Ed25519KeyPair, KeyPair},
};
use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::Error;

/// The key that a node signs its commits with.
pub(crate) struct NodeKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
    id: KeyId,
}

impl NodeKey {
    /// Loads the store's audit key; makes and keeps it if there is none yet.
    pub(crate) async fn load_or_create(store: &Store) -> Result<Self, Error> {
        store
            .run(|tx| {
                Box::pin(async move {
                    if let Some((_, row)) = rows(tx).await?.into_iter().next() {
                        return row.pair();
                    }
                    let key = Self::generate()?;
                    let seed = key.pair.seed().map_err(|_| Error::Key("its seed can't be read"))?;
                    let seed = seed.as_be_bytes().map_err(|_| Error::Key("its seed can't be read"))?;
                    let seed = BASE64.encode(seed.as_ref());
                    let row = KeyRow { public_key: BASE64.encode(&key.public.0), seed };
                    tx.put(TenantId::PLATFORM, &key.id, &row).await?;
                    Ok(key)
                })
            })
            .await
    }

    /// Makes a key.
    pub(crate) fn generate() -> Result<Self, Error> {
        let pair = Ed25519KeyPair::generate().map_err(|_| Error::Key("it can't be generated"))?;
        Self::new(pair)
    }

    /// Returns the key of this seed.
    pub(crate) fn from_seed(seed: &[u8]) -> Result<Self, Error> {
        let pair =
            Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| Error::Key("its seed is not one"))?;
        Self::new(pair)
    }

    fn new(pair: Ed25519KeyPair) -> Result<Self, Error> {
        let public =
            pair.public_key().as_ref().try_into().map_err(|_| Error::Key("its public half is not one"))?;
        let public = PublicKey(public);
        Ok(Self { pair, id: public.id(), public })
    }

    /// Returns the public half.
    pub(crate) fn public(&self) -> PublicKey {
        self.public
    }

    /// Returns the key's name.
    pub(crate) fn id(&self) -> &KeyId {
        &self.id
    }

    /// Signs (64 bytes).
    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(message).as_ref().to_vec()
    }
}

/// Returns the public halves of every key that has signed batches in the logs of this store.
///
/// # Errors
/// The store's; [`Error::Key`] if a row is damaged.
pub async fn batch_keys(tx: &Transaction) -> Result<Vec<PublicKey>, Error> {
    let own = rows(tx).await?.into_iter().map(|(_, row)| row.pair().map(|key| key.public()));
    let mut keys = own.collect::<Result<Vec<_>, _>>()?;
    let foreign = tx.scan::<ForeignKeyRow>(TenantId::PLATFORM, Scan::default()).await?;
    for (_, row) in foreign {
        keys.push(row.public()?);
    }
    Ok(keys)
}

/// Notes keys that signed, in another store, a log that was brought here.
///
/// # Errors
/// The store's.
pub async fn adopt_keys(tx: &Transaction, keys: &[PublicKey]) -> Result<(), Error> {
    for key in keys {
        let row = ForeignKeyRow { public_key: BASE64.encode(&key.0) };
        tx.put(TenantId::PLATFORM, &key.id(), &row).await?;
    }
    Ok(())
}

async fn rows(tx: &Transaction) -> Result<Vec<(KeyId, KeyRow)>, Error> {
    Ok(tx.scan::<KeyRow>(TenantId::PLATFORM, Scan::default()).await?)
}

/// An audit key at rest, sealed under the platform's data key.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
struct KeyRow {
    public_key: String,
    seed: String,
}

impl KeyRow {
    fn pair(&self) -> Result<NodeKey, Error> {
        let seed = BASE64.decode(self.seed.as_bytes()).map(Zeroizing::new);
        let key = NodeKey::from_seed(&seed.map_err(|_| Error::Key("its row is damaged"))?)?;
        if BASE64.encode(&key.public.0) != self.public_key {
            return Err(Error::Key("its row is damaged"));
        }
        Ok(key)
    }
}

impl Row for KeyRow {
    const KIND: Kind = Kind::AUDIT_KEY;
    type Key = KeyId;
}

/// A key whose private half never was here.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ForeignKeyRow {
    public_key: String,
}

impl ForeignKeyRow {
    fn public(&self) -> Result<PublicKey, Error> {
        let bytes = BASE64.decode(self.public_key.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(PublicKey).ok_or(Error::Key("its row is damaged"))
    }
}

impl Row for ForeignKeyRow {
    const KIND: Kind = Kind::AUDIT_FOREIGN_KEY;
    type Key = KeyId;
}
