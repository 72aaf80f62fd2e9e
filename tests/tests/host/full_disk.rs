use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use aesp_sdk::{Error, ErrorCode};
use aesp_tests::{World, peers, soon, until};
use serde_json::json;

use crate::support::{DENIALS, refused};

/// The store on a disk of its own, which can be filled. Only root may mount one.
struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Puts the folder's content on a small disk that is mounted in its place.
    fn under(folder: &Path, megabytes: u32) -> Option<Self> {
        let aside = folder.with_extension("aside");
        std::fs::rename(folder, &aside).unwrap();
        std::fs::create_dir(folder).unwrap();
        let mut mount = Command::new("mount");
        let mount =
            mount.args(["-t", "tmpfs", "-o", &format!("size={megabytes}m,mode=700"), "tmpfs"]).arg(folder);
        let mounted = mount.output();
        if !mounted.as_ref().is_ok_and(|output| output.status.success()) {
            peers::skip(&format!("only root can mount a small disk: {mounted:?}"));
            return None;
        }
        let disk = Self { path: folder.to_owned() };
        // The lock file of an environment that nobody uses is made anew.
        std::fs::copy(aside.join("data.mdb"), folder.join("data.mdb")).unwrap();
        Some(disk)
    }

    /// Takes all the room that is left.
    fn fill(&self) -> PathBuf {
        let ballast = self.path.join("ballast");
        let of = format!("of={}", ballast.display());
        let filled = Command::new("dd").args(["if=/dev/zero", &of, "bs=4k"]).output().unwrap();
        assert!(!filled.status.success(), "the disk has no end");
        ballast
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the node may hold it still.
        let unmounted = Command::new("umount").arg("--lazy").arg(&self.path).status();
        assert!(unmounted.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

#[tokio::test]
async fn a_full_disk_refuses_calls_takes_revocations_and_loses_nothing() {
    let mut world = World::new().await.unwrap();
    world.host.process().stop().await.unwrap();
    // Dropped after the host, which uses it.
    let store = world.host.folder().join("data/store");
    let Some(disk) = SmallDisk::under(&store, 64) else { return };
    world.host.restart().await.unwrap();
    let _worker = world.echo().await.unwrap();
    let session = until("a session opens", async || world.session().await).await.unwrap();
    let ballast = disk.fill();

    // Results large enough to fill what the store has allocated ahead.
    let text = "x".repeat(300_000);
    let mut acknowledged = Vec::new();
    let refusal: Error = loop {
        let id = format!("call-{}", acknowledged.len());
        let call = session.call("echo", json!({ "text": text })).with_invocation_id(&id);
        match soon("the call is answered", call.timeout(Duration::from_secs(10)).send()).await.unwrap() {
            Ok(result) => acknowledged.push((id, result.event_id)),
            Err(error) => break error,
        }
        assert!(acknowledged.len() < 1_000, "the disk is finite");
    };
    assert_eq!(refusal.code(), ErrorCode::ServiceUnavailable, "{refusal}");
    assert!(!refusal.message().is_empty());
    println!("{} calls were recorded before the disk was full", acknowledged.len());

    let principal = &world.agent.principal.principal_id;
    world.acme.revoke_role(principal, "caller").await.expect("a right can be taken on a full disk");

    std::fs::remove_file(ballast).unwrap();
    // The right is gone, and that is recorded again.
    let after = until("refusals are recorded again", async || {
        match session.call("echo", json!({ "text": "x" })).await {
            Err(error) if error.code() == ErrorCode::ServiceUnavailable => Err(error.into()),
            other => Ok(other.map(|result| result.event_id)),
        }
    });
    refused(after.await.unwrap(), &DENIALS);
    let log = String::from_utf8(world.acme.export().await.unwrap()).unwrap();
    for (id, event) in &acknowledged {
        assert!(log.contains(event), "{id} was answered and is not in the log");
    }
    let fresh = world.acme.account("fresh", &["caller"]).await.unwrap().client(&world.host).unwrap();
    let fresh = fresh.session(aesp_tests::HOUR).await.unwrap();
    fresh.call("echo", json!({ "text": "on" })).await.unwrap().into_content().unwrap();
    world.host.process().stop().await.unwrap();
    drop(disk);
}
