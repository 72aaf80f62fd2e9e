//! Backups of real nodes, and what is left after all of them were killed.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use aesp_proto::{Clock, SystemClock, Timestamp};
use aesp_sdk::{Credentials, Error, ErrorCode, Session, v1};
use aesp_tests::{Host, Trio, World, balanced, command::json_of, nodes, scrape, soon, until};
use anyhow::ensure;
use serde_json::{Value, json};
use tempfile::TempDir;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::process::Command;

use crate::support::refused;

const SEGMENT: &str = "backup.segment_seconds=1";

fn settings(archive: &Path) -> Vec<String> {
    vec![format!("backup.target=file://{}", archive.display()), SEGMENT.into(), "backup.drill_hours=0".into()]
}

/// The command `aesp` at this node, as the administrator, knowing where its archive is.
fn aesp(host: &Host, target: &str, arguments: &[&str]) -> Command {
    let mut command = host.command();
    command.env("AESP_API_KEY", host.administrator_key()).env("AESP_BACKUP__TARGET", target).args(arguments);
    command
}

async fn status(host: &Host) -> anyhow::Result<v1::BackupStatus> {
    let asked = host.administrator()?.backup().get_backup_status(v1::GetBackupStatusRequest {}).await;
    Ok(asked.map_err(|status| Error::from_status(&status))?.into_inner())
}

async fn shipped(host: &Host, at: Timestamp) {
    until("everything until then is in the archive", async || {
        let status = status(host).await?;
        ensure!(status.restorable_to_ms > at.0, "{status:?}");
        Ok(())
    })
    .await
    .unwrap();
}

async fn calls(session: &Session, prefix: &str, count: usize) -> Vec<String> {
    let mut events = Vec::new();
    for n in 0..count {
        let call = session.call("echo", json!({ "text": prefix }));
        let call = call.with_invocation_id(format!("{prefix}-{n}"));
        let answered = soon("the call is answered", call.send()).await.unwrap().unwrap();
        events.push(answered.event_id);
    }
    events
}

/// Waits until the clock shows another moment, and returns the one before.
async fn moment() -> Timestamp {
    let now = SystemClock.now();
    until("time goes on", async || {
        ensure!(SystemClock.now().since(now) > Duration::from_millis(20));
        Ok(())
    })
    .await
    .unwrap();
    now
}

fn rfc3339(at: Timestamp) -> String {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(at.0) * 1_000_000).unwrap();
    at.format(&Rfc3339).unwrap()
}

async fn token(host: &Host, api_key: &str) -> v1::TokenResponse {
    let request = v1::AuthenticateServiceAccountRequest { api_key: api_key.into() };
    let client = host.administrator().unwrap();
    client.authentication().authenticate_service_account(request).await.unwrap().into_inner()
}

struct Disaster {
    trio: Trio,
    target: String,
    credentials: Option<PathBuf>,
    session: String,
    kept: Vec<String>,
    lost: Vec<String>,
    early: v1::TokenResponse,
    late: v1::TokenResponse,
    point: Timestamp,
    _workers: Vec<aesp_tests::Worker>,
}

/// Three nodes that answer calls, a point, more calls; then all of them are killed.
async fn disaster(target: String, settings: Vec<String>) -> Disaster {
    let trio = Trio::with(settings).await.unwrap();
    let workers = trio.workers(|runtime| runtime.tool("echo", async |_, args| Ok(args))).await.unwrap();
    let owner = trio.acme.account("owner", &["tenant-admin"]).await.unwrap().client(&trio.nodes[0]).unwrap();
    let session = trio.session(1).await.unwrap();
    let mut kept = calls(&session, "early", 10).await;
    let now = aesp(&trio.nodes[2], &target, &["backup", "now", "--wait", "25"]);
    let now = json_of(now).await.unwrap();
    assert!(now["restorable_version"].as_u64().unwrap() > 0 && now["trouble"] == "", "{now}");
    kept.extend(calls(&session, "before", 30).await);
    let early = token(&trio.nodes[0], &trio.agent.api_key).await;
    let point = moment().await;
    let lost = calls(&session, "after", 30).await;
    let late = token(&trio.nodes[0], &trio.agent.api_key).await;
    let revoke = v1::RevokeTokenRequest { token: early.access_token.clone(), ..Default::default() };
    owner.authentication().revoke_token(revoke).await.unwrap();
    shipped(&trio.nodes[0], moment().await).await;
    let mut trio = trio;
    for node in &mut trio.nodes {
        node.process().kill().await.unwrap();
    }
    let session = session.id().to_owned();
    Disaster { trio, target, credentials: None, session, kept, lost, early, late, point, _workers: workers }
}

