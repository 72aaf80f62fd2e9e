use aesp_proto::{TenantId, Timestamp};
use aesp_storage::{Blind, Error, Kind, Row, Transaction};
use serde::{Deserialize, Serialize};

const PLATFORM: TenantId = TenantId::PLATFORM;

/// What is known of a witness.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WitnessRow {
    /// Its name in the configuration.
    pub name: String,
    /// The origin of the platform log that it cosigned last.
    pub origin: String,
    /// The size that it cosigned last; 0 for none.
    pub size: u64,
    /// When that was taken in.
    pub at: Timestamp,
    /// The time of the cosignature, in seconds since 1970.
    pub time: u64,
    /// Why it is sent nothing more until an operator resets it.
    pub contradiction: Option<String>,
    /// Why it does not cosign at present; empty while it does.
    pub cause: String,
    /// What was seen.
    pub trouble: String,
    /// Since when it does not.
    pub since: Timestamp,
    /// Answers of it that were refused.
    pub refused: u64,
}

impl Row for WitnessRow {
    const KIND: Kind = Kind::WITNESS;
    /// The name, which may say whose the witness is.
    type Key = Blind;
}

impl WitnessRow {
    /// Reads what is known of the witness of this name.
    pub(crate) async fn of(tx: &Transaction, name: &str) -> Result<Self, Error> {
        let key = tx.tenant_keys(PLATFORM).await?.blind(Kind::WITNESS, name);
        let row = tx.get::<Self>(PLATFORM, &key).await?;
        Ok(row.unwrap_or_else(|| Self { name: name.to_owned(), ..Self::default() }))
    }

    pub(crate) async fn put(&self, tx: &Transaction) -> Result<(), Error> {
        let key = tx.tenant_keys(PLATFORM).await?.blind(Kind::WITNESS, &self.name);
        tx.put(PLATFORM, &key, self).await
    }

    /// Returns what it saw last of the log with this origin.
    #[must_use]
    pub fn seen(&self, origin: &str) -> u64 {
        if self.origin == origin { self.size } else { 0 }
    }
}
