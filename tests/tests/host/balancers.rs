use aesp_sdk::{Client, Credentials};
use aesp_tests::{Balancer, HOUR, Trio, balanced, scrape, until};
use anyhow::{Context, ensure};
use serde_json::json;

const RPCS: &str = "aesp_forwarded_requests_total{outcome=\"answered\"}";

/// An agent that knows a load balancer alone, while one of the nodes behind it is killed.
async fn survives_a_killed_node_behind(kind: &str) {
    let mut trio = Trio::new().await.unwrap();
    let _workers = trio.workers(|runtime| runtime.tool("echo", async |_, args| Ok(args))).await.unwrap();
    let balancer = Balancer::of(kind, &trio).await.unwrap();
    let credentials = Credentials::ApiKey(trio.agent.api_key.as_str().into());
    let client = Client::builder(trio.site.tls(None).unwrap()).endpoint(balancer.endpoint());
    let client = client.credentials(credentials).build().unwrap();
    let session =
        until("a session opens through the load balancer", async || Ok(client.session(HOUR).await?));
    let session = session.await.unwrap();
    let call = async |text: String| -> anyhow::Result<()> {
        let args = json!({ "text": text });
        let answer = session.call("echo", args.clone()).send().await?.into_content()?;
        ensure!(answer == args, "another answer came: {answer}");
        Ok(())
    };
    for number in 0..30 {
        call(format!("{number}")).await.with_context(|| format!("call {number} through {kind}")).unwrap();
    }
    if kind == "envoy" {
        let mut forwarded = 0.0;
        for node in &trio.nodes {
            forwarded += scrape(node, RPCS).await.unwrap();
        }
        assert!(forwarded >= 5.0, "its requests went to one node: {forwarded} were forwarded");
    }

    trio.nodes[0].process().kill().await.unwrap();
    until("a call is answered again", async || call("again".into()).await).await.unwrap();
    balanced(&trio.administrator, 2).await.unwrap();
    until("the load balancer has left the dead node out", async || {
        for number in 0..20 {
            call(format!("after {number}")).await?;
        }
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn haproxy_before_the_nodes_hides_that_one_is_killed() {
    survives_a_killed_node_behind("haproxy").await;
}

#[tokio::test]
async fn envoy_before_the_nodes_hides_that_one_is_killed() {
    survives_a_killed_node_behind("envoy").await;
}
