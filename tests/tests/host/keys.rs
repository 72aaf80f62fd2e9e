//! Keys in a key manager: what a node does while they are rotated, while the manager is away, and after a key is gone.

use std::{fs, path::Path, time::Duration};

use aesp_sdk::{Credentials, Error, ErrorCode, Session, v1};
use aesp_tests::{
    Bao, Contract, DEADLINE, HOUR, Host, HostOptions, Trio, Worker, World, bao, command::json_of, peers,
    scrape, soon, until,
};
use anyhow::ensure;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

/// How long keys are held in these tests: the shortest that can be configured.
const LIFE: Duration = Duration::from_secs(10);

/// A Host with its master key in an OpenBao of its own.
struct Kept {
    bao: Bao,
    world: World,
}

impl Kept {
    async fn new() -> Option<Self> {
        if let Err(error) = bao::binary() {
            peers::skip(&error.to_string());
            return None;
        }
        let bao = Bao::start().await.unwrap();
        let token = bao.token("token", &["-period=1h"]).await.unwrap();
        let mut init = bao.settings(&token);
        init.push(format!("keys.cache_seconds={}", LIFE.as_secs()));
        let world = World::with(HostOptions { init, ..HostOptions::default() }).await.unwrap();
        Some(Self { bao, world })
    }

    async fn status(&self, arguments: &[&str]) -> Value {
        key(&self.world.host, &[&["status"], arguments].concat()).await.unwrap()
    }

    /// Waits until nothing is wrapped under another version.
    async fn all_under(&self, version: &str) {
        until("everything is under the new version", async || {
            let status = self.status(&[]).await;
            let under = status["wrapped_under"].as_array().cloned().unwrap_or_default();
            ensure!(status["current_version"] == version, "{status}");
            ensure!(
                under.len() == 1 && under[0]["version"] == version && under[0]["current"] == true,
                "{status}"
            );
            Ok(())
        })
        .await
        .unwrap();
    }
}

async fn key(host: &Host, arguments: &[&str]) -> anyhow::Result<Value> {
    let mut command = host.command();
    command.env("AESP_API_KEY", host.administrator_key()).arg("key").args(arguments);
    json_of(command).await
}

async fn echo(session: &Session, text: &str) -> Result<Value, Error> {
    session.call("echo", json!({ "text": text })).await?.into_content()
}

#[tokio::test]
async fn keys_are_rotated_while_calls_run_and_none_fails() {
    let Some(kept) = Kept::new().await else { return };
    let world = &kept.world;
    let _worker = world.echo().await.unwrap();
    let session = world.session().await.unwrap();
    kept.all_under("1").await;
    let stop = tokio_util::sync::CancellationToken::new();
    let calling = tokio::spawn({
        let (session, stop) = (session.clone(), stop.clone());
        async move {
            let mut made = 0;
            while !stop.is_cancelled() {
                echo(&session, "canary-rotated-6f2")
                    .await
                    .map_err(|error| format!("call {made}: {error:?}"))?;
                made += 1;
            }
            Ok::<u32, String>(made)
        }
    });

    let rotated = key(&world.host, &["rotate"]).await.unwrap();
    assert_eq!(rotated["version"], "2");
    kept.all_under("2").await;
    // The old version of the master key is not needed any more.
    kept.bao.run(&["write", "transit/keys/aesp/config", "min_decryption_version=2"]).await.unwrap();

    for version in [2, 3] {
        let rotated = key(&world.host, &["rotate", "--tenant", "acme"]).await.unwrap();
        assert_eq!(rotated["version"], version);
        rotated_to(&world.host, version).await;
    }
    let resealed = scrape(&world.host, "aesp_keys_resealed_rows_total").await.unwrap();
    assert!(resealed > 5.0, "{resealed} rows");
    stop.cancel();
    let made = calling.await.unwrap().unwrap();
    assert!(made > 10, "only {made} calls");

    // After a restart everything is read with the new keys alone.
    let Kept { bao: _bao, mut world } = kept;
    world.host.process().stop().await.unwrap();
    world.host.restart().await.unwrap();
    let _worker = world.echo().await.unwrap();
    let session = world.agent.client(&world.host).unwrap().resume(session.id()).await.unwrap();
    echo(&session, "after").await.unwrap();
    world.host.process().stop().await.unwrap();
    for canary in ["canary-rotated-6f2", "acme Ltd"] {
        assert!(!stands_in(&world.host.folder().join("data"), canary), "{canary} is in the clear");
    }
}

fn stands_in(folder: &Path, text: &str) -> bool {
    fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return stands_in(&path, text);
        }
        let bytes = fs::read(&path).unwrap();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    })
}

