use aesp_backup::{SnapshotId, SnapshotInfo};
use aesp_call::Granted;
use aesp_proto::{
    Error, TenantId, Timestamp,
    v1::{
        self, BackupStatus, Drill, GetBackupStatusRequest, ListBackupsRequest, ListBackupsResponse,
        StartBackupRequest, VerifyBackupRequest, VerifyBackupResponse, backup_service_server,
    },
};
use aesp_storage::{ShardRow, shard_of};
use tonic::{Request, Response, Status};

use super::{Context, Entry, enter};
use crate::backup::{self, Backups, DrillRow, Seen, Taken, Watched};

/// Backups of the store.
pub(crate) struct Backup(pub(crate) Context);

const RESOURCE: &str = "backup";

impl Backup {
    async fn grant<T>(&self, entry: &Entry<T>) -> Result<Granted, Error> {
        self.0.access.permit_tenant(&entry.caller, &entry.action, TenantId::PLATFORM).await
    }

    /// Returns what the archive shows to a node that does not take the backups: until when the store can be restored, and the last
    /// snapshot.
    async fn look(&self) -> Result<(Option<(Timestamp, u64)>, Option<Taken>), Error> {
        match &self.0.backups {
            Backups::Unconfigured => Err(backup::Error::Unconfigured.into()),
            Backups::Fdb(live) => Ok(live.look(self.0.clock.now()).await?),
            Backups::Live(live) => {
                let archive = live.archive(self.0.cluster.id()).await?;
                let info = archive.info().await.map_err(backup::Error::from)?;
                let snapshot = info.snapshots.into_iter().rfind(|snapshot| snapshot.restorable);
                let end = info.lines.last().map(|line| (line.to_time, line.to.0));
                Ok((end.filter(|_| snapshot.is_some()), snapshot.map(Taken::from)))
            }
        }
    }

    /// Tells what is known here, or what the archive shows.
    async fn status(&self) -> Result<BackupStatus, Error> {
        let watched = self.0.backups.watched()?;
        let platform = shard_of(TenantId::PLATFORM.as_bytes());
        let (owner, drill) = self
            .0
            .store
            .run(move |tx| {
                Box::pin(async move {
                    let ShardRow { owner, .. } = tx.shard_row(platform).await?;
                    Ok::<_, Error>((owner, backup::last_drill(tx).await?))
                })
            })
            .await?;
        let mut seen = watched.seen.borrow().clone();
        if !seen.leads {
            (seen.restorable_to, seen.snapshot) = self.look().await?;
        }
        let mut status = wire(&seen, drill, watched, self.0.clock.now());
        status.target = self.0.backups.target();
        status.taken_by = owner.map_or(0, |owner| owner.0);
        status.answered_by = self.0.cluster.own().0;
        Ok(status)
    }

    async fn list(&self) -> Result<Vec<v1::Backup>, Error> {
        match &self.0.backups {
            Backups::Unconfigured => Err(backup::Error::Unconfigured.into()),
            Backups::Fdb(live) => {
                let listed = |taken: Taken| v1::Backup {
                    backup_id: taken.id,
                    taken_at_ms: taken.began.0,
                    version: taken.from,
                    rows: 0,
                    bytes: taken.bytes,
                };
                Ok(live.list(self.0.clock.now()).await?.into_iter().map(listed).collect())
            }
            Backups::Live(live) => {
                let archive = live.archive(self.0.cluster.id()).await?;
                let info = archive.info().await.map_err(backup::Error::from)?;
                Ok(info.snapshots.iter().filter(|snapshot| snapshot.restorable).map(listed).collect())
            }
        }
    }

    async fn verify(&self, named: &str) -> Result<VerifyBackupResponse, Error> {
        let live = match &self.0.backups {
            Backups::Unconfigured => return Err(backup::Error::Unconfigured.into()),
            Backups::Live(live) => live,
            Backups::Fdb(live) => {
                let verified = live.verify(named, self.0.clock.now()).await?;
                return Ok(VerifyBackupResponse {
                    backup_id: verified.id,
                    bytes: verified.bytes,
                    restorable_version: verified.to,
                    restorable_to_ms: verified.to_time.0,
                    ..VerifyBackupResponse::default()
                });
            }
        };
        let archive = live.archive(self.0.cluster.id()).await?;
        let id = if named.is_empty() {
            let complete = archive.list().await.map_err(backup::Error::from)?;
            let last = complete.into_iter().rfind(|snapshot| snapshot.restorable);
            last.ok_or(backup::Error::Archive(aesp_backup::Error::NoSnapshot))?.id
        } else {
            named.parse::<SnapshotId>().map_err(|error| Error::invalid(format!("backup_id: {error}")))?
        };
        let mut objects = 0;
        let mut count = |progress: aesp_backup::Progress| objects = progress.done_objects;
        let report = archive.verify(id, &mut count).await.map_err(backup::Error::from)?;
        Ok(VerifyBackupResponse {
            backup_id: report.snapshot.to_string(),
            objects,
            bytes: report.bytes,
            rows: report.rows,
            segments: report.segments,
            restorable_version: report.to.0,
            restorable_to_ms: report.to_time.0,
        })
    }
}

