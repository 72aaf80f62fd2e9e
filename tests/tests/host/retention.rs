//! Rules, holds and erasure over real nodes: what is erased is erased everywhere at once, what is held stays, and exports verify.

use std::path::Path;

use aesp_sdk::v1;
use aesp_tests::{Host, HostOptions, Seaweed, Trio, World, balanced, command::json_of, peers, until};
use anyhow::ensure;
use serde_json::{Value, json};

async fn audit(host: &Host, arguments: &[&str]) -> anyhow::Result<Value> {
    let mut command = host.command();
    command.env("AESP_API_KEY", host.administrator_key()).args(["-t", "acme", "audit"]).args(arguments);
    json_of(command).await
}

/// What every node of the cluster shows of a principal's calls: whether they are erased.
async fn erased(host: &Host, principal: &str) -> anyhow::Result<Vec<bool>> {
    let found = audit(host, &["search", "--principal", principal, "--action", "tool.invoke"]).await?;
    let events = found["events"].as_array().cloned().unwrap_or_default();
    Ok(events.iter().map(is_erased).collect())
}

fn is_erased(event: &Value) -> bool {
    let erased = event["metadata"]["aesp.sealed"].as_str().is_some_and(|why| why.starts_with("erased: "));
    assert!(!erased || event["resource"].as_str().unwrap_or_default().is_empty(), "{event}");
    erased
}

async fn verified(host: &Host, folder: &Path) -> Value {
    let file = folder.join("log.jsonl");
    let path = file.to_str().unwrap();
    audit(host, &["export", "-f", path]).await.unwrap();
    let verified = audit(host, &["verify", path]).await.unwrap();
    std::fs::remove_file(&file).unwrap();
    verified
}

#[tokio::test]
async fn who_is_erased_at_one_node_is_unreadable_at_every_node_and_the_log_verifies() {
    let trio = Trio::new().await.unwrap();
    let _workers = trio.workers(|runtime| runtime.tool("echo", async |_, args| Ok(args))).await.unwrap();
    let other = trio.acme.account("other", &["caller", "agent"]).await.unwrap();
    for node in 0..3 {
        let session = trio.session(node).await.unwrap();
        session.call("echo", json!({ "text": "of the erased" })).await.unwrap();
        let client = other.client(&trio.nodes[node]).unwrap();
        let session = client.session(aesp_tests::HOUR).await.unwrap();
        session.call("echo", json!({ "text": "of the other" })).await.unwrap();
    }
    let (ada, bob) = (&trio.agent.principal.principal_id, &other.principal.principal_id);
    for node in &trio.nodes {
        assert_eq!(erased(node, ada).await.unwrap(), [false; 3], "before");
    }
    let folder = tempfile::tempdir().unwrap();
    let before = verified(&trio.nodes[0], folder.path()).await;

    let erasure = audit(&trio.nodes[0], &["erase", "--principal", "assistant", "--reason", "asked for it"]);
    assert_eq!(erasure.await.unwrap()["key_ids"].as_array().unwrap().len(), 1);
    for node in &trio.nodes {
        assert_eq!(erased(node, ada).await.unwrap(), [true; 3], "nobody reads it any more");
        assert_eq!(erased(node, bob).await.unwrap(), [false; 3], "nobody else's is touched");
    }
    let after = verified(&trio.nodes[1], folder.path()).await;
    assert!(after["events"].as_u64().unwrap() > before["events"].as_u64().unwrap());

    // The home goes through the log and tells how much it was.
    until("the erased events are counted", async || {
        let told = audit(&trio.nodes[2], &["destructions"]).await?;
        let one = &told["destructions"][0];
        ensure!(one["counted_at_ms"].as_i64().unwrap_or_default() > 0, "{told}");
        ensure!(one["principal_id"] == json!(ada) && one["reason"] == "asked for it", "{told}");
        ensure!(one["events"].as_u64().unwrap_or_default() >= 3, "{told}");
        Ok(())
    })
    .await
    .unwrap();
    // Life goes on: new calls are recorded and readable.
    let session = trio.session(1).await.unwrap();
    session.call("echo", json!({ "text": "after" })).await.unwrap();
    let calls = erased(&trio.nodes[2], ada).await.unwrap();
    assert_eq!(calls.iter().filter(|erased| !**erased).count(), 1, "{calls:?}");
}

