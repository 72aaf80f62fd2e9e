//! FoundationDB's own backup, driven by a node, and what `aesp restore` and `aesp drill` make of it.

use std::{path::Path, time::Duration};

use aesp_proto::{Clock, SystemClock, Timestamp};
use aesp_sdk::{Credentials, Error, v1};
use aesp_tests::{FdbCluster, Host, HostOptions, World, command::json_of, scrape, soon, until};
use anyhow::ensure;
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::{process::Command, time::Instant};

/// No drill but those that a test makes itself.
const NO_DRILLS: &str = "backup.drill_hours=0";
/// Snapshot, log and a look at both take their time.
const BACKED_UP_WITHIN: Duration = Duration::from_secs(180);

fn settings(cluster: &FdbCluster, drills: &FdbCluster, archive: &Path) -> Vec<String> {
    let programs = cluster.programs();
    let mut set = vec![
        format!("store.path=fdb:{}", cluster.file().display()),
        format!("backup.target=file://{}", archive.display()),
        format!("backup.fdb.programs={}", programs.display()),
        format!("backup.fdb.agent={}", programs.join("backup_agent").display()),
        format!("backup.fdb.drill_cluster={}", drills.file().display()),
    ];
    if let Some(library) = FdbCluster::library() {
        set.push(format!("store.fdb.library={}", library.display()));
    }
    set
}

/// The command `aesp` at this node, as the administrator.
fn aesp(host: &Host, arguments: &[&str]) -> Command {
    let mut command = host.command();
    command.env("AESP_API_KEY", host.administrator_key()).args(arguments);
    command
}

async fn status(host: &Host) -> anyhow::Result<v1::BackupStatus> {
    let asked = host.administrator()?.backup().get_backup_status(v1::GetBackupStatusRequest {}).await;
    Ok(asked.map_err(|status| Error::from_status(&status))?.into_inner())
}

/// Waits until everything until a moment can be restored.
async fn backed_up(host: &Host, at: Timestamp) -> v1::BackupStatus {
    let until = Instant::now() + BACKED_UP_WITHIN;
    loop {
        match status(host).await {
            Ok(status) if status.restorable_to_ms > at.0 => return status,
            last if Instant::now() > until => panic!("not backed up within {BACKED_UP_WITHIN:?}: {last:?}"),
            _ => tokio::time::sleep(Duration::from_millis(500)).await,
        }
    }
}

async fn calls(world: &World, prefix: &str) -> Vec<String> {
    let session = world.session().await.unwrap();
    let mut events = Vec::new();
    for n in 0..10 {
        let call = session.call("echo", json!({ "text": prefix }));
        let call = call.with_invocation_id(format!("{prefix}-{n}"));
        events.push(soon("the call is answered", call.send()).await.unwrap().unwrap().event_id);
    }
    events
}

fn rfc3339(at: Timestamp) -> String {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(at.0) * 1_000_000).unwrap();
    at.format(&Rfc3339).unwrap()
}

