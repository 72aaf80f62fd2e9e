//! A cluster whose nodes speak two versions of the protocol between them.

use aesp_tests::{Trio, balanced, until};
use anyhow::ensure;

use crate::load::Load;

/// Waits until the node that answers speaks this with each of the others.
async fn speak(trio: &Trio, node: usize, wanted: &[(&str, u32)]) {
    let administrator = trio.nodes[node].administrator().unwrap();
    until("the nodes speak the protocol", async || {
        let seen = aesp_tests::nodes(&administrator).await?;
        for (name, protocol) in wanted {
            let found = seen.iter().find(|node| node.name == *name);
            let spoken = found.and_then(|node| node.protocol);
            ensure!(spoken == Some(*protocol), "{name} speaks {spoken:?}, not {protocol}");
        }
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_cluster_is_rolled_to_the_next_protocol_and_back_and_no_call_fails() {
    let mut trio = Trio::with(vec!["cluster.protocol_max=1".into()]).await.unwrap();
    speak(&trio, 0, &[("n2", 1), ("n3", 1)]).await;
    let mut load = Load::start(&trio).await;
    load.goes_on().await;
    // Up and down again; in between the cluster is mixed, and each pair speaks what both can.
    for newest in ["2", "1"] {
        for node in 0..trio.nodes.len() {
            trio.nodes[node].process().stop().await.unwrap();
            trio.nodes[node].set(format!("cluster.protocol_max={newest}"));
            trio.nodes[node].restart().await.unwrap();
            balanced(&trio.administrator, 3).await.unwrap();
            load.goes_on().await;
            match (newest, node) {
                ("2", 0) => speak(&trio, 0, &[("n2", 1), ("n3", 1)]).await,
                ("2", 1) => speak(&trio, 0, &[("n2", 2), ("n3", 1)]).await,
                ("2", _) => speak(&trio, 0, &[("n2", 2), ("n3", 2)]).await,
                (_, 0) => speak(&trio, 1, &[("n1", 1), ("n3", 2)]).await,
                (_, 1) => speak(&trio, 1, &[("n1", 1), ("n3", 1)]).await,
                (_, _) => speak(&trio, 2, &[("n1", 1), ("n2", 1)]).await,
            }
        }
    }
    load.end().await;
}