impl Disaster {
    async fn restore(&self, into: &Path) -> Value {
        let at = rfc3339(self.point);
        let mut command = aesp(&self.trio.nodes[0], &self.target, &["restore", "--at", &at, "--into"]);
        command.arg(into);
        if let Some(credentials) = &self.credentials {
            command.env("AESP_BACKUP__CREDENTIALS_FILE", credentials);
        }
        json_of(command).await.unwrap()
    }

    /// Starts all nodes on the restored store, and finds what was there at the point and nothing else.
    async fn goes_on_from(&mut self, into: &Path) {
        for node in &mut self.trio.nodes {
            node.set(format!("store.path=lmdb:{}", into.display()));
            node.restart().await.unwrap();
        }
        balanced(&self.trio.administrator, 3).await.unwrap();
        let node = &self.trio.nodes[1];
        let session = self.trio.agent.client(node).unwrap().resume(&self.session).await.unwrap();
        for n in 0..30 {
            let known = session.invocation(&format!("before-{n}")).await.unwrap();
            assert_eq!(known.status(), v1::InvocationStatus::InvocationSucceeded, "before-{n}");
            refused(session.invocation(&format!("after-{n}")).await, &[ErrorCode::NotFound]);
        }
        let acme = self.trio.acme.through(node.administrator().unwrap());
        let log = acme.export().await.unwrap();
        let export = into.with_extension("jsonl");
        fs::write(&export, &log).unwrap();
        let log = String::from_utf8(log).unwrap();
        assert!(self.kept.iter().all(|event| log.contains(event)), "an answered call is not in the log");
        assert!(!self.lost.iter().any(|event| log.contains(event)), "a call after the point is in the log");
        assert_eq!(log.matches("\"action\":\"store.restored\"").count(), 1);
        let mut verify = node.command();
        verify.args(["audit", "verify"]).arg(&export);
        assert_eq!(json_of(verify).await.unwrap()["verified"], true);

        for (when, tokens) in [("before", &self.early), ("after", &self.late)] {
            let client = node.client(Credentials::Token(tokens.access_token.as_str().into())).unwrap();
            let asked = client.resume(&self.session).await;
            let error = refused(
                asked.map(|_| when),
                &[ErrorCode::AuthenticationFailed, ErrorCode::InvalidCredentials],
            );
            assert!(!error.message().is_empty(), "{when}");
            let request = v1::RefreshTokenRequest { refresh_token: tokens.refresh_token.clone() };
            let client = node.administrator().unwrap();
            assert!(
                client.authentication().refresh_token(request).await.is_err(),
                "refreshed by one of {when}"
            );
        }
        until("new calls are answered", async || {
            let call = session.call("echo", json!({ "text": "new" })).with_invocation_id("after-0");
            ensure!(call.send().await?.into_content()? == json!({ "text": "new" }));
            Ok(())
        })
        .await
        .unwrap();
        let now = aesp(node, &self.target, &["backup", "now", "--wait", "25"]);
        assert_eq!(json_of(now).await.unwrap()["trouble"], "", "backups go on in the same archive");
    }
}

#[tokio::test]
async fn a_killed_cluster_is_restored_to_a_point_and_nothing_after_it_comes_back() {
    let archive = tempfile::tempdir().unwrap();
    let target = format!("file://{}", archive.path().display());
    let mut disaster = disaster(target, settings(archive.path())).await;
    let into = disaster.trio.site.folder().join("restored");
    let restored = disaster.restore(&into).await;
    assert!(restored["restored_to_ms"].as_i64().unwrap() <= disaster.point.0, "{restored}");
    assert!(restored["events_verified"].as_u64().unwrap() > 40, "{restored}");

    // What is there is not overwritten, and a point that the archive does not hold is none.
    let again = aesp(&disaster.trio.nodes[0], &disaster.target, &["restore", "--at", "latest", "--into"]);
    let said = fails(again, &into).await;
    assert_eq!((said["code"].as_str(), said["next"].is_string()), (Some("STATE_CONFLICT"), true), "{said}");
    let early = ["restore", "--at", "2001-01-01T00:00:00Z", "--into"];
    let said =
        fails(aesp(&disaster.trio.nodes[0], &disaster.target, &early), &into.with_extension("no")).await;
    assert_eq!(said["code"], "INVALID_REQUEST", "{said}");
    disaster.goes_on_from(&into).await;
}

