use std::collections::BTreeMap;

use aesp_proto::{
    Error, ErrorCode, TenantId,
    v1::{
        DataKeyRotation as RotationWire, GetKeyStatusRequest, KeyStatus, RewrapKeysRequest,
        RewrapKeysResponse, RotateDataKeyRequest, RotateDataKeyResponse, RotateMasterKeyRequest,
        RotateMasterKeyResponse, TenantKeyStatus, WrappedUnder, key_service_server,
    },
};
use aesp_storage::{DataKeyRotation, Error as StoreError, KeyVersion, MasterKeyRewrap, Scan};
use tonic::{Request, Response, Status};

use super::{Context, enter};

const PLATFORM: TenantId = TenantId::PLATFORM;
/// Tenants in one transaction of the count.
const PAGE: usize = 500;
/// The most rotations that are shown.
const ROTATIONS: usize = 1_000;

/// The keys that protect the data.
pub(crate) struct Keys(pub(crate) Context);

impl Keys {
    /// Refuses a file of this machine that other machines can't see.
    fn may_rotate(&self) -> Result<(), Error> {
        let others = self.0.cluster.nodes().borrow().len() > 1;
        if others && self.0.duty.keys_lie_apart() {
            return Err(Error::new(
                ErrorCode::StateConflict,
                "the master key is a file of each node: one node can't rotate it for the others",
            )
            .remedy(
                "use a key manager ([keys] provider), or stop all nodes but one and bring them the new file",
            ));
        }
        Ok(())
    }

    /// Counts the tenants by the version that wraps their keys.
    async fn count(&self) -> Result<BTreeMap<KeyVersion, u64>, Error> {
        let mut counted = BTreeMap::new();
        let mut after = None;
        loop {
            let page = self.0.store.run(move |tx| {
                Box::pin(async move {
                    let mut versions = Vec::new();
                    let tenants = aesp_tenant::list(tx, after, PAGE).await?;
                    for tenant in &tenants {
                        versions.extend(tx.wrapped_under(tenant.id).await?);
                    }
                    Ok::<_, Error>((versions, tenants.last().map(|tenant| tenant.id), tenants.len()))
                })
            });
            let (versions, last, seen) = page.await?;
            for version in versions {
                *counted.entry(version).or_default() += 1;
            }
            if seen < PAGE {
                return Ok(counted);
            }
            after = last;
        }
    }

    async fn tenant(&self, tenant: TenantId) -> Result<TenantKeyStatus, Error> {
        let read = self.0.store.run(move |tx| {
            Box::pin(async move {
                let wrapped = tx.wrapped_under(tenant).await?;
                let keys = match tx.tenant_keys(tenant).await {
                    Ok(keys) => Some(keys),
                    Err(error) if error.is_of_keys() || matches!(error, StoreError::KeyDestroyed { .. }) => {
                        None
                    }
                    Err(error) => return Err(error),
                };
                Ok::<_, StoreError>((wrapped, keys))
            })
        });
        let (wrapped, keys) = read.await?;
        Ok(TenantKeyStatus {
            tenant_id: tenant.to_string(),
            destroyed: wrapped.is_none(),
            wrapped_under: wrapped.map(|version| version.to_string()).unwrap_or_default(),
            data_version: keys.as_ref().map_or(0, |keys| keys.data_version().0),
            oldest_data_version: keys.as_ref().map_or(0, |keys| keys.oldest_data_version().0),
        })
    }

    async fn status(&self, tenant: Option<TenantId>) -> Result<KeyStatus, Error> {
        let store = &self.0.store;
        let current = store.master_key_version().await;
        let health = store.key_health();
        let counted = self.count().await?;
        let noted = store.run(|tx| {
            Box::pin(async move {
                let rotations = tx
                    .scan::<DataKeyRotation>(PLATFORM, Scan { limit: ROTATIONS, ..Scan::default() })
                    .await?;
                Ok::<_, Error>((rotations, tx.get::<MasterKeyRewrap>(PLATFORM, &()).await?))
            })
        });
        let (rotations, rewrap) = noted.await?;
        let tenant = match tenant {
            Some(tenant) => Some(self.tenant(tenant).await?),
            None => None,
        };
        let ms = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let (trouble, trouble_ms) =
            health.trouble.map(|(error, since)| (error.to_string(), ms(since))).unwrap_or_default();
        let current = current.ok();
        Ok(KeyStatus {
            master_key: store.master_key_name(),
            current_version: current.as_ref().map(KeyVersion::to_string).unwrap_or_default(),
            trouble,
            trouble_ms,
            cached_tenants: u32::try_from(health.cached).unwrap_or(u32::MAX),
            cache_oldest_ms: ms(health.oldest),
            cache_life_ms: ms(health.life),
            wrapped_under: counted
                .into_iter()
                .map(|(version, tenants)| WrappedUnder {
                    current: Some(&version) == current.as_ref(),
                    version: version.to_string(),
                    tenants,
                })
                .collect(),
            lost_tenants: rewrap.map_or(0, |rewrap| rewrap.lost),
            rotations: rotations
                .into_iter()
                .map(|(tenant, row)| RotationWire {
                    tenant_id: tenant.to_string(),
                    to_version: row.to,
                    started_at_ms: row.started_at.0,
                    rows_seen: row.seen,
                    rows_resealed: row.resealed,
                    rows_unreadable: row.unreadable,
                })
                .collect(),
            tenant,
        })
    }
}

