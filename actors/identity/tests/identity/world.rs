use std::{sync::Arc, time::Duration};

use aesp_identity::{
    ApiKey, CertificateIdentity, Claims, Error, Grant, Principal, PrincipalName, Refresh, RefreshLifetime,
    RefreshToken, Snapshot, Sweep, TokenOptions, Tokens, ensure_signing_key, login_api_key,
    login_certificate,
};
use aesp_proto::{Clock, Entropy, ManualClock, PrincipalId, Revision, TenantId, Timestamp, v1};
use aesp_storage::{Range, Store, Transaction};
use bytes::Bytes;
use futures::future::BoxFuture;

pub(crate) const START: Timestamp = Timestamp(1_800_000_000_000);

/// A store with the platform and two tenants, a clock that the test owns, and everything that needs a transaction.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) entropy: Entropy,
    pub(crate) acme: TenantId,
    pub(crate) globex: TenantId,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::on(Store::for_tests()).await
    }

    pub(crate) async fn on(store: Store) -> Self {
        let entropy = Entropy::from_seed(7);
        let world = Self {
            store,
            clock: Arc::new(ManualClock::new(START)),
            acme: TenantId::random(&entropy),
            globex: TenantId::random(&entropy),
            entropy,
        };
        let (acme, globex) = (world.acme, world.globex);
        world
            .store
            .run::<_, Error, _>(move |tx| {
                Box::pin(async move {
                    tx.create_tenant_keys(acme).await?;
                    Ok(tx.create_tenant_keys(globex).await?)
                })
            })
            .await
            .unwrap();
        world
            .in_tx(|tx, world| {
                Box::pin(async move { ensure_signing_key(tx, &world.entropy, world.now()).await })
            })
            .await
            .unwrap();
        world
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Runs `body` in a transaction.
    pub(crate) async fn in_tx<T: Send + 'static>(
        &self,
        body: impl for<'t> Fn(&'t Transaction, Self) -> BoxFuture<'t, Result<T, Error>> + Send + Sync + 'static,
    ) -> Result<T, Error> {
        let world = self.clone();
        self.store.run(move |tx| body(tx, world.clone())).await
    }

    pub(crate) async fn account(&self, tenant: TenantId, text: &str) -> Result<(Principal, ApiKey), Error> {
        let name = name(text);
        self.in_tx(move |tx, world| {
            let name = name.clone();
            Box::pin(async move {
                aesp_identity::create_service_account(tx, tenant, &name, &world.entropy, world.now()).await
            })
        })
        .await
    }

    pub(crate) async fn user(&self, tenant: TenantId, text: &str) -> Result<Principal, Error> {
        let name = name(text);
        self.in_tx(move |tx, world| {
            let name = name.clone();
            Box::pin(async move {
                let kind = v1::PrincipalType::User;
                aesp_identity::create_principal(tx, tenant, kind, &name, &world.entropy, world.now()).await
            })
        })
        .await
    }

    pub(crate) async fn rotate_api_key(&self, principal: &Principal) -> Result<(Principal, ApiKey), Error> {
        let (tenant, id) = (principal.tenant, principal.id);
        self.in_tx(move |tx, world| {
            Box::pin(async move {
                aesp_identity::rotate_api_key(tx, tenant, id, &world.entropy, world.now()).await
            })
        })
        .await
    }

    pub(crate) async fn revoke(&self, tenant: TenantId, id: PrincipalId) -> Result<Principal, Error> {
        self.in_tx(move |tx, _| Box::pin(aesp_identity::revoke_principal(tx, tenant, id))).await
    }

    pub(crate) async fn revoke_all(&self, principal: &Principal) -> Result<Principal, Error> {
        let (tenant, id) = (principal.tenant, principal.id);
        self.in_tx(move |tx, _| Box::pin(aesp_identity::revoke_all(tx, tenant, id))).await
    }

    pub(crate) async fn find(&self, tenant: TenantId, text: &str) -> Result<Principal, Error> {
        let text = text.to_owned();
        self.in_tx(move |tx, _| {
            let text = text.clone();
            Box::pin(async move { aesp_identity::find(tx, tenant, &text).await })
        })
        .await
    }

    pub(crate) async fn login(&self, key: &ApiKey) -> Result<Grant, Error> {
        let key = key.clone();
        self.in_tx(move |tx, world| {
            let key = key.clone();
            Box::pin(async move { login_api_key(tx, &key, &world.entropy, world.now(), lifetime()).await })
        })
        .await
    }

    pub(crate) async fn login_certificate(&self, identity: &str) -> Result<Grant, Error> {
        let identity = identity.to_owned();
        self.in_tx(move |tx, world| {
            let identity = identity.clone();
            Box::pin(async move {
                login_certificate(tx, &identity, &world.entropy, world.now(), lifetime()).await
            })
        })
        .await
    }

    pub(crate) async fn bind(&self, principal: &Principal, identity: &str) -> Result<Principal, Error> {
        let (tenant, id) = (principal.tenant, principal.id);
        let identity: CertificateIdentity = identity.parse()?;
        self.in_tx(move |tx, _| {
            let identity = identity.clone();
            Box::pin(async move { aesp_identity::bind_certificate(tx, tenant, id, &identity).await })
        })
        .await
    }

    pub(crate) async fn unbind(&self, principal: &Principal, identity: &str) -> Result<Principal, Error> {
        let (tenant, id) = (principal.tenant, principal.id);
        let identity: CertificateIdentity = identity.parse()?;
        self.in_tx(move |tx, _| {
            let identity = identity.clone();
            Box::pin(async move { aesp_identity::unbind_certificate(tx, tenant, id, &identity).await })
        })
        .await
    }

    pub(crate) async fn refresh(&self, token: &RefreshToken) -> Result<Refresh, Error> {
        let token = token.clone();
        self.in_tx(move |tx, world| {
            let token = token.clone();
            Box::pin(async move { aesp_identity::refresh(tx, &token, world.now(), lifetime()).await })
        })
        .await
    }

    pub(crate) async fn revoke_refresh_token(&self, token: &RefreshToken) -> Result<PrincipalId, Error> {
        let token = token.clone();
        self.in_tx(move |tx, world| {
            let token = token.clone();
            Box::pin(async move { aesp_identity::revoke_refresh_token(tx, &token, world.now()).await })
        })
        .await
    }

    pub(crate) async fn revoke_access_token(&self, claims: &Claims) {
        let claims = claims.clone();
        self.in_tx(move |tx, _| {
            let claims = claims.clone();
            Box::pin(async move { aesp_identity::revoke_access_token(tx, &claims).await })
        })
        .await
        .unwrap();
    }

    pub(crate) async fn tokens(&self) -> Tokens {
        self.tokens_with(TokenOptions::default()).await
    }

    pub(crate) async fn tokens_with(&self, options: TokenOptions) -> Tokens {
        self.in_tx(move |tx, _| Box::pin(Tokens::load(tx, options.clone()))).await.unwrap()
    }

    pub(crate) async fn reload(&self, tokens: &Arc<Tokens>) {
        let tokens = Arc::clone(tokens);
        self.in_tx(move |tx, _| {
            let tokens = Arc::clone(&tokens);
            Box::pin(async move { tokens.reload(tx).await })
        })
        .await
        .unwrap();
    }

    pub(crate) async fn snapshot(&self, tenant: TenantId) -> Snapshot {
        self.in_tx(move |tx, _| Box::pin(Snapshot::load(tx, tenant))).await.unwrap()
    }

    pub(crate) async fn revision(&self, tenant: TenantId) -> Revision {
        self.in_tx(move |tx, _| Box::pin(async move { Ok(tx.revision(tenant).await?) })).await.unwrap()
    }

    /// Sweeps the tenant to the end.
    pub(crate) async fn sweep(&self, tenant: TenantId) {
        let mut next = Some(Sweep::default());
        while let Some(from) = next {
            let step = self.in_tx(move |tx, world| {
                Box::pin(async move { aesp_identity::sweep(tx, tenant, from, world.now()).await })
            });
            next = step.await.unwrap();
        }
    }

    /// Returns every key and value as the engine has them.
    pub(crate) async fn dump(&self) -> Vec<u8> {
        let rows = self.raw_rows(&[]).await;
        rows.iter().flat_map(|(key, value)| [key.as_ref(), value.as_ref()].concat()).collect()
    }

    /// Returns how many rows a tenant has.
    pub(crate) async fn count(&self, tenant: TenantId) -> usize {
        self.raw_rows(tenant.as_bytes()).await.len()
    }

    async fn raw_rows(&self, prefix: &[u8]) -> Vec<(Bytes, Bytes)> {
        let range = Range::prefix(prefix).limit(100_000);
        self.in_tx(move |tx, _| {
            let range = range.clone();
            Box::pin(async move { Ok(tx.range_raw(range).await?) })
        })
        .await
        .unwrap()
    }
}

pub(crate) fn name(text: &str) -> PrincipalName {
    text.parse().unwrap()
}

pub(crate) fn lifetime() -> RefreshLifetime {
    RefreshLifetime { idle: Duration::from_secs(1_000), total: Duration::from_secs(10_000) }
}

pub(crate) fn granted(refresh: Refresh) -> Grant {
    match refresh {
        Refresh::Granted(grant) => *grant,
        Refresh::Reused(reuse) => panic!("reused: {reuse:?}"),
    }
}