fn wire(seen: &Seen, drill: Option<DrillRow>, watched: &Watched, now: Timestamp) -> BackupStatus {
    let late = |row: &DrillRow| {
        !row.passed || watched.section.drill().is_some_and(|every| now.since(row.at) >= every)
    };
    let drill_due = drill.as_ref().map_or(watched.section.drill().is_some(), late);
    let snapshot = seen.snapshot.as_ref();
    // Nothing can be restored before a snapshot is complete and the journal reaches its end.
    let end = seen.restorable_to.filter(|(_, to)| snapshot.is_some_and(|snapshot| snapshot.from <= *to));
    BackupStatus {
        target: String::new(),
        taken_by: 0,
        answered_by: 0,
        restorable_to_ms: end.map_or(0, |(to, _)| to.0),
        restorable_version: end.map_or(0, |(_, version)| version),
        last_snapshot: snapshot.map(|snapshot| snapshot.id.clone()).unwrap_or_default(),
        last_snapshot_ms: snapshot.map_or(0, |snapshot| snapshot.began.0),
        snapshot_running: seen.snapshot_running,
        journal_bytes: seen.journal_bytes,
        trouble: seen.trouble.values().cloned().collect::<Vec<_>>().join("; "),
        last_drill: drill.map(|row| Drill {
            at_ms: row.at.0,
            passed: row.passed,
            reason: row.reason,
            rpo_ms: row.rpo_ms,
            rto_ms: row.rto_ms,
            version: row.version,
        }),
        drill_due,
    }
}

fn listed(snapshot: &SnapshotInfo) -> v1::Backup {
    v1::Backup {
        backup_id: snapshot.id.to_string(),
        taken_at_ms: snapshot.began.0,
        version: snapshot.from.0,
        rows: snapshot.rows,
        bytes: snapshot.bytes,
    }
}

#[tonic::async_trait]
impl backup_service_server::BackupService for Backup {
    async fn get_backup_status(
        &self,
        request: Request<GetBackupStatusRequest>,
    ) -> Result<Response<BackupStatus>, Status> {
        let granted = self.grant(&enter(request)?).await?;
        let status = self.status().await;
        self.0.read(&granted, RESOURCE.into(), |_| Box::pin(async { Ok(()) })).await?;
        Ok(Response::new(status?))
    }

    async fn start_backup(
        &self,
        request: Request<StartBackupRequest>,
    ) -> Result<Response<BackupStatus>, Status> {
        let granted = self.grant(&enter(request)?).await?;
        self.0.checked(&granted, RESOURCE, self.0.backups.watched().map(drop).map_err(Error::from)).await?;
        let now = self.0.clock.now();
        let ordered = self.0.commit(&granted, RESOURCE.into(), move |tx| {
            Box::pin(async move { Ok(backup::order_snapshot(tx, now).await?) })
        });
        ordered.await?;
        Ok(Response::new(self.status().await?))
    }

    async fn list_backups(
        &self,
        request: Request<ListBackupsRequest>,
    ) -> Result<Response<ListBackupsResponse>, Status> {
        let granted = self.grant(&enter(request)?).await?;
        let backups = self.list().await;
        self.0.read(&granted, RESOURCE.into(), |_| Box::pin(async { Ok(()) })).await?;
        Ok(Response::new(ListBackupsResponse { backups: backups? }))
    }

    async fn verify_backup(
        &self,
        request: Request<VerifyBackupRequest>,
    ) -> Result<Response<VerifyBackupResponse>, Status> {
        let entry = enter(request)?;
        let granted = self.grant(&entry).await?;
        let resource = format!("backup:{}", entry.message.backup_id);
        let report = self.0.checked(&granted, &resource, self.verify(&entry.message.backup_id).await).await?;
        self.0.recorder.append(granted.changed(resource)).await.map_err(Error::from)?;
        self.0.access.still(&granted).await?;
        Ok(Response::new(report))
    }
}
