use std::sync::Arc;

use aesp_backup::{ArchiveInfo, SnapshotId, SnapshotInfo};
use aesp_call::Granted;
use aesp_proto::{
    Error, TenantId,
    v1::{
        self, BackupStatus, Drill, GetBackupStatusRequest, ListBackupsRequest, ListBackupsResponse,
        StartBackupRequest, VerifyBackupRequest, VerifyBackupResponse, backup_service_server,
    },
};
use aesp_storage::{ShardRow, shard_of};
use tonic::{Request, Response, Status};

use super::{Context, Entry, enter};
use crate::backup::{self, DrillRow, Live, Seen};

/// Backups of the store.
pub(crate) struct Backup(pub(crate) Context);

const RESOURCE: &str = "backup";

impl Backup {
    async fn grant<T>(&self, entry: &Entry<T>) -> Result<Granted, Error> {
        self.0.access.permit_tenant(&entry.caller, &entry.action, TenantId::PLATFORM).await
    }

    fn live(&self) -> Result<&Arc<Live>, Error> {
        Ok(self.0.backups.live()?)
    }

    async fn info(&self) -> Result<ArchiveInfo, Error> {
        let archive = self.live()?.archive(self.0.cluster.id()).await?;
        Ok(archive.info().await.map_err(backup::Error::from)?)
    }

    /// Tells what is known here, or what the archive shows to a node that does not take the backups.
    async fn status(&self) -> Result<BackupStatus, Error> {
        let live = self.live()?;
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
        let mut seen = live.seen.borrow().clone();
        if !seen.leads {
            let info = self.info().await?;
            seen.snapshot = info.snapshots.into_iter().rfind(|snapshot| snapshot.restorable);
            let end = info.lines.last().map(|line| (line.to_time, line.to.0));
            seen.restorable_to = end.filter(|_| seen.snapshot.is_some());
        }
        let mut status = wire(&seen, drill, live, self.0.clock.now());
        status.taken_by = owner.map_or(0, |owner| owner.0);
        status.answered_by = self.0.cluster.own().0;
        Ok(status)
    }

    async fn verify(&self, named: &str) -> Result<VerifyBackupResponse, Error> {
        let archive = self.live()?.archive(self.0.cluster.id()).await?;
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

fn wire(seen: &Seen, drill: Option<DrillRow>, live: &Live, now: aesp_proto::Timestamp) -> BackupStatus {
    let late =
        |row: &DrillRow| !row.passed || live.section.drill().is_some_and(|every| now.since(row.at) >= every);
    let drill_due = drill.as_ref().map_or(live.section.drill().is_some(), late);
    let snapshot = seen.snapshot.as_ref();
    // Nothing can be restored before a snapshot is complete and the journal reaches its end.
    let end = seen.restorable_to.filter(|(_, to)| snapshot.is_some_and(|snapshot| snapshot.from.0 <= *to));
    BackupStatus {
        target: live.place.target.to_string(),
        taken_by: 0,
        answered_by: 0,
        restorable_to_ms: end.map_or(0, |(to, _)| to.0),
        restorable_version: end.map_or(0, |(_, version)| version),
        last_snapshot: snapshot.map(|snapshot| snapshot.id.to_string()).unwrap_or_default(),
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
        self.0.checked(&granted, RESOURCE, self.live().map(|_| ())).await?;
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
        let info = self.info().await;
        self.0.read(&granted, RESOURCE.into(), |_| Box::pin(async { Ok(()) })).await?;
        let backups = info?.snapshots.iter().filter(|snapshot| snapshot.restorable).map(listed).collect();
        Ok(Response::new(ListBackupsResponse { backups }))
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
