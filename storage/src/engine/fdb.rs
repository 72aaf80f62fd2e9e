mod arming;
mod cluster_file;
mod commit;
mod connect;
mod failure;
mod library;
mod network;
mod options;
mod snapshot;
mod space;

use std::sync::Arc;

use async_trait::async_trait;
use foundationdb::Database;
use tokio::{runtime::Handle, task::spawn_blocking};

pub use self::options::{FdbOptions, FdbTls};
use self::{arming::Arming, cluster_file::ClusterFile, snapshot::FdbSnapshot, space::Space};
use super::{Commit, Engine, Snapshot, Versionstamp, Watch};
use crate::Error;

/// Keeps everything in a FoundationDB cluster, which any number of processes on any number of machines share.
///
/// The client library is loaded when the first engine of the process is opened. A transaction reads at one read version and
/// is committed at it, with what it read as its read conflicts; FoundationDB refuses it if anything of that has changed.
/// There is no space kept back for removals: a cluster that runs out of disk stops writes by itself, long before.
#[derive(Clone)]
pub struct FdbEngine(Arc<Inner>);

struct Inner {
    database: Arc<Database>,
    space: Arc<Space>,
    arming: Arming,
    runtime: Handle,
}

impl FdbEngine {
    /// Connects to the cluster, within `options.connect_timeout` and a second.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the library is missing or too old, the cluster file can't be read, or the cluster doesn't
    /// answer; it says what to do.
    pub async fn open(options: FdbOptions) -> Result<Self, Error> {
        let space = Arc::new(Space::new(&options.prefix)?);
        let connecting = spawn_blocking(move || {
            let cluster = ClusterFile::read(&options.cluster_file)?;
            let database = connect::database(&options, &cluster)?;
            Ok::<_, Error>((database, options, cluster))
        });
        let (database, options, cluster) = connecting
            .await
            .map_err(|error| Error::unavailable(format!("opening the store failed: {error}")))??;
        let answered = connect::first_answer(&database, &options, &cluster).await;
        // Also without an answer: what was tried until then has left the library things to clean up.
        network::stop_at_exit();
        answered?;
        tracing::info!(
            cluster = cluster.name,
            prefix = options.prefix,
            tls = cluster.speaks_tls(),
            "connected to foundationdb"
        );
        let database = Arc::new(database);
        Ok(Self(Arc::new(Inner { database, space, arming: Arming::new(), runtime: Handle::current() })))
    }

    /// Ends the client's thread, if there is one. A program that used an engine calls it last thing in `main`, when all engines are
    /// dropped: the exit of a process cleans up under a thread that still runs.
    pub fn end() {
        network::stop();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        network::stop_at_exit();
    }
}

#[async_trait]
impl Engine for FdbEngine {
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>, Error> {
        self.0.arming.settled().await;
        Ok(Box::new(FdbSnapshot::open(&self.0.database, Arc::clone(&self.0.space)).await?))
    }

    async fn commit(&self, commit: Commit) -> Result<Versionstamp, Error> {
        self.0.arming.settled().await;
        commit::commit(&self.0.database, &self.0.space, commit).await
    }

    fn watch(&self, key: &[u8]) -> Watch {
        let inner = &self.0;
        inner.arming.watch(&inner.runtime, Arc::clone(&inner.database), &inner.space, key)
    }
}
