use std::sync::Arc;

use aesp_proto::{Revision, TenantId};
use aesp_storage::Transaction;

use crate::{Config, Error, Quotas, Status, TenantRow};

/// A tenant and its configuration at one revision.
#[derive(Clone, Debug)]
pub struct Snapshot {
    row: TenantRow,
    config: Arc<Config>,
    revision: Revision,
}

impl Snapshot {
    /// Loads the tenant, also a deleted one.
    ///
    /// # Errors
    /// [`Error::NotFound`], or the store's.
    pub async fn load(tx: &Transaction, tenant: TenantId) -> Result<Self, Error> {
        let row = crate::get(tx, tenant).await?;
        let config = match row.status {
            // Its configuration went with its keys.
            Status::Deleted => Config::default(),
            Status::Active | Status::Suspended => Config::load(tx, tenant).await?,
        };
        Ok(Self { row, config: Arc::new(config), revision: tx.revision(tenant).await? })
    }

    /// Returns the tenant's id.
    #[must_use]
    pub fn id(&self) -> TenantId {
        self.row.id
    }

    /// Returns the tenant's row.
    #[must_use]
    pub fn row(&self) -> &TenantRow {
        &self.row
    }

    /// Returns what the tenant may use.
    #[must_use]
    pub fn quotas(&self) -> Quotas {
        self.row.quotas
    }

    /// Returns the tenant's configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Returns the revision that this is true for.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Tells why the tenant may start nothing, if so.
    #[must_use]
    pub fn refuses_calls(&self) -> Option<Error> {
        self.row.status.refusal()
    }

    #[cfg(test)]
    pub(crate) fn for_tests(tenant: TenantId, quotas: Quotas, revision: Revision) -> Self {
        let row = TenantRow {
            id: tenant,
            name: "acme".into(),
            display_name: String::new(),
            status: Status::Active,
            reason: String::new(),
            quotas,
            created_at: aesp_proto::Timestamp(0),
            metadata: std::collections::BTreeMap::new(),
        };
        Self { row, config: Arc::default(), revision }
    }
}
