use std::{fs, time::Duration};

use aesp_sdk::{Client, Credentials, ErrorCode, RuntimeStatus, Session, StreamPart, ToolFailure, v1};
use aesp_tests::{
    Contract, HOUR, Host, SHARDS, Site, Trio, Worker, balanced, nodes, platform, scrape, soon, until,
};
use anyhow::ensure;
use serde_json::{Value, json};
use tokio::{process::Command, sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use tonic::codec::CompressionEncoding;

use crate::{
    raw_runtime::Raw,
    support::{DENIALS, Gate, refused},
};

const GZIP: CompressionEncoding = CompressionEncoding::Gzip;
const ANSWERED: &str = "aesp_forwarded_requests_total{outcome=\"answered\"}";

async fn echoed(session: &Session, text: &str) -> Value {
    let call = session.call("echo", json!({ "text": text }));
    soon("the call is answered", call.send()).await.unwrap().unwrap().into_content().unwrap()
}

#[tokio::test]
async fn a_session_is_used_through_every_node() {
    let trio = Trio::new().await.unwrap();
    let _workers = trio.workers(|runtime| runtime.tool("echo", async |_, args| Ok(args))).await.unwrap();
    let own = trio.session(0).await.unwrap();
    assert_eq!(echoed(&own, "own").await, json!({ "text": "own" }));
    for node in [1, 2] {
        let session = trio.through(node, &own).await.unwrap();
        assert_eq!(echoed(&session, "there").await, json!({ "text": "there" }));
        assert!(session.list_tools().await.unwrap().iter().any(|tool| tool.name == "echo"));
        assert!(scrape(&trio.nodes[node], ANSWERED).await.unwrap() >= 3.0, "nothing was forwarded");
        // A refusal comes through as it is, and so does what is nobody's.
        refused(session.call("none", json!({})).send().await, &[ErrorCode::ToolNotFound]);
    }
    assert_eq!(scrape(&trio.nodes[0], ANSWERED).await.unwrap(), 0.0, "the owner forwarded its own");

    // An encoded request finds its owner as well.
    let before = scrape(&trio.nodes[1], ANSWERED).await.unwrap();
    let mut encoded = trio.agent.client(&trio.nodes[1]).unwrap().agent().send_compressed(GZIP);
    let asked = encoded.get_session(v1::GetSessionRequest { session_id: own.id().into() }).await;
    assert_eq!(asked.unwrap().into_inner().session_id, own.id());
    assert_eq!(scrape(&trio.nodes[1], ANSWERED).await.unwrap(), before + 1.0, "it was not forwarded");
    // So it is where nothing is forwarded.
    let mut encoded = trio.nodes[1].administrator().unwrap().agent().send_compressed(GZIP);
    let request = v1::ListSessionsRequest { tenant_id: trio.acme.id().into(), ..Default::default() };
    let listed = encoded.list_sessions(request).await.unwrap().into_inner().sessions;
    assert!(listed.iter().any(|session| session.session_id == own.id()), "{listed:?}");

    let person = trio.site.issue(&["issue", "--name", "person"]).await.unwrap();
    let bind = v1::BindCertificateRequest {
        tenant_id: trio.acme.id().into(),
        principal_id: trio.agent.principal.principal_id.clone(),
        certificate_identity: person.identity.clone(),
    };
    trio.administrator.identity().bind_certificate(bind).await.unwrap();
    let tls = trio.site.tls(Some(&person)).unwrap();
    let by_certificate = Client::builder(tls).endpoint(trio.nodes[2].endpoint()).build().unwrap();
    let session = by_certificate.resume(own.id()).await.unwrap();
    assert_eq!(echoed(&session, "certified").await, json!({ "text": "certified" }));

    let elsewhere = trio.through(1, &own).await.unwrap();
    elsewhere.close(false).await.unwrap();
    refused(own.call("echo", json!({ "text": "late" })).send().await, &[ErrorCode::SessionInvalid]);
}

#[tokio::test]
async fn a_stream_comes_through_another_node_and_ends_with_its_reader() {
    let trio = Trio::new().await.unwrap();
    let contract = Contract::new("count").streams(&json!({ "type": "integer" })).timeout_ms(60_000);
    trio.offer(contract).await.unwrap();
    let gate = Gate::new();
    let workers = trio.workers(|runtime| {
        let gate = gate.clone();
        runtime.streaming_tool("count", move |_, _, mut chunks| {
            let gate = gate.clone();
            async move {
                chunks.send(&json!(0)).await?;
                gate.pass().await;
                chunks.send(&json!(1)).await?;
                Ok(json!({ "counted": 2 }))
            }
        })
    });
    let workers = workers.await.unwrap();
    let own = trio.session(0).await.unwrap();
    let session = trio.through(1, &own).await.unwrap();
    let mut parts =
        soon("the stream opens", session.call("count", json!({})).stream()).await.unwrap().unwrap();
    let mut seen = Vec::new();
    while let Some(part) = soon("a part comes", parts.next()).await.unwrap().unwrap() {
        match part {
            StreamPart::Chunk(chunk) => {
                if seen.is_empty() {
                    gate.arrival().await;
                    gate.open();
                }
                seen.push(chunk);
            }
            StreamPart::End(end) => drop(end.into_content().unwrap()),
        }
    }
    assert_eq!(seen, [json!(0), json!(1)]);

    let opened = soon("the stream opens", session.call("count", json!({})).stream()).await.unwrap().unwrap();
    gate.arrival().await;
    drop(opened);
    until("the Runtime stops", async || {
        ensure!(workers.iter().all(|worker| worker.handle().running_calls() == 0), "it works on");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_killed_owner_is_a_pause_and_nothing_that_was_answered_is_lost() {
    let mut trio = Trio::new().await.unwrap();
    let _workers = trio.workers(|runtime| runtime.tool("echo", async |_, args| Ok(args))).await.unwrap();
    let own = trio.session(0).await.unwrap();
    let kept = own.call("echo", json!({ "text": "kept" })).with_invocation_id("kept");
    let kept = soon("the call is answered", kept.send()).await.unwrap().unwrap();
    let session = trio.through(1, &own).await.unwrap();

    trio.nodes[0].process().kill().await.unwrap();
    let killed = Instant::now();
    let again = session.call("echo", json!({ "text": "kept" })).with_invocation_id("kept");
    let again = soon("the session answers", again.send()).await.unwrap().unwrap();
    println!("the session answered {:?} after the kill", killed.elapsed());
    assert!(again.replayed, "it ran again");
    assert_eq!(again.event_id, kept.event_id);
    assert_eq!(echoed(&session, "on").await, json!({ "text": "on" }));

    let left = balanced(&trio.administrator, 2).await.unwrap();
    assert!(left.iter().all(|node| node.name != "n1"), "{left:?}");
    // Who died and who took its shards is on record.
    for action in ["cluster.node_joined", "cluster.node_died", "cluster.shards_taken"] {
        until(action, async || {
            let query = v1::QueryEventsRequest { action: action.into(), ..Default::default() };
            let found = trio.administrator.audit().query_events(query).await?.into_inner().events;
            ensure!(!found.is_empty(), "no event of {action}");
            Ok(())
        })
        .await
        .unwrap();
    }
    trio.nodes[0].restart().await.unwrap();
    balanced(&trio.administrator, 3).await.unwrap();
    assert_eq!(echoed(&session, "back").await, json!({ "text": "back" }));
}

#[tokio::test]
async fn a_right_taken_at_one_node_is_gone_at_every_node_when_the_call_returns() {
    let trio = Trio::new().await.unwrap();
    let gate = Gate::new();
    let _workers = trio
        .workers(|runtime| {
            let gate = gate.clone();
            runtime.tool("echo", move |_, args: Value| {
                let gate = gate.clone();
                async move {
                    if args["text"] == "slow" {
                        gate.pass().await;
                    }
                    Ok(args)
                }
            })
        })
        .await
        .unwrap();
    let own = trio.session(0).await.unwrap();
    let elsewhere = trio.through(2, &own).await.unwrap();
    let at_n3 = trio.session(2).await.unwrap();
    echoed(&elsewhere, "while it may").await;
    let slow = elsewhere.call("echo", json!({ "text": "slow" }));
    let running = tokio::spawn(async move { slow.send().await });
    gate.arrival().await;

    let revoker = trio.acme.through(trio.nodes[1].administrator().unwrap());
    let cancelled = revoker.revoke_role(&trio.agent.principal.principal_id, "caller").await.unwrap();
    assert_eq!(cancelled, 1, "the answer does not say what was cancelled");
    for session in [&own, &elsewhere] {
        refused(session.call("echo", json!({ "text": "again" })).send().await, &DENIALS);
    }
    let codes = [DENIALS.as_slice(), &[ErrorCode::Cancelled]].concat();
    refused(soon("the running call ends", running).await.unwrap().unwrap(), &codes);

    // An account that is revoked has no session left on any node.
    let revoke = v1::RevokeServiceAccountRequest {
        tenant_id: trio.acme.id().into(),
        principal_id: trio.agent.principal.principal_id.clone(),
    };
    trio.nodes[1].administrator().unwrap().identity().revoke_service_account(revoke).await.unwrap();
    let page = Some(v1::Page { limit: 1000, ..Default::default() });
    let list = v1::ListSessionsRequest { tenant_id: trio.acme.id().into(), page };
    let listed = trio.administrator.agent().list_sessions(list).await.unwrap().into_inner().sessions;
    assert!(listed.iter().any(|session| session.session_id == at_n3.id()));
    let living = |session: &&v1::Session| session.status() == v1::SessionStatus::Active;
    assert_eq!(listed.iter().find(living), None, "it lives on");
}

#[tokio::test]
async fn a_planned_stop_fails_no_call() {
    let mut trio = Trio::new().await.unwrap();
    let _workers = trio.workers(|runtime| runtime.tool("echo", async |_, args| Ok(args))).await.unwrap();
    // Sessions of the node that stops, and of one that stays; through the others, and through whichever answers.
    let all: Vec<&Host> = trio.nodes.iter().collect();
    let anywhere = trio.site.client(&all, Credentials::ApiKey(trio.agent.api_key.as_str().into())).unwrap();
    let (leaving, staying) = (trio.session(0).await.unwrap(), trio.session(1).await.unwrap());
    let mut callers = Vec::new();
    let enough = CancellationToken::new();
    for (session, node) in [(&leaving, 1), (&leaving, 2), (&staying, 2)] {
        callers.push(trio.through(node, session).await.unwrap());
        callers.push(anywhere.resume(session.id()).await.unwrap());
    }
    let (made, mut count) = watch::channel(vec![0_u32; callers.len()]);
    let callers = callers.into_iter().enumerate().map(|(at, session)| {
        let (enough, made) = (enough.clone(), made.clone());
        tokio::spawn(async move {
            let (mut calls, mut longest) = (0, Duration::ZERO);
            while !enough.is_cancelled() {
                let begun = Instant::now();
                session.call("echo", json!({ "text": format!("{calls}") })).await?.into_content()?;
                longest = longest.max(begun.elapsed());
                calls += 1;
                made.send_modify(|made| made[at] = calls);
            }
            Ok::<_, aesp_sdk::Error>((calls, longest))
        })
    });
    let callers: Vec<_> = callers.collect();
    // A call that fails ends its caller, whose count stands still then.
    let mut more = async |from: Vec<u32>| {
        let all = count.wait_for(|made| made.iter().zip(&from).all(|(made, from)| *made >= from + 5));
        soon("every caller is answered", all).await.unwrap().unwrap().clone()
    };
    let before = more(vec![0; callers.len()]).await;
    trio.nodes[0].process().stop().await.unwrap();
    more(before).await;
    let others = trio.nodes[1].administrator().unwrap();
    until("the others own everything", async || {
        let left = nodes(&others).await?;
        ensure!(left.iter().all(|node| node.name != "n1"), "it did not say goodbye: {left:?}");
        ensure!(left.iter().map(|node| node.shards).sum::<u32>() == SHARDS, "{left:?}");
        Ok(())
    })
    .await
    .unwrap();
    enough.cancel();
    for caller in callers {
        let (calls, longest) = soon("the caller ends", caller).await.unwrap().unwrap().unwrap();
        println!("{calls} calls, the longest took {longest:?}");
        assert!(calls > 0);
    }
}

#[tokio::test]
async fn a_call_within_another_is_let_in_while_their_session_leaves() {
    let trio = Trio::new().await.unwrap();
    trio.offer(Contract::new("outer").timeout_ms(60_000)).await.unwrap();
    let gate = Gate::new();
    let inside = gate.clone();
    // At another node than the session, so that the inner call is forwarded.
    let certificate = platform::register(&trio.nodes[1], "worker", &[&trio.acme]).await.unwrap();
    let runtime = Worker::builder(&trio.nodes[1], "worker", &certificate).unwrap();
    let runtime = runtime.tool("echo", async |_, args| Ok(args)).tool("outer", move |call, _| {
        let inside = inside.clone();
        async move {
            inside.pass().await;
            let inner = call.call("echo", json!({ "text": "inner" })).await;
            let failed = |error: aesp_sdk::Error| ToolFailure::new(error.to_string());
            inner.map_err(failed)?.into_content().map_err(failed)
        }
    });
    let _worker = Worker::start(runtime).await.unwrap();
    let account = trio.acme.account("worker-account", &["caller"]).await.unwrap();
    let bind = v1::BindCertificateRequest {
        tenant_id: trio.acme.id().into(),
        principal_id: account.principal.principal_id.clone(),
        certificate_identity: certificate.identity.clone(),
    };
    trio.administrator.identity().bind_certificate(bind).await.unwrap();

    let session = trio.session(0).await.unwrap();
    let outer = session.call("outer", json!({})).timeout(Duration::from_secs(60));
    let calling = tokio::spawn(async move { outer.send().await });
    gate.arrival().await;
    let operator = trio.nodes[2].administrator().unwrap();
    let drain = v1::DrainNodeRequest { node: "n1".into() };
    let draining = tokio::spawn(async move { operator.cluster().drain_node(drain).await });
    until("only the shard of the session is left", async || {
        let seen = nodes(&trio.nodes[2].administrator()?).await?;
        let left = seen.iter().find(|node| node.name == "n1").map(|node| node.shards);
        ensure!(left == Some(1), "{seen:?}");
        Ok(())
    })
    .await
    .unwrap();
    let opened = Instant::now();
    gate.open();
    let answer = soon("the outer call ends", calling).await.unwrap().unwrap().unwrap();
    assert_eq!(answer.into_content().unwrap(), json!({ "text": "inner" }));
    let drained = soon("the node is empty", draining).await.unwrap().unwrap().unwrap().into_inner();
    assert_eq!(drained.shards_left, 0);
    // Less than the grace, after which the outer call would have been cancelled.
    assert!(opened.elapsed() < Duration::from_secs(10), "{:?}", opened.elapsed());
}

#[tokio::test]
async fn of_two_processes_under_one_name_the_newer_stays_and_the_older_is_told() {
    let trio = Trio::new().await.unwrap();
    let certificate = platform::register(&trio.nodes[0], "worker", &[&trio.acme]).await.unwrap();
    let runtime = Worker::builder(&trio.nodes[0], "worker", &certificate).unwrap();
    let mut older = Worker::start(runtime.tool("echo", async |_, args| Ok(args))).await.unwrap();
    // One that does not say which process it is may be the same.
    let mut newer = Raw::connect_to(&trio.nodes[1], "worker", &certificate, &["echo"]).await;
    let told = |status: &RuntimeStatus| {
        status.last_error.as_ref().is_some_and(|why| why.contains("newer connection"))
    };
    older.status("the older one is told", told).await.unwrap();
    // It comes back, and is the newer one then.
    let reason = newer.hear(|frame| match frame {
        v1::host_frame::Frame::GoAway(go) => Some(go.reason),
        _ => None,
    });
    assert!(reason.await.contains("newer connection"));
}

#[tokio::test]
async fn operators_see_the_nodes_and_drain_them() {
    let trio = Trio::new().await.unwrap();
    let _workers = trio.workers(|runtime| runtime.tool("echo", async |_, args| Ok(args))).await.unwrap();
    let cluster = async |node: usize, arguments: &[&str]| {
        let mut command = trio.nodes[node].command();
        command.env("AESP_API_KEY", trio.site.administrator_key()).arg("cluster").args(arguments);
        let output = soon("the command ends", command.output()).await.unwrap().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), serde_json::from_slice::<Value>(&output.stdout).unwrap_or_default(), said)
    };
    until("every node has applied every right", async || {
        ensure!(nodes(&trio.administrator).await?.iter().all(|node| node.behind == 0), "not yet");
        Ok(())
    })
    .await
    .unwrap();
    let (code, status, said) = cluster(1, &["status"]).await;
    assert_eq!(code, Some(0), "{said}");
    let shown = status["nodes"].as_array().unwrap();
    let names: Vec<_> = shown.iter().map(|node| node["name"].as_str().unwrap()).collect();
    assert_eq!(names.len(), 3);
    assert!(["n1", "n2", "n3"].iter().all(|name| names.contains(name)), "{status}");
    for node in shown {
        let host = trio.nodes.iter().find(|host| host.name() == node["name"].as_str()).unwrap();
        assert_eq!(node["endpoint"], host.peers().unwrap().to_string());
        assert_eq!((&node["state"], &node["behind"]), (&json!("serving"), &json!(0)));
        assert!(node["lease_age_ms"].as_u64().unwrap() < 2_000, "{node}");
    }

    let session = trio.session(1).await.unwrap();
    let (code, drained, said) = cluster(2, &["drain", "n2"]).await;
    assert_eq!((code, &drained["shards_left"]), (Some(0), &json!(0)), "{said}");
    until("everybody knows that it drains", async || {
        let seen = nodes(&trio.administrator).await?;
        ensure!(
            seen.iter().any(|node| node.name == "n2" && node.state == "draining" && node.shards == 0),
            "{seen:?}"
        );
        Ok(())
    })
    .await
    .unwrap();
    // It owns nothing and still answers, for sessions old and new.
    assert_eq!(echoed(&session, "drained").await, json!({ "text": "drained" }));
    let new = trio.agent.client(&trio.nodes[1]).unwrap().session(HOUR).await.unwrap();
    assert_eq!(echoed(&new, "new").await, json!({ "text": "new" }));

    let (code, _, said) = cluster(0, &["drain", "nobody"]).await;
    assert_eq!(code, Some(1));
    assert!(said.contains("aesp cluster status"), "{said}");
    let (code, rebalanced, said) = cluster(0, &["rebalance"]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(rebalanced["moving"].is_u64(), "{rebalanced}");
    let query = v1::QueryEventsRequest { action: "cluster.operate".into(), ..Default::default() };
    let recorded = trio.administrator.audit().query_events(query).await.unwrap().into_inner().events;
    assert!(recorded.iter().any(|event| event.outcome() == v1::Outcome::Success), "{recorded:?}");
}

#[tokio::test]
async fn a_lone_node_and_a_cluster_do_not_share_a_store() {
    let site = Site::cluster(Vec::new()).await.unwrap();
    let lone = site.folder().join("data/lone.toml");
    let text = fs::read_to_string(site.config()).unwrap();
    let (before, rest) = text.split_once("[cluster]").unwrap();
    let after = rest.find("\n[").map_or("", |at| &rest[at..]);
    fs::write(&lone, format!("{before}{after}")).unwrap();
    let lone_node = || {
        let mut command = Command::new(site.binary());
        command.args(["node", "--output", "json", "--config"]).arg(&lone).kill_on_drop(true);
        command.args(["--set", "node.name=lone"]);
        command
    };

    let mut member = site.node("n1").await.unwrap();
    let refused = soon("the lone node ends", lone_node().output()).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("configure [cluster]"), "{said}");

    // The member is as well as before; when it has left, the store is free.
    let administrator = member.administrator().unwrap();
    assert_eq!(balanced(&administrator, 1).await.unwrap()[0].name, "n1");
    let query = v1::QueryEventsRequest { action: "cluster.store_contested".into(), ..Default::default() };
    let told = administrator.audit().query_events(query).await.unwrap().into_inner().events;
    assert_eq!(told[0].metadata.get("name").map(String::as_str), Some("n1"), "{told:?}");
    member.process().stop().await.unwrap();
    let mut process = aesp_tests::Process::start(lone_node(), &site.folder().join("lone.log")).unwrap();
    let listens = process.line("the lone node listens", |line| line.contains("\"listening\"").then_some(()));
    listens.await.unwrap();
    let error = member.restart().await.unwrap_err();
    assert!(format!("{error:#}").contains("lone"), "{error:#}");
}