#[tokio::test]
async fn a_rotation_goes_on_without_the_node_that_did_it() {
    let mut trio = Trio::new().await.unwrap();
    let _workers = trio.workers(|runtime| runtime.tool("echo", async |_, args| Ok(args))).await.unwrap();
    let session = trio.session(0).await.unwrap();
    for n in 0..50 {
        let call = session.call("echo", json!({ "text": "kept" })).with_invocation_id(format!("kept-{n}"));
        call.send().await.unwrap();
    }
    let rotated = key(&trio.nodes[0], &["rotate", "--tenant", "acme"]).await.unwrap();
    assert_eq!(rotated["version"], 2);
    rotated_to(&trio.nodes[0], 2).await;
    // Who has done it is the tenant's home, and would do the next one.
    let mut home = None;
    for (place, node) in trio.nodes.iter().enumerate() {
        if scrape(node, "aesp_keys_resealed_rows_total").await.unwrap() > 0.0 {
            home = Some(place);
        }
    }
    let mut home = trio.nodes.remove(home.expect("somebody has done it"));
    let mut before = 0.0;
    for node in &trio.nodes {
        before += scrape(node, "aesp_keys_resealed_rows_total").await.unwrap();
    }
    assert_eq!(before, 0.0);
    let rotated = key(&trio.nodes[0], &["rotate", "--tenant", "acme"]).await.unwrap();
    home.process().kill().await.unwrap();
    assert_eq!(rotated["version"], 3);
    rotated_to(&trio.nodes[0], 3).await;
    let mut after = 0.0;
    for node in &trio.nodes {
        after += scrape(node, "aesp_keys_resealed_rows_total").await.unwrap();
    }
    assert!(after > 50.0, "{after} rows by those that are left");
    let session = trio.agent.client(&trio.nodes[1]).unwrap().resume(session.id()).await.unwrap();
    for n in 0..50 {
        let known = soon("an outcome", session.invocation(&format!("kept-{n}"))).await.unwrap().unwrap();
        assert_eq!(known.status(), v1::InvocationStatus::InvocationSucceeded);
    }
}

