use std::sync::Arc;

use aesp_catalog::Compiler;
use aesp_proto::{Revision, TenantId};
use aesp_runtime::Rights;
use aesp_storage::Transaction;

use crate::Error;

/// Everything that decides a tenant's calls, as it stood at one revision. Immutable; shared by all calls in progress.
#[derive(Debug)]
pub struct View {
    /// Of the tenant's own rights.
    pub revision: Revision,
    /// Of the platform's, whose catalogue and quotas reach into every tenant.
    pub platform_revision: Revision,
    /// Life-cycle state, quotas, configuration.
    pub tenant: Arc<aesp_tenant::Snapshot>,
    /// The contracts it is offered, compiled.
    pub catalog: Arc<aesp_catalog::Snapshot>,
    /// Its principals and what was revoked of theirs.
    pub identity: Arc<aesp_identity::Snapshot>,
    /// Its roles and policies.
    pub policy: Arc<aesp_policy::Snapshot>,
}

impl View {
    /// Loads the view at the transaction's read version, so that its parts agree with each other. What has not changed since
    /// `last` is not compiled again.
    ///
    /// # Errors
    /// Those of the parts; a tenant without a row is [`Error::UnknownTenant`].
    pub(crate) async fn load(
        tx: &Transaction,
        tenant: TenantId,
        compiler: &Compiler,
        last: Option<&Self>,
    ) -> Result<Self, Error> {
        let own = match aesp_tenant::Snapshot::load(tx, tenant).await {
            Err(aesp_tenant::Error::NotFound) => return Err(Error::UnknownTenant),
            loaded => loaded?,
        };
        // What a deleted tenant had went with its keys.
        if own.row().status == aesp_tenant::Status::Deleted {
            return Err(Error::UnknownTenant);
        }
        let policy = match last {
            Some(last) => last.policy.reload(tx).await?,
            None => aesp_policy::Snapshot::load(tx, tenant).await?,
        };
        Ok(Self {
            revision: tx.revision(tenant).await?,
            platform_revision: tx.revision(TenantId::PLATFORM).await?,
            tenant: Arc::new(own),
            catalog: Arc::new(aesp_catalog::Snapshot::load(tx, tenant, compiler).await?),
            identity: Arc::new(aesp_identity::Snapshot::load(tx, tenant).await?),
            policy: Arc::new(policy),
        })
    }

    /// Returns the revisions of what it was loaded from.
    #[must_use]
    pub fn rights(&self) -> Rights {
        Rights { tenant: self.revision, platform: self.platform_revision }
    }

    /// Tells whether nothing that `other` was loaded from has changed since.
    #[must_use]
    pub fn same_rights(&self, other: &Self) -> bool {
        self.revision == other.revision && self.platform_revision == other.platform_revision
    }
}
