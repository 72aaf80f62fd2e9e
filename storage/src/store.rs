use std::{
    any::Any,
    path::Path,
    sync::{Arc, OnceLock},
};

use aesp_proto::{Clock, Entropy, SystemClock};
use futures::FutureExt;

use crate::{
    Engine, Error, FaultEngine, Faults, FdbEngine, FdbOptions, KeyProvider, LmdbEngine, LmdbOptions,
    MemoryEngine, MemoryOptions, Transaction, Watch, keyring::Keyring, provider::ThrowAwayKeyProvider,
};

/// The store: serializable transactions over the rows of all tenants. Cheap to clone; the clones are the same store.
#[derive(Clone)]
pub struct Store {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) keyring: Arc<Keyring>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Entropy,
    /// What others attached.
    pub(crate) attached: Arc<OnceLock<Arc<dyn Any + Send + Sync>>>,
}

impl Store {
    /// Creates a store on any engine. `clock` and `entropy` are for request ids and jitter only.
    #[must_use]
    pub fn new(
        engine: Arc<dyn Engine>,
        provider: Arc<dyn KeyProvider>,
        clock: Arc<dyn Clock>,
        entropy: Entropy,
    ) -> Self {
        let keyring = Arc::new(Keyring::new(provider));
        Self { shared: Arc::new(Shared { engine, keyring, clock, entropy, attached: Arc::default() }) }
    }

    fn on(engine: Arc<dyn Engine>, provider: Arc<dyn KeyProvider>) -> Self {
        Self::new(engine, provider, Arc::new(SystemClock), Entropy::from_system())
    }

    /// Creates a store in memory, which forgets everything when the last clone is dropped.
    #[must_use]
    pub fn memory(options: MemoryOptions, provider: Arc<dyn KeyProvider>) -> Self {
        Self::on(Arc::new(MemoryEngine::new(options)), provider)
    }

    /// Opens the LMDB environment in the folder `path`, which may be shared with other processes of this machine, or
    /// creates it. Call [`initialise`](Self::initialise) next.
    ///
    /// # Errors
    /// [`Error::Damaged`] if the folder holds something else, [`Error::Unavailable`] if it can't be used.
    pub async fn lmdb(
        path: &Path,
        options: LmdbOptions,
        provider: Arc<dyn KeyProvider>,
    ) -> Result<Self, Error> {
        Ok(Self::on(Arc::new(LmdbEngine::open(path, options).await?), provider))
    }

    /// Connects to a FoundationDB cluster, which may be shared with other processes. Call
    /// [`initialise`](Self::initialise) next.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the library, the cluster file or the cluster can't be used, with what to do.
    pub async fn fdb(options: FdbOptions, provider: Arc<dyn KeyProvider>) -> Result<Self, Error> {
        Ok(Self::on(Arc::new(FdbEngine::open(options).await?), provider))
    }

    /// Creates an initialised store in memory with a master key that nobody keeps. For tests.
    ///
    /// # Panics
    /// Never: nothing in memory has to be waited for.
    #[must_use]
    pub fn for_tests() -> Self {
        let store = Self::memory(MemoryOptions::default(), Arc::new(ThrowAwayKeyProvider::new()));
        let initialised = store.initialise_once().now_or_never().expect("memory does not wait");
        initialised.expect("an empty store can be initialised");
        store
    }

    /// Returns the same rows behind an engine that misbehaves as it is told. For chaos tests.
    #[must_use]
    pub fn with_faults(&self) -> (Self, Arc<FaultEngine>, Faults) {
        let (engine, faults) = FaultEngine::new(Arc::clone(&self.shared.engine));
        let engine = Arc::new(engine);
        let shared = Shared {
            engine: Arc::clone(&engine) as Arc<dyn Engine>,
            keyring: Arc::clone(&self.shared.keyring),
            clock: Arc::clone(&self.shared.clock),
            entropy: self.shared.entropy.clone(),
            attached: Arc::clone(&self.shared.attached),
        };
        (Self { shared: Arc::new(shared) }, engine, faults)
    }

    /// Attaches something that whoever has a transaction of this store finds by its type ([`Transaction::attached`]). Only the first is
    /// kept; tells whether this was it.
    pub fn attach<T: Send + Sync + 'static>(&self, what: Arc<T>) -> bool {
        self.shared.attached.set(what).is_ok()
    }

    /// Resolves when the value of a raw key may have changed since the call (not since the first poll). A hint: it may
    /// resolve without a change and miss a change that was taken back.
    ///
    /// The future fails when the store is closed.
    pub fn watch(&self, key: &[u8]) -> Watch {
        self.shared.engine.watch(key)
    }

    pub(crate) fn begin(&self) -> Transaction {
        Transaction::new(Arc::clone(&self.shared))
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store")
    }
}
