//! Events are found, counted, followed and exported: at one node, and at any of three.

use std::{collections::BTreeSet, fs, time::Duration};

use aesp_sdk::{Client, v1};
use aesp_tests::{Account, Tenant, Trio, World, command::json_of, soon, until};
use anyhow::{Context as _, ensure};
use futures::future::try_join_all;
use serde_json::{Value, json};
use tokio::time::timeout;

/// More events than a segment of the index has.
const MANY: usize = 4_400;
const AT_ONCE: usize = 64;
const QUIET: Duration = Duration::from_secs(1);

fn by_tool(tool: &str) -> Option<v1::AuditFilter> {
    Some(v1::AuditFilter {
        tools: vec![tool.into()],
        actions: vec!["tool.invoke".into()],
        ..v1::AuditFilter::default()
    })
}

async fn found(client: &Client, tenant: &Tenant, filter: Option<v1::AuditFilter>) -> Vec<String> {
    let mut request = v1::QueryEventsRequest { tenant_id: tenant.id().into(), filter, ..Default::default() };
    let mut ids = Vec::new();
    loop {
        let page = client.audit().query_events(request.clone()).await.unwrap().into_inner();
        ids.extend(page.events.into_iter().map(|event| event.event_id));
        if page.next_cursor.is_empty() {
            return ids;
        }
        request.page = Some(v1::Page { limit: 100, cursor: page.next_cursor });
    }
}

#[tokio::test]
async fn what_happened_is_found_counted_and_exported_in_every_format() {
    let world = World::new().await.unwrap();
    let _worker = world.echo().await.unwrap();
    let session = world.session().await.unwrap();
    let mut answered = BTreeSet::new();
    for number in 0..5 {
        let call = session.call("echo", json!({ "text": format!("{number}") }));
        answered.insert(call.with_invocation_id(format!("call-{number}")).await.unwrap().event_id);
    }
    let client = &world.administrator;
    let all: BTreeSet<String> = found(client, &world.acme, by_tool("echo")).await.into_iter().collect();
    assert_eq!(all, answered);
    let one = v1::AuditFilter {
        invocation_ids: vec!["call-3".into()],
        text: "ECHO tool".into(),
        ..by_tool("echo").unwrap()
    };
    assert_eq!(found(client, &world.acme, Some(one)).await.len(), 1);
    let half = v1::AuditFilter { event_types: vec![99], ..v1::AuditFilter::default() };
    let refused = v1::QueryEventsRequest { filter: Some(half), ..Default::default() };
    client.audit().query_events(refused).await.expect_err("it would show what nobody asked for");

    let admin = |arguments: &[&str]| {
        let mut command = world.host.command();
        command
            .env("AESP_API_KEY", world.host.administrator_key())
            .args(["-t", "acme", "audit"])
            .args(arguments);
        command
    };
    let stats = json_of(admin(&["stats", "--by", "tool,outcome", "--action", "tool.invoke"])).await.unwrap();
    let counts = stats["counts"].as_array().unwrap();
    assert_eq!((counts.len(), &counts[0]["tool"], &counts[0]["events"]), (1, &json!("echo"), &json!(5)));

    for format in ["csv", "ocsf", "cef", "syslog"] {
        let file = world.host.folder().join(format!("log.{format}"));
        let path = file.to_str().unwrap();
        json_of(admin(&[
            "export",
            "-f",
            path,
            "--format",
            format,
            "--tool",
            "echo",
            "--action",
            "tool.invoke",
        ]))
        .await
        .unwrap();
        let text = fs::read_to_string(&file).unwrap();
        assert_eq!(text.lines().count(), 5 + usize::from(format == "csv"), "{text}");
        assert!(answered.iter().all(|event| text.contains(event)), "{text}");
        if format == "ocsf" {
            let line: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
            assert_eq!(
                (&line["class_uid"], &line["api"]["operation"]),
                (&json!(6003), &json!("tool.invoke"))
            );
        }
        let manifest = format!("{path}.manifest");
        let verify = || admin(&["verify", path, "--manifest", &manifest]);
        let verified = json_of(verify()).await.unwrap();
        assert_eq!((&verified["complete"], &verified["events"]), (&json!(true), &json!(5)));
        fs::write(&file, text.replace("echo", "ohce")).unwrap();
        assert!(json_of(verify()).await.unwrap_err().to_string().contains("not those that were exported"));
    }
    let status = json_of(admin(&["index", "status"])).await.unwrap();
    assert_eq!((&status["usable"], &status["at_end"]), (&json!(true), &json!(false)));
}

/// Reports events to the Host, many at once, at each of the clients in turn.
async fn report(clients: &[Client], tenant: &Tenant, count: usize, action: &str) {
    let one = async |number: usize| {
        let mut event = v1::AuditEvent {
            tenant_id: tenant.id().into(),
            action: action.into(),
            reason: format!("{action} number {number}"),
            ..v1::AuditEvent::default()
        };
        event.set_event_type(v1::EventType::SystemEvent);
        event.set_outcome(v1::Outcome::Success);
        let request = v1::LogEventRequest { event: Some(event) };
        clients[number % clients.len()].audit().log_event(request).await
    };
    for first in (0..count).step_by(AT_ONCE) {
        try_join_all((first..(first + AT_ONCE).min(count)).map(one)).await.unwrap();
    }
}

