use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use aesp_catalog::Compiler;
use aesp_proto::{Revision, TenantId};
use aesp_storage::{Store, revision_key};
use arc_swap::ArcSwap;
use dashmap::DashMap;
use tokio::sync::{Mutex, watch};
use tracing::warn;

use crate::{Error, View};

/// After what time a store that failed is asked again.
const RETRY: Duration = Duration::from_millis(200);

/// The node's views: one a tenant, loaded on first use, replaced whole when a revision moves. Cheap to clone.
#[derive(Clone)]
pub struct Views(Arc<Inner>);

struct Inner {
    store: Store,
    compiler: Arc<Compiler>,
    cells: DashMap<TenantId, Arc<Cell>>,
    registrations: ArcSwap<aesp_runtime::Registrations>,
    /// Held while they are loaded and put there.
    registering: Mutex<()>,
    /// Whether somebody tries to load them again.
    retrying: AtomicBool,
    /// Counts refreshes of any tenant, for those who hold rights of many (Runtime connections).
    refreshed: watch::Sender<u64>,
}

/// One tenant's view and those who wait for the next.
struct Cell {
    current: ArcSwap<View>,
    /// Whether the view was found current since others can find it. Nobody decides by it before: a change that was committed
    /// between its load and its insertion had nobody to tell.
    fresh: AtomicBool,
    /// Held while a newer view is loaded, so that many waiters cause one load.
    loading: Mutex<()>,
    changed: watch::Sender<Revision>,
}

impl Cell {
    fn is_fresh(&self) -> bool {
        self.fresh.load(Ordering::Acquire)
    }
}