/// Waits until all rows of `acme` are sealed under this data key.
async fn rotated_to(host: &Host, version: u32) {
    until("the rotation is over", async || {
        let status = key(host, &["status", "--tenant", "acme"]).await?;
        let tenant = &status["tenant"];
        ensure!(status["rotations"].as_array().is_none_or(Vec::is_empty), "{status}");
        ensure!(tenant["data_version"] == version && tenant["oldest_data_version"] == version, "{status}");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn without_the_key_manager_calls_go_on_for_the_life_of_the_keys_and_then_fail_closed() {
    let Some(mut kept) = Kept::new().await else { return };
    kept.goes_away(async |bao| bao.kill().await, async |bao| bao.restart().await).await;
}

#[tokio::test]
async fn a_key_manager_that_hangs_is_as_one_that_is_away() {
    let Some(mut kept) = Kept::new().await else { return };
    kept.goes_away(async |bao| bao.freeze(), async |bao| bao.thaw()).await;
}

impl Kept {
    /// Takes the key manager away while calls run, and brings it back.
    async fn goes_away(
        &mut self,
        go: impl AsyncFnOnce(&mut Bao) -> anyhow::Result<()>,
        come_back: impl AsyncFnOnce(&mut Bao) -> anyhow::Result<()>,
    ) {
        let _worker = self.world.echo().await.unwrap();
        let session = self.world.session().await.unwrap();
        echo(&session, "before").await.unwrap();
        go(&mut self.bao).await.unwrap();
        let away = Instant::now();
        // The keys were given at most so long before: half a life is certain.
        while away.elapsed() < LIFE / 2 - Duration::from_secs(1) {
            soon("a call with keys in memory", echo(&session, "cached")).await.unwrap().unwrap();
            sleep(Duration::from_millis(100)).await;
        }
        let refused = loop {
            let asked = away.elapsed();
            match soon("an answer or a refusal", echo(&session, "late")).await.unwrap() {
                Ok(_) => assert!(asked < LIFE, "answered {asked:?} after the key manager was gone"),
                Err(error) => break error,
            }
        };
        assert_eq!(refused.code(), ErrorCode::ServiceUnavailable, "{refused:?}");
        let readyz = soon("readiness", probe(&self.world.host)).await.unwrap();
        assert!(readyz.contains("keys: the key provider is away"), "{readyz}");
        assert_eq!(scrape(&self.world.host, "aesp_keys_provider_up").await.unwrap(), 0.0);

        come_back(&mut self.bao).await.unwrap();
        until("calls are answered again", async || Ok(echo(&session, "back").await.map(drop)?))
            .await
            .unwrap();
        until("the node is ready", async || {
            let readyz = probe(&self.world.host).await;
            ensure!(readyz.starts_with("ready"), "{readyz}");
            Ok(())
        })
        .await
        .unwrap();
    }
}

async fn probe(host: &Host) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut socket = tokio::net::TcpStream::connect(host.metrics()).await.unwrap();
    let request = "GET /readyz?verbose HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()
}

/// Starts the node, which must end by itself; returns what it says last.
async fn refused(host: &Host) -> Value {
    let mut node = host.command();
    node.args(["node", "--config"]).arg(host.folder().join("data/aesp.toml")).kill_on_drop(true);
    for listener in ["--listen-grpc", "--listen-https", "--listen-metrics"] {
        node.args([listener, "127.0.0.1:0"]);
    }
    let began = Instant::now();
    let output = soon("the node gives up", node.output()).await.unwrap().unwrap();
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{said}");
    let last = said.lines().last().unwrap_or_default();
    let told: Value = serde_json::from_str(last).unwrap_or_else(|_| panic!("no JSON: {said}"));
    told["error"].clone()
}

#[track_caller]
fn says(error: &Value, message: &str, next: &str) {
    assert!(error["message"].as_str().is_some_and(|text| text.contains(message)), "{error}");
    assert!(error["next"].as_str().is_some_and(|text| text.contains(next)), "{error}");
}

#[tokio::test]
async fn a_key_manager_that_does_not_give_the_key_is_told_at_the_start() {
    let Some(mut kept) = Kept::new().await else { return };
    kept.world.host.process().stop().await.unwrap();
    let host = &kept.world.host;
    let token = kept.bao.folder().join("token");
    let good = fs::read_to_string(&token).unwrap();
    fs::write(&token, "s.wrong").unwrap();
    says(&refused(host).await, "permission denied", "docs/keys.md has the rights");
    fs::write(&token, &good).unwrap();

    kept.bao.run(&["write", "-f", "transit/keys/aesp/rotate"]).await.unwrap();
    kept.bao.run(&["write", "transit/keys/aesp/config", "min_decryption_version=2"]).await.unwrap();
    says(&refused(host).await, "version 1", "lower min_decryption_version");
    kept.bao.run(&["write", "transit/keys/aesp/config", "min_decryption_version=1"]).await.unwrap();

    kept.bao.kill().await.unwrap();
    says(&refused(host).await, "key provider away", "unsealed and can be reached");
    kept.bao.restart_sealed().await.unwrap();
    says(&refused(host).await, "sealed", "unsealed");
    kept.bao.restart().await.unwrap();
    kept.world.host.restart().await.expect("nothing was lost");
}

#[tokio::test]
async fn a_tenant_whose_keys_are_destroyed_can_not_be_read_by_anyone() {
    let Some(kept) = Kept::new().await else { return };
    let world = &kept.world;
    world.acme.offer(Contract::new("lookup")).await.unwrap();
    let _worker =
        Worker::start(world.runtime().unwrap().tool("echo", async |_, args| Ok(args))).await.unwrap();
    let session = world.session().await.unwrap();
    echo(&session, "one").await.unwrap();
    let refused = key(&world.host, &["destroy", "--tenant", "acme", "--confirm", "other"]).await;
    assert!(refused.unwrap_err().to_string().contains("not the tenant's name"));
    let destroyed = key(&world.host, &["destroy", "--tenant", "acme", "--confirm", "acme"]).await.unwrap();
    assert_eq!(destroyed["destroyed_keys"], 1);
    assert!(echo(&session, "two").await.is_err());
    let status = kept.status(&["--tenant", world.acme.id()]).await;
    assert_eq!(status["tenant"]["destroyed"], true, "{status}");
    let rotate = key(&world.host, &["rotate", "--tenant", world.acme.id()]).await.unwrap_err().to_string();
    assert!(rotate.contains("were destroyed"), "{rotate}");
    assert!(
        world
            .host
            .client(Credentials::ApiKey(world.agent.api_key.as_str().into()))
            .unwrap()
            .session(HOUR)
            .await
            .is_err()
    );
    // Who did it is on record.
    let query = v1::QueryEventsRequest { action: "tenant.delete".into(), ..Default::default() };
    let events = world.administrator.audit().query_events(query).await.unwrap().into_inner().events;
    assert!(!events.is_empty());
    assert!(DEADLINE > LIFE);
}
