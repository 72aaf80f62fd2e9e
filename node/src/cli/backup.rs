use std::{collections::BTreeSet, time::Duration};

use aesp_proto::v1;
use clap::Subcommand;
use tokio::time::{Instant, sleep};
use tonic::Response;

use super::{context::Context, failure::Failure};

const COLUMNS: &[&str] = &["backup_id", "taken_at_ms", "version", "rows", "bytes"];
/// How often it is looked whether the snapshot is complete.
const LOOK: Duration = Duration::from_millis(500);

/// Backups of the store.
#[derive(Subcommand, Debug)]
pub(crate) enum Backup {
    /// Have a snapshot taken now; the journal is shipped all the time.
    Now {
        /// Wait until it can be restored, for so many seconds at most.
        #[arg(long, value_name = "SECONDS")]
        wait: Option<u64>,
    },
    /// Show until when the store can be restored, and what is wrong.
    Status,
    /// List the snapshots that can be restored; every moment after the first can be, until now.
    List,
    /// Read a snapshot and the journal after it back, and check every object.
    Verify {
        /// As aesp backup list shows it [default: the last one].
        #[arg(default_value = "", hide_default_value = true)]
        backup_id: String,
    },
}

impl Backup {
    pub(crate) async fn run(self, ctx: &Context) -> Result<(), Failure> {
        let mut backup = ctx.client()?.backup();
        match self {
            Self::Now { wait } => {
                let before = match wait {
                    Some(_) => listed(ctx).await?.into_iter().map(|backup| backup.backup_id).collect(),
                    None => BTreeSet::new(),
                };
                let mut answer = backup.start_backup(v1::StartBackupRequest {}).await?;
                if let Some(seconds) = wait {
                    answer = taken(ctx, &before, Duration::from_secs(seconds)).await?;
                }
                ctx.show("BackupStatus", answer)
            }
            Self::Status => {
                ctx.show("BackupStatus", backup.get_backup_status(v1::GetBackupStatusRequest {}).await?)
            }
            Self::List => {
                let answer = backup.list_backups(v1::ListBackupsRequest {}).await?;
                ctx.show_list("ListBackupsResponse", answer, "backups", COLUMNS)
            }
            Self::Verify { backup_id } => {
                let request = v1::VerifyBackupRequest { backup_id };
                ctx.show("VerifyBackupResponse", backup.verify_backup(request).await?)
            }
        }
    }
}

async fn listed(ctx: &Context) -> Result<Vec<v1::Backup>, Failure> {
    Ok(ctx.client()?.backup().list_backups(v1::ListBackupsRequest {}).await?.into_inner().backups)
}

/// Waits for a snapshot that can be restored and was not there before, and returns the status that says so.
async fn taken(
    ctx: &Context,
    before: &BTreeSet<String>,
    patience: Duration,
) -> Result<Response<v1::BackupStatus>, Failure> {
    let until = Instant::now() + patience;
    loop {
        let new = listed(ctx).await?.into_iter().find(|backup| !before.contains(&backup.backup_id));
        if let Some(new) = new {
            let status = ctx.client()?.backup().get_backup_status(v1::GetBackupStatusRequest {}).await?;
            // The archive shows it a moment before the node that takes the backups has noted it.
            if status.get_ref().restorable_version >= new.version {
                return Ok(status);
            }
        }
        if Instant::now() >= until {
            let message = format!("no new snapshot can be restored after {} s", patience.as_secs());
            return Err(Failure::local(message, "see what is wrong: aesp backup status"));
        }
        sleep(LOOK).await;
    }
}
