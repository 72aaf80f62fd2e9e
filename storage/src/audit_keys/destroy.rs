//! Destroying audit keys, and renaming a tenant's keys so that nobody uses what was remembered beside them.

use aesp_proto::{PrincipalId, TenantId, Timestamp};

use super::{
    AuditDestruction, AuditKeyName, AuditPartition, AuditPartitionKey, AuditSubject, AuditSubjectKey,
};
use crate::{Error, Scan, Transaction, encode};

/// Keys that are listed at once.
const PAGE: usize = 1_000;

/// Why keys are destroyed.
#[derive(Clone, Debug)]
pub struct Destroyed {
    /// When.
    pub at: Timestamp,
    /// Who asked for it; nobody where a rule did.
    pub by: Option<PrincipalId>,
    /// By which rule, as people read it.
    pub rule: String,
    /// What was said of it.
    pub reason: String,
}

impl Transaction {
    /// Destroys an audit key of the tenant and leaves a row that says when and why. Whoever calls this renames the tenant's keys in the
    /// same transaction ([`rename_tenant_keys`](Self::rename_tenant_keys)): then what was sealed under it, in the store and in every
    /// backup, can't be read any more by anybody from the commit on.
    ///
    /// # Errors
    /// [`Error::KeyDestroyed`] if the tenant has no keys.
    pub async fn destroy_audit_key(
        &self,
        tenant: TenantId,
        name: AuditKeyName,
        why: &Destroyed,
    ) -> Result<(), Error> {
        match name {
            AuditKeyName::Partition(partition) => {
                self.delete::<AuditPartitionKey>(tenant, &partition).await?;
            }
            AuditKeyName::Subject(subject) => self.delete::<AuditSubjectKey>(tenant, &subject).await?,
        }
        self.state().made.forget(tenant, name);
        let row = AuditDestruction {
            at: why.at,
            by: why.by,
            rule: why.rule.clone(),
            reason: why.reason.clone(),
            swept_at: None,
            events: 0,
        };
        self.put(tenant, &name, &row).await
    }

    /// Has every transaction, from this commit on, load anew what is remembered beside the tenant's keys; those under way conflict.
    ///
    /// # Errors
    /// [`Error::KeyDestroyed`] if the tenant has no keys; that of the key provider.
    pub async fn rename_tenant_keys(&self, tenant: TenantId) -> Result<(), Error> {
        self.change_keys(tenant, |_| Ok(())).await
    }

    /// Returns the partitions that have a key, in the order of class and time.
    ///
    /// # Errors
    /// As [`scan`](Self::scan).
    pub async fn audit_partitions(&self, tenant: TenantId) -> Result<Vec<AuditPartition>, Error> {
        let (mut out, mut after) = (Vec::new(), None);
        loop {
            let scan = Scan { after: after.take(), limit: PAGE, ..Scan::default() };
            let page = self.scan::<AuditPartitionKey>(tenant, scan).await?;
            after = page.last().map(|(partition, _)| encode(partition));
            out.extend(page.iter().map(|(partition, _)| *partition));
            if page.len() < PAGE {
                return Ok(out);
            }
        }
    }

    /// Returns the keys of a principal: one, or none before anything was written about it.
    ///
    /// # Errors
    /// As [`scan`](Self::scan).
    pub async fn audit_subjects(
        &self,
        tenant: TenantId,
        principal: PrincipalId,
    ) -> Result<Vec<AuditSubject>, Error> {
        let scan = Scan { prefix: principal.as_bytes().to_vec(), ..Scan::default() };
        let rows = self.scan::<AuditSubjectKey>(tenant, scan).await?;
        Ok(rows.iter().map(|(subject, _)| *subject).collect())
    }
}
