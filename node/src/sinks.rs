//! Sinks of audit events at this node: where their secrets lie, and word of the logs that have grown.

use std::{collections::HashMap, sync::Arc, time::Duration};

use aesp_audit::Position;
use aesp_cluster::Fence;
use aesp_keys::{AzureSecrets, SecretPlace, Secrets, VaultSecrets};
use aesp_proto::{Error, TenantId};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::{config::Keys, services::Context};

/// Tenants that are looked at in one transaction.
const PAGE: usize = 200;
/// The shortest pause between two looks; a look that takes long is followed by a pause nine times as long, so that it costs a tenth of a
/// core at the most.
const PAUSE: Duration = Duration::from_millis(250);
const LEISURE: u32 = 9;

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

/// Tells the sinks of every log that has grown, or whose home this node has become, until `closing`. Other nodes commit to the same logs,
/// so the store is asked.
pub(crate) fn start(context: &Context, closing: CancellationToken) {
    if context.sinks.configs().is_empty() {
        return;
    }
    let mut watch = Watch { context: context.clone(), seen: HashMap::new() };
    tokio::spawn(async move {
        closing
            .run_until_cancelled(async move {
                loop {
                    let began = Instant::now();
                    if let Err(error) = watch.look().await {
                        tracing::warn!(%error, "audit logs can't be looked at for the sinks; tried again later");
                    }
                    sleep((began.elapsed() * LEISURE).max(PAUSE)).await;
                }
            })
            .await
    });
}

struct Watch {
    context: Context,
    /// Up to where each log was known to the sinks, and under which fence.
    seen: HashMap<TenantId, (Fence, Position)>,
}

impl Watch {
    async fn look(&mut self) -> Result<(), Error> {
        let mut after = None;
        let mut found = HashMap::new();
        loop {
            let ownership = self.context.ownership.clone();
            let page = self.context.store.run(move |tx| {
                let ownership = ownership.clone();
                Box::pin(async move {
                    let tenants = aesp_tenant::list(tx, after, PAGE).await?;
                    let mut ends = Vec::new();
                    for tenant in &tenants {
                        let Ok(fence) = ownership.fence(tenant.id.as_bytes()) else { continue };
                        if let Some(end) = aesp_audit::end(tx, tenant.id).await? {
                            ends.push((tenant.id, (fence, end)));
                        }
                    }
                    Ok::<_, Error>((ends, tenants.last().map(|tenant| tenant.id), tenants.len() == PAGE))
                })
            });
            let (ends, last, more) = page.await?;
            for (tenant, end) in ends {
                if self.seen.get(&tenant) != Some(&end) {
                    self.context.sinks.news(tenant, end.0);
                }
                found.insert(tenant, end);
            }
            if !more {
                // Those that are gone from here are news when they come back.
                self.seen = found;
                return Ok(());
            }
            after = last;
        }
    }
}