#[tonic::async_trait]
impl key_service_server::KeyService for Keys {
    async fn get_key_status(
        &self,
        request: Request<GetKeyStatusRequest>,
    ) -> Result<Response<KeyStatus>, Status> {
        let entry = enter(request)?;
        let granted = self.0.access.permit_tenant(&entry.caller, &entry.action, PLATFORM).await?;
        let named = &entry.message.tenant_id;
        let tenant = if named.is_empty() {
            None
        } else {
            Some(self.0.denied(&granted, "tenant:unknown", self.0.tenant(&entry.caller, named).await).await?)
        };
        let status = self.status(tenant).await;
        self.0.read(&granted, "keys".into(), |_| Box::pin(async { Ok(()) })).await?;
        Ok(Response::new(status?))
    }

    async fn rotate_master_key(
        &self,
        request: Request<RotateMasterKeyRequest>,
    ) -> Result<Response<RotateMasterKeyResponse>, Status> {
        let entry = enter(request)?;
        let granted = self.0.access.permit_tenant(&entry.caller, &entry.action, PLATFORM).await?;
        self.0.checked(&granted, "master-key", self.may_rotate()).await?;
        // On record before the key manager hears of it.
        self.0.recorder.append(granted.changed("master-key")).await.map_err(Error::from)?;
        let rotated = self.0.store.rotate_master_key().await;
        let version = self.0.checked(&granted, "master-key", rotated).await?;
        self.0.duty.wake();
        Ok(Response::new(RotateMasterKeyResponse { version: version.to_string() }))
    }

    async fn rewrap_keys(
        &self,
        request: Request<RewrapKeysRequest>,
    ) -> Result<Response<RewrapKeysResponse>, Status> {
        let entry = enter(request)?;
        let granted = self.0.access.permit_tenant(&entry.caller, &entry.action, PLATFORM).await?;
        let current = self.0.store.master_key_version().await;
        let current = self.0.checked(&granted, "keys", current).await?;
        let (version, now) = (current.clone(), self.0.clock.now());
        self.0
            .commit(&granted, "keys".into(), move |tx| {
                let version = version.clone();
                Box::pin(
                    async move { Ok(tx.put(PLATFORM, &(), &MasterKeyRewrap::begin(&version, now)).await?) },
                )
            })
            .await?;
        self.0.duty.wake();
        Ok(Response::new(RewrapKeysResponse { version: current.to_string() }))
    }

    async fn rotate_data_key(
        &self,
        request: Request<RotateDataKeyRequest>,
    ) -> Result<Response<RotateDataKeyResponse>, Status> {
        let entry = enter(request)?;
        let granted = self.0.access.permit_tenant(&entry.caller, &entry.action, PLATFORM).await?;
        if entry.message.tenant_id.is_empty() {
            let which =
                Err::<(), _>(Error::invalid("tenant_id names no tenant").remedy("say whose data key"));
            self.0.checked(&granted, "tenant:unknown", which).await?;
        }
        let tenant = self.0.tenant(&entry.caller, &entry.message.tenant_id).await;
        let tenant = self.0.denied(&granted, "tenant:unknown", tenant).await?;
        let now = self.0.clock.now();
        let begun = self.0.commit(&granted, format!("tenant:{tenant}"), move |tx| {
            Box::pin(async move { begin(tx.begin_data_key_rotation(tenant, now).await) })
        });
        let version = begun.await?;
        self.0.duty.wake();
        Ok(Response::new(RotateDataKeyResponse { tenant_id: tenant.to_string(), version: version.0 }))
    }
}

/// Says plainly what stands in the way of a rotation.
fn begin<T>(begun: Result<T, StoreError>) -> Result<T, Error> {
    begun.map_err(|error| match error {
        StoreError::KeyRotating { .. } => {
            Error::new(ErrorCode::StateConflict, "the tenant's data key is being rotated")
                .remedy("wait until it is over: aesp key status")
        }
        StoreError::KeyDestroyed { .. } => {
            Error::new(ErrorCode::StateConflict, "the tenant has no keys: they were destroyed with it")
        }
        other => other.into(),
    })
}
