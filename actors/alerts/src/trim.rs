//! Clearing away what is too old to be kept: ended alerts, records of deliveries, silences that are over.

use aesp_proto::{AlertId, DeliveryId, Id, SilenceId, TenantId, Timestamp};
use aesp_storage::{Error, Scan, Transaction};

use crate::{Alert, Silence, home::Homes, rows::Delivery};

/// Rows that one transaction looks at.
const ROWS: usize = 200;

/// Clears away what is too old of every tenant that has alerts at this node.
pub(crate) async fn trim_all(homes: &Homes, now: Timestamp) {
    let keep = i64::try_from(homes.options.keep.as_millis()).unwrap_or(i64::MAX);
    let before = Timestamp(now.0.saturating_sub(keep));
    for tenant in homes.tenants() {
        let Ok(fence) = homes.ownership.fence(tenant.as_bytes()) else { continue };
        let trimmed = homes.store.run(move |tx| {
            Box::pin(async move {
                fence.check(tx).await?;
                trim(tx, tenant, before).await
            })
        });
        match trimmed.await {
            Ok(()) | Err(Error::KeyDestroyed { .. } | Error::Fenced { .. }) => {}
            Err(error) => {
                tracing::warn!(%tenant, %error, "old alerts were not cleared away; tried again later")
            }
        }
    }
}

/// Ids begin with the time: the first rows are the oldest.
async fn trim(tx: &Transaction, tenant: TenantId, before: Timestamp) -> Result<(), Error> {
    let oldest = || Scan { limit: ROWS, ..Scan::default() };
    for (id, _) in tx.scan::<Delivery>(tenant, oldest()).await? {
        if !is_before(&id, before) {
            break;
        }
        let id: DeliveryId = id;
        tx.delete::<Delivery>(tenant, &id).await?;
    }
    for (id, alert) in tx.scan::<Alert>(tenant, oldest()).await? {
        if !is_before(&id, before) {
            break;
        }
        let id: AlertId = id;
        if alert.ended.is_some_and(|ended| ended < before) {
            tx.delete::<Alert>(tenant, &id).await?;
        }
    }
    for (id, silence) in tx.scan::<Silence>(tenant, oldest()).await? {
        let id: SilenceId = id;
        if silence.until < before {
            tx.delete::<Silence>(tenant, &id).await?;
        }
    }
    Ok(())
}

fn is_before<K>(id: &Id<K>, before: Timestamp) -> bool {
    id.as_bytes()[..6] < before.0.max(0).to_be_bytes()[2..]
}