#[tokio::test]
async fn a_cluster_is_restored_from_s3() {
    let weed = match aesp_tests::peers::weed() {
        Ok(weed) => weed,
        Err(error) => return aesp_tests::peers::skip(&error.to_string()),
    };
    let seaweed = aesp_tests::Seaweed::start(weed).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let credentials = folder.path().join("credentials");
    fs::write(&credentials, seaweed.credentials()).unwrap();
    fs::set_permissions(&credentials, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let target = seaweed.target("one");
    let mut settings = settings(folder.path());
    settings[0] = format!("backup.target={target}");
    settings.push(format!("backup.credentials_file={}", credentials.display()));
    let mut disaster = disaster(target, settings).await;
    disaster.credentials = Some(credentials);
    let into = disaster.trio.site.folder().join("restored");
    let restored = disaster.restore(&into).await;
    assert!(restored["restored_to_ms"].as_i64().unwrap() <= disaster.point.0, "{restored}");
    disaster.goes_on_from(&into).await;
}

async fn fails(mut command: Command, into: &Path) -> Value {
    let output = soon("the command ends", command.arg(into).output()).await.unwrap().unwrap();
    assert!(!output.status.success());
    let said: Value = serde_json::from_slice(&output.stderr).unwrap();
    said["error"].clone()
}

#[tokio::test]
async fn the_node_that_takes_the_backups_is_killed_and_another_goes_on_without_a_gap() {
    let archive = tempfile::tempdir().unwrap();
    let target = format!("file://{}", archive.path().display());
    let mut trio = Trio::with(settings(archive.path())).await.unwrap();
    let _workers = trio.workers(|runtime| runtime.tool("echo", async |_, args| Ok(args))).await.unwrap();
    json_of(aesp(&trio.nodes[0], &target, &["backup", "now", "--wait", "25"])).await.unwrap();
    let before = status(&trio.nodes[0]).await.unwrap();
    let members = nodes(&trio.administrator).await.unwrap();
    let taker = members.iter().find(|node| node.incarnation == before.taken_by).unwrap().name.clone();
    let place = trio.nodes.iter().position(|node| node.name() == Some(taker.as_str())).unwrap();
    assert_eq!(scrape(&trio.nodes[place], "aesp_backup_leader").await.unwrap(), 1.0);
    assert!(scrape(&trio.nodes[place], "aesp_backup_restorable_to_age_seconds").await.unwrap() < 15.0);
    let mut taken = trio.nodes.remove(place);
    taken.process().kill().await.unwrap();
    let left = &trio.nodes[0];
    let session = trio.agent.client(left).unwrap().session(aesp_tests::HOUR).await.unwrap();
    let answered = calls(&session, "meanwhile", 10).await;
    shipped(left, moment().await).await;
    let after = status(left).await.unwrap();
    assert!(after.taken_by != before.taken_by && after.trouble.is_empty(), "{after:?}");
    // The first snapshot leads to the end: the journal has no gap.
    let verified = json_of(aesp(left, &target, &["backup", "verify", &before.last_snapshot])).await.unwrap();
    assert!(verified["restorable_version"].as_u64().unwrap() > before.restorable_version, "{verified}");

    let into = trio.site.folder().join("restored");
    let mut restore = aesp(left, &target, &["restore", "--at", "latest", "--into"]);
    restore.arg(&into);
    let restored = json_of(restore).await.unwrap();
    let events = restored["events_verified"].as_u64().unwrap();
    assert!(events >= answered.len() as u64, "{restored}");
}

/// Returns the newest file of an archive whose path has this in it.
fn newest(folder: &Path, part: &str) -> PathBuf {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().contains(part) {
                files.push(path);
            }
        }
    }
    files.into_iter().max().unwrap()
}