#[tokio::test]
async fn a_hold_keeps_a_person_and_the_tenant_until_it_is_released() {
    let world = World::new().await.unwrap();
    let _worker = world.echo().await.unwrap();
    let session = world.session().await.unwrap();
    session.call("echo", json!({ "text": "x" })).await.unwrap();
    let host = &world.host;
    let held =
        audit(host, &["hold", "place", "--principal", "assistant", "--reason", "case 7"]).await.unwrap();
    let hold = held["hold_id"].as_str().unwrap().to_owned();
    let erase = ["erase", "--principal", "assistant", "--reason", "asked for it"];
    let refused = audit(host, &erase).await.unwrap_err().to_string();
    assert!(refused.contains(&hold), "{refused}");
    let delete = v1::DeleteTenantRequest { tenant_id: world.acme.id().into(), confirm_name: "acme".into() };
    let refused = world.administrator.tenants().delete_tenant(delete).await.unwrap_err();
    assert!(refused.message().contains(&hold), "{refused:?}");
    session.call("echo", json!({ "text": "it was not even ended" })).await.unwrap();

    // The platform placed it: the tenant's own administrator does not release it.
    let boss = world.acme.account("boss", &["tenant-admin"]).await.unwrap().client(host).unwrap();
    let release = v1::ReleaseLegalHoldRequest {
        tenant_id: world.acme.id().into(),
        hold_id: hold.clone(),
        reason: "not mine".into(),
    };
    boss.retention().release_legal_hold(release).await.unwrap_err();
    audit(host, &["hold", "release", &hold, "--reason", "the case is over"]).await.unwrap();
    let listed = audit(host, &["hold", "list"]).await.unwrap();
    let holds = listed["holds"].as_array().unwrap();
    assert_eq!((holds.len(), holds[0]["active"].as_bool().unwrap_or_default()), (1, false));
    audit(host, &erase).await.unwrap();

    let search = ["search", "--action", "retention.erase"];
    let events = audit(host, &search).await.unwrap()["events"].as_array().unwrap().clone();
    let outcomes: Vec<_> = events.iter().map(|event| event["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["OUTCOME_FAILURE", "OUTCOME_SUCCESS"], "both are on record: {events:?}");
    assert!(events.iter().all(|event| !is_erased(event)), "the record of an erasure outlives it");
}

#[tokio::test]
async fn rules_are_set_shown_and_bounded_and_reports_tell_who_could_and_who_did() {
    let set = vec!["audit.retention.minimum_days=7".into()];
    let world = World::with(HostOptions { set, ..HostOptions::default() }).await.unwrap();
    let _worker = world.echo().await.unwrap();
    let session = world.session().await.unwrap();
    session.call("echo", json!({ "text": "x" })).await.unwrap();
    let host = &world.host;
    let rule = "name=calls,days=30,type=tool-invocation,classification=internal";
    let set = ["retention", "set", "--rule", rule, "--standard-days", "365"];
    assert_eq!(audit(host, &set).await.unwrap()["version"], json!(1));
    let short =
        audit(host, &["retention", "set", "--rule", "name=calls,days=6"]).await.unwrap_err().to_string();
    assert!(short.contains("7 days"), "{short}");
    let shown = audit(host, &["retention", "show"]).await.unwrap();
    assert_eq!(
        (&shown["rules"][0]["name"], &shown["rules"][0]["retain_days"]),
        (&json!("calls"), &json!(30))
    );
    session.call("echo", json!({ "text": "y" })).await.unwrap();
    let partitions = audit(host, &["retention", "partitions"]).await.unwrap();
    let classes: Vec<_> =
        partitions["partitions"].as_array().unwrap().iter().map(|one| one["class"].clone()).collect();
    assert_eq!(classes, [json!("standard"), json!("calls")]);

    let idle = world.acme.account("idle", &["caller"]).await.unwrap();
    world.acme.account("nobody", &[]).await.unwrap();
    let report = audit(host, &["access-report", "--tool", "echo"]).await.unwrap();
    let lines = report["lines"].as_array().unwrap();
    let of = |name: &str| lines.iter().find(|line| line["principal_name"] == json!(name));
    let assistant = of("assistant").unwrap();
    assert_eq!((&assistant["could"], &assistant["succeeded"]), (&json!(true), &json!(2)));
    let idle_line = of("idle").unwrap();
    assert_eq!(idle_line["principal_id"], json!(idle.principal.principal_id));
    assert_eq!((&idle_line["could"], &idle_line["succeeded"]), (&json!(true), &json!(0)));
    assert!(of("nobody").is_none(), "who could not and did not is left out: {report}");
}

async fn archived(host: &Host) -> anyhow::Result<u64> {
    let status = audit(host, &["archive", "status"]).await?;
    Ok(status["events"].as_u64().unwrap_or_default())
}

#[tokio::test]
async fn a_node_that_dies_while_it_moves_events_loses_none() {
    let folder = tempfile::tempdir().unwrap();
    let shelf = folder.path().join("shelf");
    let settings =
        vec![format!("audit.archive.target=file://{}", shelf.display()), "audit.archive.after_days=0".into()];
    let mut trio = Trio::with(settings).await.unwrap();
    let _workers = trio.workers(|runtime| runtime.tool("echo", async |_, args| Ok(args))).await.unwrap();
    for _ in 0..2 {
        for node in 0..trio.nodes.len() {
            let session = trio.session(node).await.unwrap();
            for _ in 0..20 {
                session.call("echo", json!({ "text": "kept" })).await.unwrap();
            }
        }
        // It is killed in the middle of the move, at whichever point.
        let mut command = trio.nodes[0].command();
        command
            .env("AESP_API_KEY", trio.nodes[0].administrator_key())
            .args(["-t", "acme", "audit", "archive", "run"]);
        let running = tokio::spawn(json_of(command));
        let objects = || std::fs::read_dir(&shelf).into_iter().flatten().count();
        until("it writes", async || {
            ensure!(objects() > 0 || running.is_finished());
            Ok(())
        })
        .await
        .unwrap();
        trio.nodes[0].process().kill().await.unwrap();
        drop(running.await);
        trio.nodes[0].restart().await.unwrap();
        balanced(&trio.administrator, 3).await.unwrap();
    }
    until("the rest is moved", async || {
        audit(&trio.nodes[1], &["archive", "run"]).await?;
        ensure!(archived(&trio.nodes[2]).await? >= 120);
        Ok(())
    })
    .await
    .unwrap();
    for node in &trio.nodes {
        let stats =
            audit(node, &["stats", "--by", "tool", "--action", "tool.invoke", "--outcome", "success"]);
        let stats = stats.await.unwrap();
        let echo =
            stats["counts"].as_array().unwrap().iter().find(|line| line["tool"] == json!("echo")).unwrap();
        assert_eq!(echo["events"], json!(120), "{stats}");
    }
    let checked = verified(&trio.nodes[2], folder.path()).await;
    assert!(checked["events"].as_u64().unwrap() >= 120, "{checked}");
    // What the tiles and proofs show is built on the same leaves.
    let found = audit(&trio.nodes[0], &["search", "--tool", "echo", "--limit", "1"]).await.unwrap();
    let event = found["events"][0]["event_id"].as_str().unwrap().to_owned();
    audit(&trio.nodes[1], &["prove", "--event", &event]).await.unwrap();

    let mut objects = Vec::new();
    for tenant in std::fs::read_dir(&shelf).unwrap() {
        objects.extend(std::fs::read_dir(tenant.unwrap().path()).unwrap().map(|one| one.unwrap().path()));
    }
    assert!(!objects.is_empty());
    for object in objects {
        let bytes = std::fs::read(&object).unwrap();
        assert!(bytes.starts_with(b"aesp-audit-bundle-v1\n"));
    }
}

#[tokio::test]
async fn old_events_lie_on_a_real_s3_server_and_are_found_there() {
    let weed = match peers::weed() {
        Ok(weed) => weed,
        Err(error) => return peers::skip(&error.to_string()),
    };
    let seaweed = Seaweed::start(weed).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let credentials = folder.path().join("credentials");
    std::fs::write(&credentials, seaweed.credentials()).unwrap();
    std::fs::set_permissions(&credentials, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let set = vec![
        format!("audit.archive.target={}", seaweed.target("shelf")),
        format!("audit.archive.credentials_file={}", credentials.display()),
        "audit.archive.after_days=0".into(),
    ];
    let mut world = World::with(HostOptions { set, ..HostOptions::default() }).await.unwrap();
    let _worker = world.echo().await.unwrap();
    let session = world.session().await.unwrap();
    for _ in 0..5 {
        session.call("echo", json!({ "text": "x" })).await.unwrap();
    }
    let host = &world.host;
    // The server takes objects a moment after it lists them.
    let moved = until("the archive takes a bundle", async || audit(host, &["archive", "run"]).await);
    let moved = moved.await.unwrap();
    assert!(moved["events"].as_u64().unwrap() >= 5, "{moved}");
    let principal = world.agent.principal.principal_id.clone();
    assert_eq!(erased(host, &principal).await.unwrap(), [false; 5]);
    assert!(verified(host, folder.path()).await["events"].as_u64().unwrap() >= 5);

    // With the object store away what lies there is missing, and said to be: it is not taken for nothing.
    drop(seaweed);
    world.host.process().stop().await.unwrap();
    world.host.restart().await.unwrap();
    let refused = erased(&world.host, &principal).await.unwrap_err().to_string();
    assert!(refused.contains(".bundle of the audit archive"), "{refused}");
}