#[cfg_attr(not(fdb_server), ignore = "AESP_TEST_FDB_BIN names no folder with the server's programs")]
#[tokio::test]
async fn a_store_comes_back_from_foundationdbs_own_backup() {
    let (cluster, drills) = (FdbCluster::single().await.unwrap(), FdbCluster::single().await.unwrap());
    let archive = tempfile::tempdir().unwrap();
    let init = settings(&cluster, &drills, archive.path());
    let mut world = World::with(HostOptions { init, set: vec![NO_DRILLS.into()] }).await.unwrap();
    let _worker = world.echo().await.unwrap();

    // Nothing from before the end of the first snapshot can be restored.
    backed_up(&world.host, SystemClock.now()).await;
    let kept = calls(&world, "early").await;
    let point = SystemClock.now();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let lost = calls(&world, "late").await;
    let told = backed_up(&world.host, SystemClock.now()).await;
    assert!(told.trouble.is_empty() && told.restorable_version > 0, "{told:?}");
    assert!(told.target.starts_with("file://") && told.last_snapshot.starts_with("backup-"), "{told:?}");
    let leads = scrape(&world.host, "aesp_backup_leader").await.unwrap();
    let age = scrape(&world.host, "aesp_backup_restorable_to_age_seconds").await.unwrap();
    println!("restorable to {age} s ago");
    assert!(leads > 0.5 && (0.0..120.0).contains(&age), "{leads} {age}");

    let listed = json_of(aesp(&world.host, &["backup", "list"])).await.unwrap();
    assert_eq!(listed["backups"][0]["backup_id"], told.last_snapshot, "{listed}");
    let verified = json_of(aesp(&world.host, &["backup", "verify"])).await.unwrap();
    assert!(verified["restorable_version"].as_u64().unwrap() >= told.restorable_version, "{verified}");

    let drilled = json_of(aesp(&world.host, &["drill"])).await.unwrap();
    assert!(drilled["passed"] == true && drilled["rows"].as_u64().unwrap() > 100, "{drilled}");
    println!("drill: {drilled}");
    assert_eq!(world.host.process().kill().await.unwrap().code(), None);

    // A prefix that is in use stays as it is.
    let refused = aesp(&world.host, &["restore", "--at", "latest"]).output().await.unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && said.contains("STATE_CONFLICT") && said.contains("in use"),
        "{said}"
    );

    let at = rfc3339(Timestamp(point.0 + 1_000));
    let restored = json_of(aesp(&world.host, &["restore", "--at", &at, "--prefix", "second"])).await.unwrap();
    println!("restore: {restored}");
    let to = restored["restored_to_ms"].as_i64().unwrap();
    assert!((point.0..=point.0 + 1_100).contains(&to), "{restored}");
    world.host.set("store.fdb.prefix=second");
    world.host.restart().await.unwrap();
    let records = events(&world).await;
    assert!(kept.iter().all(|event| records.contains(event)), "what was committed before the point is there");
    assert!(!lost.iter().any(|event| records.contains(event)), "and nothing of what came after it");
    calls(&world, "again").await;
}

/// Returns the ids of the tenant's events.
async fn events(world: &World) -> Vec<String> {
    let query = aesp(&world.host, &["audit", "query", "--limit", "1000", "--tenant", world.acme.id()]);
    let found: Value = json_of(query).await.unwrap();
    let events = found["events"].as_array().cloned().unwrap_or_default();
    events.iter().filter_map(|event| Some(event["event_id"].as_str()?.to_owned())).collect()
}

#[cfg_attr(not(fdb_server), ignore = "AESP_TEST_FDB_BIN names no folder with the server's programs")]
#[tokio::test]
async fn a_cluster_that_goes_away_is_restored_from_its_backup_alone() {
    let (cluster, fresh) = (FdbCluster::single().await.unwrap(), FdbCluster::single().await.unwrap());
    let archive = tempfile::tempdir().unwrap();
    let init = settings(&cluster, &fresh, archive.path());
    let mut world = World::with(HostOptions { init, set: vec![NO_DRILLS.into()] }).await.unwrap();
    backed_up(&world.host, SystemClock.now()).await;
    let point = SystemClock.now();
    backed_up(&world.host, Timestamp(point.0 + 5_000)).await;
    world.host.process().kill().await.unwrap();
    drop(cluster);
    let into = fresh.file().display().to_string();
    let at = rfc3339(Timestamp(point.0 + 3_000));
    let restored = json_of(aesp(&world.host, &["restore", "--at", &at, "--into", &into])).await.unwrap();
    assert!(restored["rows"].as_u64().unwrap() > 50, "{restored}");
    world.host.set(format!("store.path=fdb:{into}"));
    world.host.restart().await.unwrap();
    until("the administrator's key still opens", async || {
        let client = world.host.client(Credentials::ApiKey(world.host.administrator_key().into()))?;
        let listed = client.cluster().get_cluster_status(v1::GetClusterStatusRequest {}).await;
        ensure!(listed.is_ok(), "{listed:?}");
        Ok(())
    })
    .await
    .unwrap();
}