#[tokio::test]
async fn a_drill_passes_and_one_on_a_damaged_archive_fails_and_is_told() {
    let archive: TempDir = tempfile::tempdir().unwrap();
    let target = format!("file://{}", archive.path().display());
    let mut options = aesp_tests::HostOptions { set: settings(archive.path()), ..Default::default() };
    options.set.pop();
    let world = World::with(options).await.unwrap();
    let host = &world.host;
    json_of(aesp(host, &target, &["backup", "now", "--wait", "25"])).await.unwrap();
    // The node makes its first drill by itself.
    let drilled = until("the node made a drill", async || {
        let status = status(host).await?;
        let drill = status.last_drill.clone().filter(|drill| drill.passed);
        drill.ok_or_else(|| anyhow::anyhow!("{status:?}"))
    });
    let drilled = drilled.await.unwrap();
    assert!(drilled.rto_ms > 0 && drilled.rpo_ms < 15_000, "{drilled:?}");
    let shown = json_of(aesp(host, &target, &["drill"])).await.unwrap();
    assert!(shown["passed"] == true && shown["events_verified"].as_u64().unwrap() > 0, "{shown}");

    let chunk = newest(archive.path(), "chunk");
    let mut bytes = fs::read(&chunk).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&chunk, bytes).unwrap();
    let mut drill = aesp(host, &target, &["drill"]);
    let output = soon("the drill ends", drill.output()).await.unwrap().unwrap();
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let said: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert!(said["error"]["message"].as_str().unwrap().contains("damaged"), "{said}");
    until("the node tells of it", async || {
        let status = status(host).await?;
        ensure!(status.drill_due && status.last_drill.is_some_and(|drill| !drill.passed));
        ensure!(scrape(host, "aesp_backup_drill_overdue").await? == 1.0);
        ensure!(scrape(host, "aesp_component_ready{component=\"backup\"}").await? == 0.0);
        Ok(())
    })
    .await
    .unwrap();
    let query = v1::QueryEventsRequest { action: "backup.drill".into(), ..Default::default() };
    let events = world.administrator.audit().query_events(query).await.unwrap().into_inner().events;
    let outcomes: Vec<_> = events.iter().map(v1::AuditEvent::outcome).collect();
    assert!(
        outcomes.contains(&v1::Outcome::Success) && outcomes.contains(&v1::Outcome::Failure),
        "{outcomes:?}"
    );
    assert!(events.iter().all(|event| event.metadata.contains_key("rto_ms")), "{events:?}");
}

#[tokio::test]
async fn a_store_that_is_exported_and_imported_goes_on_under_another_key() {
    let mut world = World::new().await.unwrap();
    let _worker = world.echo().await.unwrap();
    let session = world.session().await.unwrap();
    let answered = calls(&session, "before", 5).await;
    let data = world.host.folder().join("data");
    let (file, key) = (world.host.folder().join("store.export"), world.host.folder().join("other.key"));
    fs::write(&key, [7; 32]).unwrap();
    fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    world.host.process().stop().await.unwrap();
    let mut export = world.host.command();
    export.args(["store", "export", "--file"]).arg(&file).arg("--for-key").arg(&key);
    let exported = json_of(export).await.unwrap();
    assert!(exported["rows"].as_u64().unwrap() > 20, "{exported}");

    let store = format!("lmdb:{}", data.join("imported").display());
    let import = |host: &Host, key: &Path| {
        let mut command = host.command();
        command.env("AESP_STORE__PATH", &store).env("AESP_KEYS__MASTER_KEY_FILE", key);
        command.args(["store", "import"]);
        command
    };
    let mut wrong = import(&world.host, &data.join("master.key"));
    wrong.arg("--file");
    let said = fails(wrong, &file).await;
    assert_eq!(said["code"], "CONFIGURATION_ERROR", "{said}");
    let mut right = import(&world.host, &key);
    right.arg("--file").arg(&file);
    let imported = json_of(right).await.unwrap();
    assert_eq!(imported["rows"], exported["rows"]);
    let mut again = import(&world.host, &key);
    again.arg("--file");
    assert_eq!(fails(again, &file).await["code"], "STATE_CONFLICT");

    world.host.set(format!("store.path={store}"));
    world.host.set(format!("keys.master_key_file={}", key.display()));
    world.host.restart().await.unwrap();
    let session = world.agent.client(&world.host).unwrap().resume(session.id()).await.unwrap();
    let known = session.invocation("before-4").await.unwrap();
    assert_eq!(known.status(), v1::InvocationStatus::InvocationSucceeded);
    let acme = world.acme.through(world.host.administrator().unwrap());
    let log = String::from_utf8(acme.export().await.unwrap()).unwrap();
    assert!(answered.iter().all(|event| log.contains(event)));
    assert!(log.contains("\"action\":\"store.restored\""));
}

