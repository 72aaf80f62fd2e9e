//! The reference topologies, one process a machine, with the localities that their own configuration files say.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use aesp_storage::Store;
use aesp_tests::{FdbCluster, localities};
use tempfile::TempDir;

use crate::store::{open, options, read, written_within};

/// How long a cluster may be away after the loss of what it survives, with all of it on one busy machine.
const AWAY: Duration = Duration::from_secs(90);

fn topology(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/foundationdb").join(name)
}

/// The machines of a topology: how many there are of each file.
fn machines(topology: &Path, files: &[(&'static str, &[&'static str])]) -> Vec<Machine> {
    let of = |(file, names): &(&'static str, &[&'static str])| {
        let localities = localities(&topology.join(format!("{file}.conf"))).unwrap();
        names.iter().map(|name| (*name, localities.clone())).collect::<Vec<_>>()
    };
    files.iter().flat_map(of).collect()
}

type Machine = (&'static str, Vec<(String, String)>);

/// The `configure` line of a topology, with a storage engine that starts faster.
fn configure(topology: &Path) -> String {
    let text = std::fs::read_to_string(topology.join("configure.fdbcli")).unwrap();
    let line = text.lines().find(|line| line.starts_with("configure new")).unwrap();
    line.replace(" ssd", " memory")
}

async fn opened(cluster: &FdbCluster) -> (Store, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let store = open(options(&cluster.file(), None), folder.path()).await.unwrap();
    written_within(&store, 1, AWAY).await;
    (store, folder)
}

/// Loses some machines at once: what was committed is there, and commits go on.
async fn survives(cluster: &mut FdbCluster, store: &Store, lost: &[&str]) {
    cluster.kill(lost).await.unwrap();
    let away = written_within(store, 2, AWAY).await;
    println!("{lost:?} lost: commits after {away:?}");
    assert_eq!(read(store).await.unwrap(), Some(2));
}

#[cfg_attr(not(fdb_server), ignore = "AESP_TEST_FDB_BIN names no folder with the server's programs")]
#[tokio::test]
async fn three_machines_survive_one() {
    let topology = topology("three-machines");
    let machines = machines(&topology, &[("foundationdb", &["m1", "m2", "m3"])]);
    let mut cluster = FdbCluster::start(&machines, 3, None).unwrap();
    cluster.configured(&configure(&topology)).await.unwrap();
    let (store, _folder) = opened(&cluster).await;
    survives(&mut cluster, &store, &["m2"]).await;
}

#[cfg_attr(not(fdb_server), ignore = "AESP_TEST_FDB_BIN names no folder with the server's programs")]
#[tokio::test]
async fn three_data_halls_survive_one_and_a_machine_of_another() {
    let topology = topology("three-data-halls");
    let files: [(_, &[_]); 3] =
        [("hall-a", &["a1", "a2", "a3"]), ("hall-b", &["b1", "b2", "b3"]), ("hall-c", &["c1", "c2", "c3"])];
    let mut cluster = FdbCluster::start(&machines(&topology, &files), 9, None).unwrap();
    cluster.configured(&configure(&topology)).await.unwrap();
    let status = cluster.status().await.unwrap();
    assert_eq!(status["cluster"]["configuration"]["redundancy_mode"], "three_data_hall");
    let (store, _folder) = opened(&cluster).await;
    survives(&mut cluster, &store, &["a1", "a2", "a3", "b1"]).await;
}

#[cfg_attr(not(fdb_server), ignore = "AESP_TEST_FDB_BIN names no folder with the server's programs")]
#[tokio::test]
async fn three_data_centres_survive_one_and_a_machine_of_another() {
    let topology = topology("three-data-centres");
    let files: [(_, &[_]); 3] =
        [("dc1", &["a1", "a2", "a3"]), ("dc2", &["b1", "b2", "b3"]), ("dc3", &["c1", "c2", "c3"])];
    let mut cluster = FdbCluster::start(&machines(&topology, &files), 9, None).unwrap();
    cluster.configured(&configure(&topology)).await.unwrap();
    let (store, _folder) = opened(&cluster).await;
    survives(&mut cluster, &store, &["a1", "a2", "a3", "b1"]).await;
}

#[cfg_attr(not(fdb_server), ignore = "AESP_TEST_FDB_BIN names no folder with the server's programs")]
#[tokio::test]
async fn two_regions_survive_the_data_centre_of_one_without_loss() {
    let topology = topology("two-regions");
    let first: [(_, &[_]); 2] = [("r1a", &["a1", "a2", "a3"]), ("r1b", &["s1", "s2"])];
    let second: [(_, &[_]); 3] =
        [("r2a", &["b1", "b2", "b3"]), ("r2b", &["t1", "t2"]), ("r3", &["c1", "c2", "c3"])];
    let mut all = machines(&topology, &first);
    let begun = all.len();
    all.extend(machines(&topology, &second));
    // Region 2 comes later, as its README says.
    let mut cluster = FdbCluster::start_some(&all, begun, 1, None).unwrap();
    cluster.configured(&configure(&topology)).await.unwrap();
    let file = |name: &str| format!("fileconfigure {}", topology.join(name).display());
    cluster.configured(&file("regions-begin.json")).await.unwrap();
    cluster.start_rest().unwrap();
    cluster.configured("configure usable_regions=2").await.unwrap();
    let coordinators = cluster.addresses(&["a1", "a2", "a3", "b1", "b2", "b3", "c1", "c2", "c3"]).join(" ");
    cluster.configured(&format!("coordinators {coordinators}")).await.unwrap();
    cluster.configured(&file("regions.json")).await.unwrap();
    let (store, _folder) = opened(&cluster).await;
    survives(&mut cluster, &store, &["a1", "a2", "a3"]).await;
}
