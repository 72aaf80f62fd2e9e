//! What operators do to a cluster that works.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, time::Duration};

use aesp_sdk::v1::{self, ClusterNode};
use aesp_tests::{Host, SHARDS, Site, Trio, balanced, nodes, scrape, soon, until};
use anyhow::ensure;
use serde_json::Value;
use tokio::time::{interval, timeout};

use crate::load::Load;

/// How long the removal of a silent node may take: its lease and some more.
const PATIENCE: Duration = Duration::from_secs(12);

async fn cluster(host: &Host, arguments: &[&str]) -> (Option<i32>, Value, String) {
    let mut command = host.command();
    command.env("AESP_API_KEY", host.administrator_key()).arg("cluster").args(arguments);
    let output = soon("the command ends", command.output()).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or_default(), said)
}

fn named<'a>(nodes: &'a [ClusterNode], name: &str) -> Option<&'a ClusterNode> {
    nodes.iter().find(|node| node.name == name)
}

async fn recorded(host: &Host, action: &str, reason: &str) {
    let administrator = host.administrator().unwrap();
    until(&format!("{action} is recorded"), async || {
        let query = v1::QueryEventsRequest { action: action.into(), ..Default::default() };
        let found = administrator.audit().query_events(query).await?.into_inner().events;
        ensure!(found.iter().any(|event| reason.is_empty() || event.reason == reason), "{found:?}");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_rebalance_after_a_node_has_joined_moves_its_share_and_fails_no_call() {
    let trio = Trio::new().await.unwrap();
    let mut load = Load::start(&trio).await;
    load.goes_on().await;
    let handed_over = async || {
        let mut sum = 0.0;
        for node in &trio.nodes {
            sum += scrape(node, "aesp_cluster_shards_handed_over_total").await.unwrap();
        }
        sum
    };
    let before = handed_over().await;
    let fourth = trio.site.node("n4").await.unwrap();
    let (code, shown, said) = cluster(&trio.nodes[1], &["rebalance"]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(shown["moving"].as_u64().unwrap() <= u64::from(SHARDS), "{shown}");
    let after = balanced(&trio.administrator, 4).await.unwrap();
    until("nothing is left to move", async || {
        let (_, shown, said) = cluster(&trio.nodes[2], &["rebalance"]).await;
        ensure!(shown["moving"] == 0, "{shown} {said}");
        Ok(())
    })
    .await
    .unwrap();
    // What moved is what the new node got: nothing went to and fro between the others.
    let owns = named(&nodes(&trio.administrator).await.unwrap(), "n4").unwrap().shards;
    assert!((SHARDS / 8..SHARDS / 2).contains(&owns), "{after:?}");
    assert_eq!(handed_over().await - before, f64::from(owns));
    load.goes_on().await;
    load.end().await;
    drop(fourth);
}

#[tokio::test]
async fn a_living_node_is_never_removed_and_a_silent_one_is() {
    let mut trio = Trio::new().await.unwrap();
    let mut load = Load::start(&trio).await;
    // A living node is told to drain, and lives on with nothing of its own.
    let (code, _, said) = cluster(&trio.nodes[0], &["remove", "n2"]).await;
    assert_eq!(code, Some(0), "{said}");
    until("it drains", async || {
        let seen = nodes(&trio.administrator).await?;
        let second = named(&seen, "n2").filter(|node| node.state == "draining" && node.shards == 0);
        ensure!(second.is_some(), "{seen:?}");
        Ok(())
    })
    .await
    .unwrap();
    load.goes_on().await;
    load.end().await;
    assert!(!trio.nodes[1].process().has_ended(), "it was ended");

    trio.nodes[1].process().kill().await.unwrap();
    until("the killed one is removed", async || {
        let (code, _, said) = cluster(&trio.nodes[0], &["remove", "n2"]).await;
        let seen = nodes(&trio.administrator).await?;
        ensure!(named(&seen, "n2").is_none(), "{code:?} {said} {seen:?}");
        Ok(())
    })
    .await
    .unwrap();
    recorded(&trio.nodes[0], "cluster.node_died", "").await;
    let (code, _, said) = cluster(&trio.nodes[0], &["remove", "n2"]).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("aesp cluster status"), "{said}");
}

/// Has a stopped node removed once its lease is over; tells whether that came about in time.
async fn removed(host: &Host, name: &str) -> bool {
    let administrator = host.administrator().unwrap();
    let removing = async {
        loop {
            match nodes(&administrator).await.map(|seen| named(&seen, name).cloned()) {
                Ok(None) => return,
                // Before that it would be told to drain, as if it lived.
                Ok(Some(node)) if node.lease_age_ms > node.lease_ms * 5 / 4 => {
                    cluster(host, &["remove", name]).await;
                }
                _ => {}
            }
        }
    };
    timeout(PATIENCE, removing).await.is_ok()
}

#[tokio::test]
async fn a_stopped_node_is_removed_and_ends_when_it_goes_on() {
    let mut trio = Trio::new().await.unwrap();
    let mut gone = false;
    // Stopped within a commit it keeps the embedded engine's lock, and the others wait: then it goes on, and is stopped again.
    for _ in 0..5 {
        trio.nodes[1].process().freeze();
        gone = removed(&trio.nodes[0], "n2").await;
        if gone {
            break;
        }
        trio.nodes[1].process().thaw();
        balanced(&trio.administrator, 3).await.unwrap();
    }
    assert!(gone, "it was never removed");
    recorded(&trio.nodes[0], "cluster.node_died", "").await;
    let left = balanced(&trio.nodes[0].administrator().unwrap(), 2).await.unwrap();
    assert!(named(&left, "n2").is_none(), "{left:?}");

    trio.nodes[1].process().thaw();
    let line = "it learns that it is dead";
    let said = trio.nodes[1].process().line(line, |line| line.contains("declared dead").then_some(())).await;
    said.unwrap();
    let mut ticks = interval(Duration::from_millis(50));
    let process = trio.nodes[1].process();
    let ended = soon("the process of a dead node ends", async {
        while !process.has_ended() {
            ticks.tick().await;
        }
    });
    ended.await.unwrap();
    let after = balanced(&trio.nodes[0].administrator().unwrap(), 2).await.unwrap();
    assert_eq!(after.iter().map(|node| node.shards).sum::<u32>(), SHARDS);
}

/// A cluster whose nodes have a secret file each.
struct Secrets {
    site: Site,
    nodes: Vec<Host>,
    files: Vec<PathBuf>,
}

impl Secrets {
    async fn new() -> Self {
        let site = Site::cluster(Vec::new()).await.unwrap();
        let first = fs::read_to_string(site.folder().join("data/cluster.secret")).unwrap();
        let (mut nodes, mut files) = (Vec::new(), Vec::new());
        for name in ["n1", "n2", "n3"] {
            let file = site.folder().join(format!("{name}.secret"));
            write(&file, &[first.trim()]);
            let setting = format!("cluster.secret_file={}", file.display());
            nodes.push(site.node_with(name, &[setting]).await.unwrap());
            files.push(file);
        }
        balanced(&nodes[0].administrator().unwrap(), 3).await.unwrap();
        Self { site, nodes, files }
    }

    /// Waits until each node has read its file so often, and each hears both others.
    async fn settle(&mut self, reads: &[usize]) {
        for (node, reads) in self.nodes.iter_mut().zip(reads) {
            let process = &*node.process();
            until("the file is read again", async || {
                let log = process.log();
                let seen = log.iter().filter(|line| line.contains("secrets of the gossip loaded")).count();
                ensure!(seen >= *reads, "{seen} of {reads}");
                Ok(())
            })
            .await
            .unwrap();
        }
        for node in &self.nodes {
            until("every node hears the others", async || {
                ensure!(scrape(node, "aesp_gossip_alive_nodes").await? == 2.0, "not all");
                Ok(())
            })
            .await
            .unwrap();
        }
    }
}

fn write(file: &PathBuf, lines: &[&str]) {
    let draft = file.with_extension("new");
    fs::write(&draft, lines.join("\n")).unwrap();
    fs::set_permissions(&draft, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(draft, file).unwrap();
}

#[tokio::test]
async fn the_secret_is_rotated_under_running_nodes_and_the_old_one_is_no_good_in_the_end() {
    let mut secrets = Secrets::new().await;
    let old = fs::read_to_string(&secrets.files[0]).unwrap();
    let (old, new) = (old.trim(), "cd".repeat(32));
    let steps: [&[&str]; 3] = [&[old, &new], &[&new, old], &[&new]];
    for (step, lines) in steps.iter().enumerate() {
        // One node after the other, as an operator would.
        for at in 0..3 {
            write(&secrets.files[at], lines);
            let reads: Vec<usize> = (0..3).map(|node| step + usize::from(node <= at)).collect();
            secrets.settle(&reads).await;
        }
    }
    for node in &secrets.nodes {
        assert_eq!(scrape(node, "aesp_gossip_rejected_datagrams_total").await.unwrap(), 0.0);
    }
    // A node that was forgotten is heard no more, and the others say so.
    write(&secrets.files[2], &[old]);
    for node in &secrets.nodes[..2] {
        until("the old secret is refused", async || {
            ensure!(scrape(node, "aesp_gossip_rejected_datagrams_total").await? > 0.0, "nothing was refused");
            Ok(())
        })
        .await
        .unwrap();
    }
    recorded(&secrets.nodes[0], "cluster.gossip", "").await;
    let administrator = secrets.nodes[0].administrator().unwrap();
    until("it counts as not heard", async || {
        let seen = nodes(&administrator).await?;
        ensure!(named(&seen, "n3").is_some_and(|node| node.alive == Some(false)), "{seen:?}");
        Ok(())
    })
    .await
    .unwrap();
    // Gossip decides nothing: the node renews its lease, and keeps what is its own.
    let seen = nodes(&administrator).await.unwrap();
    assert!(seen.len() == 3 && named(&seen, "n3").unwrap().shards > 0, "{seen:?}");
    drop(secrets.site);
}

async fn links(host: &Host, wanted: f64) {
    until("the links are there, or gone", async || {
        let seen = scrape(host, "aesp_peer_links ").await?;
        ensure!(seen == wanted, "{seen} links, not {wanted}");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_node_takes_a_new_certificate_while_it_runs_and_a_revoked_one_cuts_it_off() {
    let site = Site::cluster(Vec::new()).await.unwrap();
    let first = site.issue(&["node", "n2"]).await.unwrap();
    let mut trio = Vec::new();
    for name in ["n1", "n2", "n3"] {
        trio.push(site.node(name).await.unwrap());
    }
    let administrator = trio[0].administrator().unwrap();
    let before = balanced(&administrator, 3).await.unwrap();
    // Makes a certificate for n2 and puts it in the place of the one in use; returns its serial number.
    let renew = async |round: usize| {
        let out = site.folder().join(format!("renewed-{round}"));
        let made = site.issue(&["node", "n2", "--out", out.to_str().unwrap()]).await.unwrap();
        fs::rename(&made.key, &first.key).unwrap();
        fs::rename(&made.certificate, &first.certificate).unwrap();
        made.serial
    };
    let revoke = async |serial: &str| {
        let mut command = site.command();
        command.args(["pki", "revoke", "--serial", serial]);
        aesp_tests::command::json_of(command).await.unwrap();
    };
    let sum = async |metric: &str| {
        let mut sum = 0.0;
        for node in &trio {
            sum += scrape(node, metric).await.unwrap();
        }
        sum
    };
    for node in &trio {
        links(node, 2.0).await;
    }
    let second = renew(1).await;
    until("the new certificate is read", async || {
        let shown = fs::read_to_string(site.folder().join("n2.log"))?;
        ensure!(shown.contains("certificates of the links between nodes loaded"), "not yet");
        Ok(())
    })
    .await
    .unwrap();
    // The old one goes, and with it its links; they are there again under the new one.
    revoke(&first.serial).await;
    until("the links of the old certificate end", async || {
        ensure!(sum("aesp_peer_links_ended_total{reason=\"revoked\"}").await > 0.0, "they stay");
        Ok(())
    })
    .await
    .unwrap();
    for node in &trio {
        links(node, 2.0).await;
    }

    revoke(&second).await;
    links(&trio[1], 0.0).await;
    for node in [0, 2] {
        links(&trio[node], 1.0).await;
    }
    until("it is refused", async || {
        ensure!(sum("aesp_peer_refused_total{reason=\"revoked\"}").await > 0.0, "nobody refused it");
        Ok(())
    })
    .await
    .unwrap();
    recorded(&trio[0], "cluster.peer", "revoked").await;
    // With another one it is back, and nothing was started again.
    renew(2).await;
    for node in &trio {
        links(node, 2.0).await;
    }
    let after = balanced(&administrator, 3).await.unwrap();
    let numbers = |nodes: &[ClusterNode]| nodes.iter().map(|node| node.incarnation).collect::<Vec<_>>();
    assert_eq!(numbers(&after), numbers(&before), "a node was replaced");
}