/// Takes messages until so many events have come, then makes sure that no more do.
async fn take(
    client: &Client,
    request: v1::FollowEventsRequest,
    count: usize,
) -> anyhow::Result<Vec<(String, String)>> {
    let mut parts = client.audit().follow_events(request).await?.into_inner();
    let mut seen = Vec::new();
    while seen.len() < count {
        let part = soon("an event is followed", parts.message()).await??.context("the stream goes on")?;
        let cursor = part.cursor;
        seen.extend(part.events.into_iter().map(|event| (event.reason, cursor.clone())));
    }
    if let Ok(more) = timeout(QUIET, parts.message()).await {
        ensure!(more?.is_none_or(|part| part.events.is_empty()), "an event came twice");
    }
    Ok(seen)
}

#[tokio::test]
async fn events_are_followed_and_found_at_any_node_also_when_their_home_was_killed() {
    let mut trio = Trio::new().await.unwrap();
    let reporter: Account = trio.acme.account("reporter", &["tenant-admin"]).await.unwrap();
    let clients: Vec<Client> = trio.nodes.iter().map(|node| reporter.client(node).unwrap()).collect();
    let tenant_id = trio.acme.id().to_owned();
    let filter = Some(v1::AuditFilter { external: Some(true), ..v1::AuditFilter::default() });
    let now = v1::FollowEventsRequest { tenant_id: tenant_id.clone(), filter, ..Default::default() };

    // Through another node than those that commit; begun before anything happens.
    let following = tokio::spawn({
        let (client, request) = (clients[1].clone(), now.clone());
        async move { take(&client, request, 40).await }
    });
    until("the follower is there", async || {
        let query = v1::QueryEventsRequest {
            filter: Some(v1::AuditFilter { text: "followed".into(), ..Default::default() }),
            ..Default::default()
        };
        ensure!(!clients[0].audit().query_events(query).await?.into_inner().events.is_empty());
        Ok(())
    })
    .await
    .unwrap();
    report(&[clients[0].clone(), clients[2].clone()], &trio.acme, 40, "door").await;
    let seen = following.await.unwrap().unwrap();
    let expected: BTreeSet<String> = (0..40).map(|number| format!("door number {number}")).collect();
    assert_eq!(seen.iter().map(|(reason, _)| reason.clone()).collect::<BTreeSet<_>>(), expected);
    // The order is that of the log, and goes on at another node from any cursor.
    let cursor = seen[20].1.clone();
    let rest: Vec<String> = seen
        .iter()
        .skip_while(|(_, at)| *at != cursor)
        .skip_while(|(_, at)| *at == cursor)
        .map(|(reason, _)| reason.clone())
        .collect();
    let again = take(&clients[2], v1::FollowEventsRequest { cursor, ..now }, rest.len()).await.unwrap();
    assert_eq!(again.into_iter().map(|(reason, _)| reason).collect::<Vec<_>>(), rest);

    // A segment of the index, and another after the home has moved.
    let segments = async |client: &Client, at_least: u64| {
        let request = v1::GetAuditIndexRequest { tenant_id: tenant_id.clone() };
        let index = client.audit().get_audit_index(request).await?.into_inner();
        ensure!(index.segments >= at_least, "{index:?}");
        Ok(())
    };
    report(&clients, &trio.acme, MANY, "window").await;
    until("there is a segment", async || segments(&clients[2], 1).await).await.unwrap();
    for node in 0..2 {
        trio.nodes[node].process().kill().await.unwrap();
    }
    until("the node that is left answers", async || segments(&clients[2], 1).await).await.unwrap();
    until("it takes events", async || {
        let event =
            v1::AuditEvent { action: "door".into(), event_type: 10, outcome: 1, ..Default::default() };
        clients[2].audit().log_event(v1::LogEventRequest { event: Some(event) }).await?;
        Ok(())
    })
    .await
    .unwrap();
    report(&clients[2..], &trio.acme, MANY, "roof").await;
    until("the new home builds on", async || segments(&clients[2], 2).await).await.unwrap();

    trio.nodes[0].restart().await.unwrap();
    let back = reporter.client(&trio.nodes[0]).unwrap();
    for (text, count) in
        [("window number 7", 1), ("roof number 4399", 1), ("number 3 door", 1), ("nothing", 0)]
    {
        let filter = Some(v1::AuditFilter { text: text.into(), ..v1::AuditFilter::default() });
        let at_one = found(&clients[2], &trio.acme, filter.clone()).await;
        assert_eq!(at_one.len(), count, "{text}");
        assert_eq!(found(&back, &trio.acme, filter).await, at_one);
    }
    let request = v1::GetAuditStatisticsRequest {
        tenant_id: tenant_id.clone(),
        filter: Some(v1::AuditFilter { actions: vec!["audit.log".into()], ..Default::default() }),
        ..Default::default()
    };
    let counted = back.audit().get_audit_statistics(request).await.unwrap().into_inner();
    assert!(counted.counts[0].events > 2 * MANY as u64, "{counted:?}");
}
