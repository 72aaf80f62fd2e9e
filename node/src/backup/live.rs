use std::sync::Arc;

use aesp_backup::{Archive, ClusterId};
use aesp_storage::{KeyProvider, LmdbEngine};
use tokio::sync::OnceCell;

use super::{Error, FdbLive, Metrics, Place, Watched, map_size};
use crate::{Config, config};

/// How this node stands to backups. Cheap to clone.
#[derive(Clone)]
pub(crate) enum Backups {
    /// Nobody wants any.
    Unconfigured,
    /// It takes them when it is its turn.
    Live(Arc<Live>),
    /// It has FoundationDB take them when it is its turn.
    Fdb(Arc<FdbLive>),
}

/// The backups of an lmdb store.
pub(crate) struct Live {
    pub(crate) place: Place,
    pub(crate) engine: LmdbEngine,
    pub(crate) options: aesp_storage::LmdbOptions,
    archive: OnceCell<Archive>,
    pub(crate) watched: Arc<Watched>,
}

impl Backups {
    /// Prepares what the configuration says.
    ///
    /// # Errors
    /// When the target or its credentials can't be used, the store can't be opened, or a program is not there.
    pub(crate) async fn prepare(
        config: &Config,
        provider: Arc<dyn KeyProvider>,
        registry: &prometheus::Registry,
    ) -> anyhow::Result<Self> {
        let Some(section) = config.backup.clone() else { return Ok(Self::Unconfigured) };
        match config.store.engine() {
            Some(config::Engine::Fdb(_)) => {
                let live = FdbLive::new(config, section, provider, Metrics::register(registry)?);
                Ok(Self::Fdb(Arc::new(live.map_err(aesp_proto::Error::from)?)))
            }
            Some(config::Engine::Lmdb(path)) => {
                let options = map_size(config);
                let live = Live {
                    place: Place::of(config, provider).map_err(aesp_proto::Error::from)?,
                    // The same as the store's: two engines of one process on one environment are one.
                    engine: LmdbEngine::open(&path, options.clone()).await?,
                    options,
                    archive: OnceCell::new(),
                    watched: Arc::new(Watched::new(section, Metrics::register(registry)?)),
                };
                Ok(Self::Live(Arc::new(live)))
            }
            _ => Ok(Self::Unconfigured),
        }
    }

    /// Returns what is wanted and seen of the backups, if there are any.
    ///
    /// # Errors
    /// [`Error::Unconfigured`].
    pub(crate) fn watched(&self) -> Result<&Arc<Watched>, Error> {
        match self {
            Self::Unconfigured => Err(Error::Unconfigured),
            Self::Live(live) => Ok(&live.watched),
            Self::Fdb(live) => Ok(&live.watched),
        }
    }

    /// Returns where the backups are, without credentials.
    pub(crate) fn target(&self) -> String {
        match self {
            Self::Unconfigured => String::new(),
            Self::Live(live) => live.place.target.to_string(),
            Self::Fdb(live) => live.place.target.clone(),
        }
    }

    /// Tells whether backups do what they should, as far as this node takes them.
    pub(crate) fn state(&self) -> Option<Result<(), String>> {
        Some(self.watched().ok()?.state())
    }
}

impl Live {
    /// Returns the archive, which is begun if there is none.
    pub(crate) async fn archive(&self, cluster: &str) -> Result<&Archive, Error> {
        let cluster = ClusterId(cluster.to_owned());
        let open = || Archive::open(&self.place.target, &cluster, self.place.key.clone());
        Ok(self.archive.get_or_try_init(open).await?)
    }
}