impl Views {
    /// Creates the registry and loads what the platform itself needs.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn start(store: Store) -> Result<Self, Error> {
        let registrations = load_registrations(&store).await?;
        let views = Self(Arc::new(Inner {
            store,
            compiler: Arc::new(Compiler::new()),
            cells: DashMap::new(),
            registrations: ArcSwap::from_pointee(registrations),
            registering: Mutex::new(()),
            retrying: AtomicBool::new(false),
            refreshed: watch::Sender::new(0),
        }));
        views.get(TenantId::PLATFORM).await?;
        Ok(views)
    }

    /// Returns the tenant's view, loading it when this node has none.
    ///
    /// # Errors
    /// [`Error::UnknownTenant`], or those of the store.
    pub async fn get(&self, tenant: TenantId) -> Result<Arc<View>, Error> {
        if let Some(view) = self.peek(tenant) {
            return Ok(view);
        }
        // In a box, so that the calls, which find the view there, don't carry the room that a load needs.
        Box::pin(self.first(tenant)).await
    }

    async fn first(&self, tenant: TenantId) -> Result<Arc<View>, Error> {
        let view = Arc::new(self.load(tenant, None).await?);
        let mut added = false;
        let cell = Arc::clone(&self.0.cells.entry(tenant).or_insert_with(|| {
            added = true;
            Arc::new(Cell {
                changed: watch::Sender::new(view.revision),
                current: ArcSwap::new(Arc::clone(&view)),
                fresh: AtomicBool::new(false),
                loading: Mutex::new(()),
            })
        }));
        if added {
            self.follow(tenant);
        }
        if let Err(error) = self.refresh_cell(tenant, &cell).await {
            let unproven = |_: &TenantId, held: &Arc<Cell>| Arc::ptr_eq(held, &cell) && !held.is_fresh();
            self.0.cells.remove_if(&tenant, unproven);
            return Err(error);
        }
        Ok(cell.current.load_full())
    }

    /// Returns the tenant's view if this node has one.
    #[must_use]
    pub fn peek(&self, tenant: TenantId) -> Option<Arc<View>> {
        self.0.cells.get(&tenant).filter(|cell| cell.is_fresh()).map(|cell| cell.current.load_full())
    }

    pub(crate) fn compiler(&self) -> &Compiler {
        &self.0.compiler
    }

    /// Returns every view that this node has.
    #[must_use]
    pub fn loaded(&self) -> Vec<Arc<View>> {
        self.0.cells.iter().filter(|cell| cell.is_fresh()).map(|cell| cell.current.load_full()).collect()
    }

    /// Returns who may be a Runtime.
    #[must_use]
    pub fn registrations(&self) -> Arc<aesp_runtime::Registrations> {
        self.0.registrations.load_full()
    }

    /// Returns a receiver that is notified whenever the tenant's rights may have changed.
    ///
    /// # Errors
    /// As [`Views::get`].
    pub async fn subscribe(&self, tenant: TenantId) -> Result<watch::Receiver<Revision>, Error> {
        self.get(tenant).await?;
        let cell = self.0.cells.get(&tenant).ok_or(Error::UnknownTenant)?;
        Ok(cell.changed.subscribe())
    }

    /// Returns a receiver that is notified after any tenant was refreshed.
    #[must_use]
    pub fn subscribe_all(&self) -> watch::Receiver<u64> {
        self.0.refreshed.subscribe()
    }

    /// Makes every decision from now on see what is committed. Called after a change and before its answer, so that a
    /// revocation holds from the moment that the call returns.
    ///
    /// # Errors
    /// Those of the store; then the view is dropped, and calls are refused until it can be loaded.
    pub async fn refresh(&self, tenant: TenantId) -> Result<(), Error> {
        let refreshed = if tenant == TenantId::PLATFORM {
            let mut refreshed = self.refresh_registrations().await;
            // The platform's contracts and quotas are part of every tenant's view.
            let tenants: Vec<_> = self.0.cells.iter().map(|cell| *cell.key()).collect();
            for tenant in tenants {
                // One that fails is dropped, and must not keep the others on old rights.
                refreshed = refreshed.and(self.refresh_one(tenant).await);
            }
            refreshed
        } else {
            self.refresh_one(tenant).await
        };
        self.0.refreshed.send_modify(|count| *count += 1);
        refreshed
    }

    /// Loads who may be a Runtime. While that can't be read nobody may.
    async fn refresh_registrations(&self) -> Result<(), Error> {
        // One after the other, or an older load could take the place of a newer one.
        let _turn = self.0.registering.lock().await;
        let loaded = load_registrations(&self.0.store).await;
        let (registrations, loaded) = match loaded {
            Ok(registrations) => (registrations, Ok(())),
            Err(error) => {
                self.retry_registrations();
                (aesp_runtime::Registrations::default(), Err(error))
            }
        };
        self.0.registrations.store(Arc::new(registrations));
        loaded
    }

    /// Loads them as soon as the store answers again: no revision tells of that.
    fn retry_registrations(&self) {
        if self.0.retrying.swap(true, Ordering::AcqRel) {
            return;
        }
        let inner = Arc::downgrade(&self.0);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(RETRY).await;
                let Some(strong) = inner.upgrade() else { return };
                let _turn = strong.registering.lock().await;
                if let Ok(registrations) = load_registrations(&strong.store).await {
                    strong.registrations.store(Arc::new(registrations));
                    strong.retrying.store(false, Ordering::Release);
                    strong.refreshed.send_modify(|count| *count += 1);
                    return;
                }
            }
        });
    }

    async fn refresh_one(&self, tenant: TenantId) -> Result<(), Error> {
        let Some(cell) = self.0.cells.get(&tenant).map(|cell| Arc::clone(&cell)) else { return Ok(()) };
        let refreshed = self.refresh_cell(tenant, &cell).await;
        if refreshed.is_err() {
            // INVARIANT R1: no view is better than an old one.
            self.0.cells.remove(&tenant);
            cell.changed.send_modify(|_| {});
        }
        match refreshed {
            // It was deleted; there is nothing to be fresh about.
            Err(Error::UnknownTenant) => Ok(()),
            refreshed => refreshed,
        }
    }

    async fn refresh_cell(&self, tenant: TenantId, cell: &Cell) -> Result<(), Error> {
        let _loading = cell.loading.lock().await;
        let store = &self.0.store;
        let (own, platform) = store
            .run(move |tx| {
                Box::pin(async move {
                    Ok::<_, Error>((tx.revision(tenant).await?, tx.revision(TenantId::PLATFORM).await?))
                })
            })
            .await?;
        let current = cell.current.load_full();
        if current.revision == own && current.platform_revision == platform {
            cell.fresh.store(true, Ordering::Release);
            return Ok(());
        }
        let view = Arc::new(self.load(tenant, Some(current)).await?);
        let revision = view.revision;
        cell.current.store(view);
        cell.fresh.store(true, Ordering::Release);
        cell.changed.send_replace(revision);
        Ok(())
    }

    async fn load(&self, tenant: TenantId, last: Option<Arc<View>>) -> Result<View, Error> {
        let compiler = Arc::clone(&self.0.compiler);
        self.0
            .store
            .run(move |tx| {
                let (compiler, last) = (Arc::clone(&compiler), last.clone());
                Box::pin(async move { View::load(tx, tenant, &compiler, last.as_deref()).await })
            })
            .await
    }

    /// Follows changes that other processes commit.
    fn follow(&self, tenant: TenantId) {
        let inner = Arc::downgrade(&self.0);
        tokio::spawn(async move {
            while let Some(strong) = inner.upgrade() {
                if !strong.cells.contains_key(&tenant) {
                    return;
                }
                let store = strong.store.clone();
                // The registry may go while this waits.
                drop(strong);
                let watched = store.watch(&revision_key(tenant)).await;
                let Some(strong) = inner.upgrade() else { return };
                if let Err(error) = &watched {
                    warn!(%tenant, %error, "revision watch failed");
                    tokio::time::sleep(RETRY).await;
                }
                if let Err(error) = Self(strong).refresh(tenant).await {
                    warn!(%tenant, %error, "tenant view not refreshed; its calls are refused");
                }
            }
        });
    }
}

async fn load_registrations(store: &Store) -> Result<aesp_runtime::Registrations, Error> {
    store.run(|tx| Box::pin(async move { Ok(aesp_runtime::Registrations::load(tx).await?) })).await
}

impl std::fmt::Debug for Views {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Views").field("tenants", &self.0.cells.len()).finish_non_exhaustive()
    }
}
