//! Sinks of audit events at this node: where their secrets lie, and word of the logs that have grown.

use std::sync::Arc;

use aesp_cluster::Fence;
use aesp_follow::{Advance, Error, Follower};
use aesp_keys::{AzureSecrets, SecretPlace, Secrets, VaultSecrets};
use aesp_proto::TenantId;
use aesp_sinks::Sinks;
use async_trait::async_trait;

use crate::config::Keys;

/// Returns the places of secrets: this machine, and the key managers that are configured.
///
/// # Errors
/// If a file of their configuration can't be used.
pub(crate) fn secrets(keys: &Keys) -> Result<Secrets, aesp_storage::Error> {
    let mut places: Vec<Arc<dyn SecretPlace>> = Vec::new();
    if let Some(vault) = &keys.vault {
        places.push(Arc::new(VaultSecrets::new(vault.clone())?));
    }
    if let Some(azure) = &keys.azure {
        places.push(Arc::new(AzureSecrets::new(azure.clone())?));
    }
    Ok(Secrets::new(places))
}

/// Tells the sinks of each log that has grown, or whose home this node has become. They go their own way: one that is blocked must not hold
/// up the others, so nothing is waited for.
pub(crate) struct Grown(pub(crate) Sinks);

#[async_trait]
impl Follower for Grown {
    fn name(&self) -> &'static str {
        "sinks"
    }

    async fn advance(&self, tenant: TenantId, fence: Fence) -> Result<Advance, Error> {
        self.0.news(tenant, fence);
        Ok(Advance::AtEnd)
    }
}