#[tokio::test]
async fn one_tenant_moves_to_another_cluster_with_its_calls_and_its_log() {
    let (mut old, mut new) = (World::new().await.unwrap(), World::new().await.unwrap());
    let _worker = old.echo().await.unwrap();
    let session = old.session().await.unwrap();
    let answered = calls(&session, "before", 5).await;
    let acme = old.acme.id().to_owned();
    let (file, key) = (old.host.folder().join("acme.export"), new.host.folder().join("data/master.key"));
    old.host.process().stop().await.unwrap();
    let mut export = old.host.command();
    export.args(["store", "export", "--tenant", "acme", "--for-key"]).arg(&key).arg("--file").arg(&file);
    let exported = json_of(export).await.unwrap();
    assert_eq!((&exported["tenant_id"], &exported["tenants"]), (&json!(acme), &json!(1)), "{exported}");
    assert!(!fs::read(&file).unwrap().windows(4).any(|part| part == b"acme"), "its name is sealed");

    let import = |host: &Host, more: &[&str]| {
        let mut command = host.command();
        command.args(["store", "import", "--tenant", &acme]).args(more);
        command
    };
    let code = async |mut command: Command| {
        command.arg("--file");
        fails(command, &file).await["code"].as_str().unwrap().to_owned()
    };
    assert_eq!(code(import(&new.host, &[])).await, "STATE_CONFLICT", "its node serves");
    new.host.process().stop().await.unwrap();
    let mut whole = new.host.command();
    whole.args(["store", "import"]);
    assert_eq!(code(whole).await, "STATE_CONFLICT", "it is no whole store");
    assert_eq!(code(import(&new.host, &[])).await, "STATE_CONFLICT", "the name is taken there");
    assert_eq!(code(import(&old.host, &[])).await, "CONFIGURATION_ERROR", "it is for another key");
    let mut right = import(&new.host, &["--rename", "acme-two"]);
    right.arg("--file").arg(&file);
    json_of(right).await.unwrap();
    assert_eq!(code(import(&new.host, &["--rename", "acme-three"])).await, "STATE_CONFLICT", "it is there");

    new.host.restart().await.unwrap();
    let session = old.agent.client(&new.host).unwrap().resume(session.id()).await.unwrap();
    let known = session.invocation("before-4").await.unwrap();
    assert_eq!(known.status(), v1::InvocationStatus::InvocationSucceeded);
    let moved = old.acme.through(new.host.administrator().unwrap());
    let log = moved.export().await.unwrap();
    let file = new.host.folder().join("moved.jsonl");
    fs::write(&file, &log).unwrap();
    let mut verify = new.host.command();
    verify.args(["audit", "verify"]).arg(&file);
    json_of(verify).await.unwrap();
    let log = String::from_utf8(log.to_vec()).unwrap();
    assert!(answered.iter().all(|event| log.contains(event)));
    assert!(log.contains("\"action\":\"store.restored\""));
    let own = new.agent.client(&new.host).unwrap().session(Duration::from_secs(60)).await;
    own.expect("who was there before is there");
}

#[tokio::test]
async fn a_node_without_backups_says_so() {
    let world = World::new().await.unwrap();
    for arguments in
        [&["backup", "status"][..], &["backup", "now"], &["backup", "list"], &["backup", "verify"]]
    {
        let mut command = world.host.command();
        command.env("AESP_API_KEY", world.host.administrator_key()).args(arguments);
        let output = soon("the command ends", command.output()).await.unwrap().unwrap();
        let said: Value = serde_json::from_slice(&output.stderr).unwrap();
        assert_eq!((output.status.code(), said["error"]["code"].as_str()), (Some(1), Some("STATE_CONFLICT")));
        assert!(said["error"]["next"].as_str().unwrap().contains("[backup]"), "{said}");
    }
}
