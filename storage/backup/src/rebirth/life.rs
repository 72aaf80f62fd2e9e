use aesp_proto::TenantId;
use aesp_storage::{Error, Kind, Row, Transaction, encode, row_key};
use serde::{Deserialize, Serialize};

/// The last new life that the store was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Life {
    pub(super) descent: String,
    pub(super) stage: Stage,
    pub(super) log_epoch: u32,
    /// Nodes of the former life.
    pub(super) nodes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stage {
    Begun,
    Done,
}

impl Row for Life {
    const KIND: Kind = Kind::CLUSTER;
    const SEALED: bool = false;
    type Key = String;
}

const NAME: &str = "life";

/// A tenant that is being imported into a store that others live in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Arrival {
    pub(crate) tenant: TenantId,
    /// The HMAC of its export, which tells it from others.
    pub(crate) export: String,
    /// Done once the tenant is known to the platform; its log has to be opened then.
    pub(crate) stage: Stage,
    pub(crate) log_epoch: u32,
}

impl Row for Arrival {
    const KIND: Kind = Kind::CLUSTER;
    const SEALED: bool = false;
    type Key = String;
}

const ARRIVAL: &str = "arrival";

impl Arrival {
    pub(crate) async fn load(tx: &Transaction) -> Result<Option<Self>, Error> {
        tx.get(TenantId::PLATFORM, &ARRIVAL.to_owned()).await
    }

    pub(crate) async fn keep(&self, tx: &Transaction) -> Result<(), Error> {
        tx.put(TenantId::PLATFORM, &ARRIVAL.to_owned(), self).await
    }

    /// Lets nodes start again.
    pub(crate) async fn done(tx: &Transaction) -> Result<(), Error> {
        tx.delete::<Self>(TenantId::PLATFORM, &ARRIVAL.to_owned()).await
    }
}

/// Returns the key of the row that says which life of the store this is: what is restored or imported gets its own.
#[must_use]
pub fn key() -> Vec<u8> {
    row_key(TenantId::PLATFORM, Kind::CLUSTER, &encode(&NAME.to_owned()))
}

impl Life {
    pub(super) async fn load(tx: &Transaction) -> Result<Option<Self>, Error> {
        tx.get(TenantId::PLATFORM, &NAME.to_owned()).await
    }

    pub(super) async fn keep(&self, tx: &Transaction) -> Result<(), Error> {
        tx.put(TenantId::PLATFORM, &NAME.to_owned(), self).await
    }
}
