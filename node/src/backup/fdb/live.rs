use std::sync::Arc;

use aesp_backup::Version;
use aesp_proto::Timestamp;
use aesp_storage::{Engine, FdbEngine, KeyProvider};
use tokio::sync::OnceCell;

use super::{
    super::{Error, Metrics, Taken, Watched},
    place::{Container, FdbPlace},
    report::{self, At, Described, Snapshot, Status},
};
use crate::{Config, config};

/// The backups that FoundationDB takes of this store.
pub(crate) struct FdbLive {
    pub(crate) place: FdbPlace,
    pub(crate) provider: Arc<dyn KeyProvider>,
    pub(crate) config: Config,
    /// Reads the cluster's versions.
    engine: OnceCell<FdbEngine>,
    pub(crate) watched: Arc<Watched>,
}

/// What was found of a backup that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verified {
    pub(crate) id: String,
    pub(crate) bytes: u64,
    pub(crate) to: u64,
    pub(crate) to_time: Timestamp,
}

impl FdbLive {
    pub(crate) fn new(
        config: &Config,
        section: config::Backup,
        provider: Arc<dyn KeyProvider>,
        metrics: Metrics,
    ) -> Result<Self, Error> {
        Ok(Self {
            place: FdbPlace::of(config)?,
            provider,
            config: config.clone(),
            engine: OnceCell::new(),
            watched: Arc::new(Watched::new(section, metrics)),
        })
    }

    /// Returns the version that the cluster is at.
    pub(super) async fn version(&self) -> Result<u64, Error> {
        let options = self.config.store.fdb.options(&self.place.cluster_file);
        let engine = self.engine.get_or_try_init(|| FdbEngine::open(options)).await?;
        Ok(engine.snapshot().await?.version())
    }

    /// Asks the cluster how its backup does.
    pub(super) async fn status(&self) -> Result<Status, Error> {
        let cluster = self.place.cluster_file.as_os_str();
        let tag = self.place.tag();
        let arguments =
            ["status".as_ref(), "-C".as_ref(), cluster, "-t".as_ref(), tag.as_ref(), "--json".as_ref()];
        report::read("fdbbackup", &self.place.tools.backup::<&std::ffi::OsStr>(arguments).await?)
    }

    /// Returns the running backup.
    pub(super) fn running(&self, status: &Status) -> Result<Container, Error> {
        let url =
            status.destination_url.as_deref().filter(|_| status.status.running).ok_or(Error::NotRunning)?;
        self.place.container(url).ok_or_else(|| Error::Elsewhere {
            found: url.to_owned(),
            wanted: self.place.target.clone(),
            tag: self.place.tag(),
        })
    }

    /// Tells until when the store can be restored, for a node that does not look after the backups.
    ///
    /// # Errors
    /// Those of `fdbbackup`; [`Error::NotRunning`] and [`Error::Elsewhere`].
    pub(crate) async fn look(
        &self,
        now: Timestamp,
    ) -> Result<(Option<(Timestamp, u64)>, Option<Taken>), Error> {
        let status = self.status().await?;
        let container = self.running(&status)?;
        let described = self.place.describe(&container).await?;
        let end = status.latest_restorable_point;
        Ok((end.map(|end| (moment(end, now), end.version)), taken(&container, &described, end, now)))
    }

    /// Returns every snapshot that can be restored, the oldest first.
    ///
    /// # Errors
    /// Those of `fdbbackup`.
    pub(crate) async fn list(&self, now: Timestamp) -> Result<Vec<Taken>, Error> {
        let end = self.status().await?.latest_restorable_point;
        let mut out = Vec::new();
        for container in self.place.containers().await? {
            let described = self.place.describe(&container).await?;
            let restorable = described.snapshots.iter().filter(|snapshot| snapshot.restorable);
            out.extend(restorable.map(|snapshot| listed(&container, snapshot, end, now)));
        }
        Ok(out)
    }

    /// Makes sure that all files are there that a restore of a backup needs; of the last one if none is named. Their content is
    /// what a drill checks.
    ///
    /// # Errors
    /// [`Error::NoBackup`], or those of FoundationDB's programs.
    pub(crate) async fn verify(&self, named: &str, now: Timestamp) -> Result<Verified, Error> {
        let (place, none) = (&self.place, || Error::NoBackup(self.place.target.clone()));
        let name = named.split('/').next().unwrap_or_default();
        let mut found = place.containers().await?.into_iter();
        let container =
            found.rfind(|container| name.is_empty() || container.name == name).ok_or_else(none)?;
        let described = place.describe(&container).await?;
        let (_, to) = described.range().ok_or_else(none)?;
        let version = to.to_string();
        let cluster = place.cluster_file.as_os_str();
        let keys = self.place.keys();
        let check: [&std::ffi::OsStr; 10] = [
            "start".as_ref(),
            "-n".as_ref(),
            "--dest-cluster-file".as_ref(),
            cluster,
            "-r".as_ref(),
            container.url.as_ref(),
            "-v".as_ref(),
            version.as_ref(),
            "-k".as_ref(),
            keys.as_ref(),
        ];
        place.tools.restore(check, super::tools::LOOKED_WITHIN).await?;
        let end = self.status().await?.latest_restorable_point;
        let bytes = described.snapshots.iter().map(|snapshot| snapshot.total_bytes).sum();
        let to_time = when(Version(to), end, now);
        Ok(Verified { id: container.name, bytes, to, to_time })
    }
}

/// Returns until when everything is in a backup that ends there.
pub(super) fn moment(end: At, now: Timestamp) -> Timestamp {
    let behind = end.lag_seconds.unwrap_or_default().max(0).saturating_mul(1_000);
    Timestamp(now.0.saturating_sub(behind))
}

/// Returns when a version was, about: versions count with the clock from the end of the backup.
fn when(version: Version, end: Option<At>, now: Timestamp) -> Timestamp {
    let Some(end) = end else { return Timestamp(0) };
    let behind = i64::try_from(end.version.saturating_sub(version.0) / 1_000).unwrap_or(i64::MAX);
    Timestamp(moment(end, now).0.saturating_sub(behind))
}

fn listed(container: &Container, snapshot: &Snapshot, end: Option<At>, now: Timestamp) -> Taken {
    Taken {
        id: format!("{}/{}", container.name, snapshot.start.version),
        began: when(Version(snapshot.start.version), end, now),
        from: snapshot.end.version,
        bytes: snapshot.total_bytes,
    }
}

/// Returns the last snapshot of a backup that can be restored.
pub(super) fn taken(
    container: &Container,
    described: &Described,
    end: Option<At>,
    now: Timestamp,
) -> Option<Taken> {
    let last = described.snapshots.iter().rfind(|snapshot| snapshot.restorable)?;
    Some(listed(container, last, end, now))
}
