//! Processes that are no nodes of the cluster, or not the ones that they say: nothing has two owners, and it is noticed.

use std::{path::Path, process::Command as Plain, sync::Arc};

use aesp_proto::{Incarnation, TenantId};
use aesp_sdk::{Client, v1};
use aesp_storage::{FileKeyProvider, Kind, LmdbOptions, Store, row_key};
use aesp_tests::{Host, Process, SHARDS, Site, balanced, nodes, scrape, until};
use anyhow::ensure;
use tokio::{io::AsyncReadExt, process::Command};

async fn recorded(administrator: &Client, action: &str, reason: &str) -> v1::AuditEvent {
    until(&format!("{action} {reason} is recorded"), async || {
        let query = v1::QueryEventsRequest { action: action.into(), ..Default::default() };
        let found = administrator.audit().query_events(query).await?.into_inner().events;
        let event = found.iter().find(|event| reason.is_empty() || event.reason == reason).cloned();
        event.ok_or_else(|| anyhow::anyhow!("no such event among {found:?}"))
    })
    .await
    .unwrap()
}

async fn counted(host: &Host, metric: &str) {
    until(metric, async || {
        ensure!(scrape(host, metric).await? > 0.0, "it is not counted");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_certificate_of_another_kind_is_refused_where_peers_listen() {
    let site = Site::cluster(Vec::new()).await.unwrap();
    let node = site.node("n1").await.unwrap();
    let administrator = node.administrator().unwrap();
    balanced(&administrator, 1).await.unwrap();
    let runtime = site.issue(&["issue", "--name", "worker", "--runtime", "worker"]).await.unwrap();
    let person = site.issue(&["issue", "--name", "ops"]).await.unwrap();
    for certificate in [&runtime, &person] {
        // The handshake may end well in TLS 1.3 before the server has looked; then the connection ends.
        if let Ok(mut stream) = node.peer_socket("localhost", certificate).await {
            let mut heard = Vec::new();
            let ended = aesp_tests::soon("the connection ends", stream.read_to_end(&mut heard)).await;
            drop(ended.unwrap());
            assert!(heard.is_empty(), "a stranger was told {heard:?}");
        }
    }
    counted(&node, "aesp_peer_refused_total{reason=\"wrong_kind\"}").await;
    recorded(&administrator, "cluster.peer", "wrong_kind").await;
}

#[tokio::test]
async fn a_second_node_of_a_name_does_not_start_and_the_first_one_goes_on() {
    let site = Site::cluster(Vec::new()).await.unwrap();
    let first = site.node("n1").await.unwrap();
    let administrator = first.administrator().unwrap();
    let before = balanced(&administrator, 1).await.unwrap();
    let error = site.node("n1").await.err().expect("two nodes have one name");
    assert!(format!("{error:#}").contains("give this node a name of its own"), "{error:#}");
    let event = recorded(&administrator, "cluster.identity_contested", "").await;
    assert_eq!(event.metadata.get("name").map(String::as_str), Some("n1"), "{event:?}");
    let after = balanced(&administrator, 1).await.unwrap();
    assert_eq!(after[0].incarnation, before[0].incarnation, "the first one was replaced");
}

/// Starts a process with a configuration of its own, as the node of this name.
fn start(site: &Site, config: &Path, name: &str, log: &str) -> Process {
    start_with(site, config, name, log, &[])
}

/// As [`start`], with variables in its environment.
fn start_with(site: &Site, config: &Path, name: &str, log: &str, variables: &[(&str, &str)]) -> Process {
    let mut command = Command::new(site.binary());
    command.envs(variables.iter().copied());
    command.args(["node", "--config"]).arg(config);
    for listener in ["--listen-grpc", "--listen-https", "--listen-metrics", "--listen-peers"] {
        command.args([listener, "127.0.0.1:0"]);
    }
    let pki = site.folder().join("data/pki");
    for (key, value) in [
        ("node.name", name.to_owned()),
        ("cluster.certificate", pki.join(format!("{name}.pem")).display().to_string()),
        ("cluster.key", pki.join(format!("{name}.key")).display().to_string()),
    ] {
        command.arg("--set").arg(format!("{key}={value}"));
    }
    Process::start(command, &site.folder().join(log)).unwrap()
}

#[tokio::test]
async fn a_node_on_a_copy_of_the_store_is_found_out_though_it_has_everything_else() {
    // Long enough for the clone to call before the first node counts as dead on the copy.
    let site = Site::cluster(vec!["cluster.lease_ms=8000".into()]).await.unwrap();
    let first = site.node("n1").await.unwrap();
    let administrator = first.administrator().unwrap();
    balanced(&administrator, 1).await.unwrap();
    site.issue(&["node", "n2"]).await.unwrap();
    // The machine is copied, and both the original and the copy start the next node: with one certificate, secret and number.
    let (data, copy) = (site.folder().join("data"), site.folder().join("copy"));
    assert!(Plain::new("cp").arg("-a").arg(&data).arg(&copy).status().unwrap().success());
    let mut cloned = start(&site, &copy.join("aesp.toml"), "n2", "clone.log");
    let second = site.node("n2").await.unwrap();
    let nodes = balanced(&administrator, 2).await.unwrap();
    let numbers: Vec<u64> = nodes.iter().map(|node| node.incarnation).collect();

    let refused = "aesp_peer_refused_total{reason=\"other_store\"}";
    counted(&first, refused).await;
    let event = recorded(&administrator, "cluster.peer", "other_store").await;
    assert_eq!(event.outcome(), v1::Outcome::Denied);
    // The clone hears it as well, in its own log.
    let heard = cloned.line("the clone says so", |line| line.contains("other_store").then_some(()));
    heard.await.unwrap();
    // The nodes of the original go on as one cluster: nobody was replaced, and each shard has one owner.
    let after = balanced(&administrator, 2).await.unwrap();
    assert_eq!(after.iter().map(|node| node.incarnation).collect::<Vec<_>>(), numbers);
    assert_eq!(after.iter().map(|node| node.shards).sum::<u32>(), SHARDS);
    assert_eq!(scrape(&second, "aesp_peer_links ").await.unwrap(), 1.0, "the original was cut off");
}

#[tokio::test]
async fn a_node_of_another_cluster_on_the_same_store_owns_nothing_twice_and_is_told_of() {
    let (site, other) = (Site::cluster(Vec::new()).await.unwrap(), Site::cluster(Vec::new()).await.unwrap());
    let first = site.node("n1").await.unwrap();
    let administrator = first.administrator().unwrap();
    balanced(&administrator, 1).await.unwrap();
    // Its authority and its secret are others; by mistake its store is this one.
    let data = site.folder().join("data");
    let mistaken = [
        format!("store.path=lmdb:{}", data.join("store").display()),
        format!("keys.master_key_file={}", data.join("master.key").display()),
    ];
    let foreign = other.node_with("n2", &mistaken).await.unwrap();
    for host in [&first, &foreign] {
        counted(host, "aesp_cluster_notices_total{notice=\"node_unreachable\"}").await;
    }
    recorded(&administrator, "cluster.node_unreachable", "").await;
    // Health says so by name; the nodes serve on.
    for host in [&first, &foreign] {
        assert_eq!(scrape(host, "aesp_component_ready{component=\"peers\"}").await.unwrap(), 0.0);
        assert_eq!(scrape(host, "aesp_component_ready{component=\"cluster\"}").await.unwrap(), 1.0);
    }
    // The younger one dials, and looks at the other's certificate first.
    counted(&foreign, "aesp_peer_refused_total{reason=\"unknown_authority\"}").await;
    counted(&first, "aesp_peer_refused_total").await;
    counted(&first, "aesp_gossip_rejected_datagrams_total").await;
    recorded(&administrator, "cluster.peer", "unknown_authority").await;
    recorded(&administrator, "cluster.gossip", "").await;
    // The store is the truth for both: each shard has one owner, and both say the same.
    let seen = nodes(&administrator).await.unwrap();
    assert_eq!(seen.iter().map(|node| node.shards).sum::<u32>(), SHARDS, "{seen:?}");
    let mut held = 0.0;
    for host in [&first, &foreign] {
        held += scrape(host, "aesp_cluster_held_shards").await.unwrap();
    }
    assert!(held <= f64::from(SHARDS), "{held} shards are held");
}

#[tokio::test]
async fn a_damaged_lease_gives_nothing_to_anybody_before_its_time() {
    let site = Site::cluster(Vec::new()).await.unwrap();
    let first = site.node("n1").await.unwrap();
    let mut second = site.node("n2").await.unwrap();
    let administrator = first.administrator().unwrap();
    let before = balanced(&administrator, 2).await.unwrap();
    let dead = before.iter().find(|node| node.name == "n2").unwrap().incarnation;
    let key = Arc::new(FileKeyProvider::open(&site.folder().join("data/master.key")).unwrap());
    let store = Store::lmdb(&site.folder().join("data/store"), LmdbOptions::default(), key).await.unwrap();
    let row = row_key(TenantId::PLATFORM, Kind::NODE, &Incarnation(dead).0.to_be_bytes());
    let damage = || {
        let row = row.clone();
        store.run::<_, aesp_storage::Error, _>(move |tx| {
            let row = row.clone();
            Box::pin(async move { tx.set_raw(&row, b"\x01no lease") })
        })
    };
    // A living node writes its row again with its next renewal.
    damage().await.unwrap();
    until("the living node has mended its row", async || {
        let seen = nodes(&administrator).await?;
        let second = seen.iter().find(|node| node.incarnation == dead);
        ensure!(second.is_some_and(|node| !node.damaged && node.state == "serving"), "{seen:?}");
        Ok(())
    })
    .await
    .unwrap();

    second.process().kill().await.unwrap();
    damage().await.unwrap();
    counted(&first, "aesp_cluster_notices_total{notice=\"row_damaged\"}").await;
    let event = recorded(&administrator, "cluster.row_damaged", "").await;
    assert_eq!(event.metadata.get("what"), Some(&format!("lease of node {dead}")), "{event:?}");
    // The lease that it was seen with counts; then it is dead like any other.
    let left = balanced(&administrator, 1).await.unwrap();
    assert_eq!((left[0].name.as_str(), left[0].shards), ("n1", SHARDS));
    assert_eq!(scrape(&first, "aesp_cluster_damaged_rows").await.unwrap(), 0.0);
}

/// Finds libfaketime for programs with threads, which `scripts/install-fault-tools` installs.
fn faketime() -> String {
    let folders = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64"];
    let mut places = folders.iter().map(|folder| format!("{folder}/faketime/libfaketimeMT.so.1"));
    places.find(|place| Path::new(place).exists()).expect("run scripts/install-fault-tools")
}

#[tokio::test]
async fn a_node_whose_clock_is_hours_off_does_not_join_and_says_why() {
    let site = Site::cluster(Vec::new()).await.unwrap();
    let first = site.node("n1").await.unwrap();
    let administrator = first.administrator().unwrap();
    let before = balanced(&administrator, 1).await.unwrap();
    site.issue(&["node", "n2"]).await.unwrap();
    let library = faketime();
    for (offset, log) in [("+3h", "ahead.log"), ("-3h", "behind.log")] {
        let variables = [
            ("LD_PRELOAD", library.as_str()),
            ("FAKETIME", offset),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ("DONT_FAKE_MONOTONIC", "1"),
        ];
        let mut off = start_with(&site, &site.config(), "n2", log, &variables);
        let said = off.line("it says why", |line| line.contains("synchronise it").then_some(())).await;
        said.unwrap();
    }
    let event = recorded(&administrator, "cluster.clock_skewed", "").await;
    let skew: i64 = event.metadata["skew_ms"].parse().unwrap();
    assert!((10_700_000..10_900_000).contains(&skew.abs()), "{event:?}");
    let after = balanced(&administrator, 1).await.unwrap();
    assert_eq!((after[0].incarnation, after[0].shards), (before[0].incarnation, SHARDS));
}
