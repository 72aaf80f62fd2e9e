//! Nodes that were told where they run.

use aesp_sdk::{Credentials, Session};
use aesp_tests::{HOUR, Host, Site, Worker, balanced, echo, platform, soon, until};
use anyhow::ensure;
use serde_json::{Value, json};

async fn answered_by(session: &Session) -> anyhow::Result<Value> {
    let call = session.call("echo", json!({ "text": "who?" }));
    Ok(soon("the call is answered", call.send()).await??.into_content()?["by"].clone())
}

#[tokio::test]
async fn a_call_goes_to_the_nearest_runtime_and_the_status_says_where_nodes_run() {
    let site = Site::cluster(Vec::new()).await.unwrap();
    let mut nodes = Vec::new();
    for (name, zone) in [("n1", "a"), ("n2", "a"), ("n3", "b")] {
        let own = ["node.datacenter=dc1".to_owned(), format!("node.zone={zone}")];
        nodes.push(site.node_with(name, &own).await.unwrap());
    }
    let all: Vec<&Host> = nodes.iter().collect();
    let administrator = site.client(&all, Credentials::ApiKey(site.administrator_key().into())).unwrap();
    let seen = balanced(&administrator, 3).await.unwrap();
    let mut places: Vec<_> =
        seen.iter().map(|node| (node.name.as_str(), node.datacenter.as_str(), node.zone.as_str())).collect();
    places.sort_unstable();
    assert_eq!(places, [("n1", "dc1", "a"), ("n2", "dc1", "a"), ("n3", "dc1", "b")]);

    let acme = platform::create_tenant(&administrator, "acme").await.unwrap();
    acme.offer(echo()).await.unwrap();
    acme.role("caller", &["*"]).await.unwrap();
    let agent = acme.account("assistant", &["caller"]).await.unwrap();
    let mut workers = Vec::new();
    for (node, name) in [(&nodes[1], "near"), (&nodes[2], "far")] {
        let certificate = platform::register(node, name, &[&acme]).await.unwrap();
        let runtime = Worker::builder(node, name, &certificate).unwrap();
        let runtime = runtime.tool("echo", move |_, _| async move { Ok(json!({ "by": name })) });
        workers.push(Worker::start(runtime).await.unwrap());
    }
    let session = agent.client(&nodes[0]).unwrap().session(HOUR).await.unwrap();
    until("the node knows the Runtime of its zone", async || {
        let by = answered_by(&session).await?;
        ensure!(by == "near", "{by} answered");
        Ok(())
    })
    .await
    .unwrap();
    for _ in 0..20 {
        assert_eq!(answered_by(&session).await.unwrap(), "near");
    }
    drop(workers.remove(0));
    until("the Runtime of the other zone takes over", async || {
        let by = answered_by(&session).await?;
        ensure!(by == "far", "{by} answered");
        Ok(())
    })
    .await
    .unwrap();
}
