use std::sync::Arc;

use aesp_backup::{Archive, ClusterId, SnapshotInfo};
use aesp_proto::Timestamp;
use aesp_storage::{KeyProvider, LmdbEngine};
use tokio::sync::{OnceCell, watch};

use super::{DrillRow, Error, Metrics, Place, map_size};
use crate::{Config, config};

/// How this node stands to backups. Cheap to clone.
#[derive(Clone)]
pub(crate) enum Backups {
    /// The store has a backup of its own.
    Fdb,
    /// Nobody wants any.
    Unconfigured,
    /// It takes them when it is its turn.
    Live(Arc<Live>),
}

/// The backups of an lmdb store.
pub(crate) struct Live {
    pub(crate) place: Place,
    pub(crate) section: config::Backup,
    pub(crate) engine: LmdbEngine,
    pub(crate) options: aesp_storage::LmdbOptions,
    archive: OnceCell<Archive>,
    pub(crate) seen: watch::Sender<Seen>,
    pub(crate) metrics: Metrics,
}

/// What this node knows of the backups that it takes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// Whether it takes them.
    pub(crate) leads: bool,
    /// Until when and up to which version everything is in the archive.
    pub(crate) restorable_to: Option<(Timestamp, u64)>,
    pub(crate) journal_bytes: u64,
    pub(crate) snapshot: Option<SnapshotInfo>,
    pub(crate) snapshot_running: bool,
    pub(crate) drill: Option<DrillRow>,
    pub(crate) drill_trouble: Option<String>,
    /// Why they fail, by what fails.
    pub(crate) trouble: std::collections::BTreeMap<&'static str, String>,
}

impl Backups {
    /// Prepares what the configuration says.
    ///
    /// # Errors
    /// When the target or its credentials can't be used, or the store can't be opened.
    pub(crate) async fn prepare(
        config: &Config,
        provider: Arc<dyn KeyProvider>,
        registry: &prometheus::Registry,
    ) -> anyhow::Result<Self> {
        let path = match config.store.engine() {
            Some(config::Engine::Fdb(_)) => return Ok(Self::Fdb),
            Some(config::Engine::Lmdb(path)) => path,
            _ => return Ok(Self::Unconfigured),
        };
        let Some(section) = config.backup.clone() else { return Ok(Self::Unconfigured) };
        let options = map_size(config);
        let live = Live {
            place: Place::of(config, provider).map_err(aesp_proto::Error::from)?,
            section,
            // The same as the store's: two engines of one process on one environment are one.
            engine: LmdbEngine::open(&path, options.clone()).await?,
            options,
            archive: OnceCell::new(),
            seen: watch::Sender::default(),
            metrics: Metrics::register(registry)?,
        };
        Ok(Self::Live(Arc::new(live)))
    }

    /// Returns the backups, if there are any.
    ///
    /// # Errors
    /// [`Error::Fdb`] or [`Error::Unconfigured`].
    pub(crate) fn live(&self) -> Result<&Arc<Live>, Error> {
        match self {
            Self::Fdb => Err(Error::Fdb),
            Self::Unconfigured => Err(Error::Unconfigured),
            Self::Live(live) => Ok(live),
        }
    }

    /// Tells whether backups do what they should, as far as this node takes them.
    pub(crate) fn state(&self) -> Option<Result<(), String>> {
        let Self::Live(live) = self else { return None };
        let seen = live.seen.borrow();
        let trouble = seen.trouble.values().chain(&seen.drill_trouble).next().cloned();
        Some(trouble.map_or(Ok(()), Err))
    }
}

impl Live {
    /// Returns the archive, which is begun if there is none.
    pub(crate) async fn archive(&self, cluster: &str) -> Result<&Archive, Error> {
        let cluster = ClusterId(cluster.to_owned());
        let open = || Archive::open(&self.place.target, &cluster, self.place.key.clone());
        Ok(self.archive.get_or_try_init(open).await?)
    }

    pub(super) fn note(&self, change: impl FnOnce(&mut Seen)) {
        self.seen.send_modify(change);
    }
}
