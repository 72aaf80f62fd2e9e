use std::time::Duration;

use aesp_sdk::{
    CallResult, Error, ErrorCode, Session,
    v1::{ListRuntimesRequest, QueryEventsRequest},
};
use aesp_tests::{balanced, soon, until};
use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{report::Report, screen::short, stage::Stage, tamper};

type Shown = anyhow::Result<Vec<String>>;

/// Counts long enough in SQLite that a Runtime can be killed meanwhile.
const SLOW_QUERY: &str = "SELECT count(*) AS n FROM (WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c \
     WHERE x < 12000000) SELECT x FROM c)";

/// How many calls are answered before the node is killed, and after it.
const CALLS_AROUND_THE_KILL: u32 = 10;

/// Takes every step and reports each.
pub(crate) async fn all(stage: &mut Stage, report: &mut Report) {
    macro_rules! step {
        ($name:literal, $step:expr) => {
            let begun = Instant::now();
            let outcome = soon($name, Box::pin($step)).await.and_then(|shown| shown);
            report.step($name, begun, outcome);
        };
    }
    step!("an allowed call with its real result", allowed(stage));
    step!("arguments that violate the schema", off_schema(stage));
    step!("a tool that the role does not grant", not_granted(stage));
    step!("a call into the other tenant", other_tenant(stage));
    step!("a right revoked in the middle of a call", revoked(stage));
    step!("a Runtime killed during a call", killed(stage));
    step!("a node killed in the middle of the agent's work", node_killed(stage));
    step!("a tampered log found out", tamper::found_out(stage));
}

fn content(result: CallResult) -> anyhow::Result<String> {
    let content = result.into_content()?;
    Ok(content["content"][0]["text"].as_str().map_or_else(|| content.to_string(), str::to_owned))
}

/// Expects a refusal with one of these codes, and shows it.
fn refused<T>(outcome: Result<T, Error>, codes: &[ErrorCode]) -> anyhow::Result<String> {
    match outcome {
        Ok(_) => bail!("it was let through"),
        Err(error) if codes.contains(&error.code()) => {
            Ok(format!("refused: {}: {}", error.code().as_str_name(), short(error.message())))
        }
        Err(error) => bail!("refused with {}: {error}", error.code().as_str_name()),
    }
}

async fn allowed(stage: &Stage) -> Shown {
    let mut shown = Vec::new();
    let calls = [
        ("git_log", json!({ "repo_path": stage.repository, "max_count": 1 })),
        ("get_current_time", json!({ "timezone": "Europe/Zurich" })),
        ("db_read_query", json!({ "query": "SELECT count(*) AS books FROM books" })),
    ];
    for (tool, args) in calls {
        let result =
            stage.session.call(tool, args.clone()).await.with_context(|| format!("{tool} {args}"))?;
        let event = result.event_id.clone();
        let text = content(result).with_context(|| format!("{tool} {args}"))?;
        ensure!(!text.is_empty(), "{tool} said nothing");
        shown.push(format!("{tool} → {}", short(&text)));
        shown.push(format!("    recorded as {event}"));
    }
    Ok(shown)
}

async fn off_schema(stage: &Stage) -> Shown {
    let args = json!({ "repo_path": stage.repository, "max_count": "many" });
    let refusal = refused(stage.session.call("git_log", args).await, &[ErrorCode::SchemaViolation])?;
    Ok(vec!["git_log with max_count \"many\"".into(), refusal])
}

async fn not_granted(stage: &Stage) -> Shown {
    let args = json!({ "query": "DELETE FROM books" });
    let codes =
        [ErrorCode::PermissionDenied, ErrorCode::AuthorizationDenied, ErrorCode::InsufficientPermissions];
    let refusal = refused(stage.session.call("db_write_query", args).await, &codes)?;
    let tools: Vec<String> = stage.session.list_tools().await?.into_iter().map(|tool| tool.name).collect();
    ensure!(!tools.iter().any(|name| name == "db_write_query"), "it is listed nevertheless");
    Ok(vec![
        "db_write_query DELETE FROM books".into(),
        refusal,
        format!("listed are only: {}", tools.join(", ")),
    ])
}

async fn other_tenant(stage: &Stage) -> Shown {
    let args = json!({ "query": "SELECT 1" });
    let codes = [ErrorCode::ToolNotFound, ErrorCode::PermissionDenied];
    let tool = refused(stage.stranger.call("db_read_query", args).await, &codes)?;
    let taken = stage.stranger.client().resume(stage.session.id()).await;
    let session =
        refused(taken, &[ErrorCode::SessionInvalid, ErrorCode::NotFound, ErrorCode::TenantAccessDenied])?;
    Ok(vec![
        format!("globex's visitor calls acme's db_read_query; {tool}"),
        format!("globex's visitor takes acme's session; {session}"),
    ])
}

async fn revoked(stage: &Stage) -> Shown {
    let call = stage.session.call("prepare_report", json!({ "title": "all of it" }));
    let running = tokio::spawn(async move { call.await });
    running_at(stage, "reports-1").await?;
    let cancelled = stage.acme.revoke_role(&stage.agent.principal.principal_id, "reporter").await?;
    let returned = Instant::now();
    let codes = [
        ErrorCode::PermissionDenied,
        ErrorCode::AuthorizationDenied,
        ErrorCode::InsufficientPermissions,
        ErrorCode::Cancelled,
    ];
    let refusal = refused(running.await?, &codes)?;
    let ms = returned.elapsed().as_millis();
    let again = stage.session.call("prepare_report", json!({ "title": "again" })).await;
    refused(again, &codes)?;
    Ok(vec![
        format!("role reporter taken while prepare_report runs; {cancelled} call cancelled"),
        format!("{refusal} ({ms} ms after the revocation)"),
        "calling again is refused as well".into(),
    ])
}

async fn killed(stage: &mut Stage) -> Shown {
    let session: Session = stage.session.clone();
    let running =
        tokio::spawn(async move { session.call("db_read_query", json!({ "query": SLOW_QUERY })).await });
    let victim = running_at(stage, "db-").await?;
    let bridge = stage.bridges.iter_mut().find(|(server, _)| server.runtime_id == victim);
    let pid = match bridge {
        Some((_, process)) => {
            let pid = process.id();
            process.kill().await?;
            pid
        }
        None => bail!("{victim} is none of ours"),
    };
    let text = content(running.await??)?;
    ensure!(text.contains("12000000"), "another result: {text}");
    Ok(vec![
        format!("kill -9 {pid}, Runtime {victim}, while it works on db_read_query"),
        format!("read_only, so the Host gave it to the other Runtime: {}", short(&text)),
    ])
}

/// The agent calls on and on while the node that owns its session is killed.
async fn node_killed(stage: &mut Stage) -> Shown {
    let (session, enough) = (stage.session.clone(), CancellationToken::new());
    let (answered, mut count) = watch::channel(0_u32);
    let stop = enough.clone();
    let work = tokio::spawn(async move {
        let mut longest = Duration::ZERO;
        while !stop.is_cancelled() {
            let begun = Instant::now();
            content(session.call("get_current_time", json!({ "timezone": "UTC" })).await?)?;
            longest = longest.max(begun.elapsed());
            answered.send_modify(|count| *count += 1);
        }
        Ok::<_, anyhow::Error>(longest)
    });
    let before = *count.wait_for(|count| *count >= CALLS_AROUND_THE_KILL).await?;
    let pid = stage.owner.process().id();
    stage.owner.process().kill().await?;
    let after = count.wait_for(|count| *count >= before + CALLS_AROUND_THE_KILL).await.map(|count| *count);
    enough.cancel();
    let longest = work.await?.context("a call failed")?;
    let after = after?;
    let left = balanced(&stage.host.administrator()?, 2).await?;
    let shards: Vec<String> = left.iter().map(|node| format!("{} has {}", node.name, node.shards)).collect();
    Ok(vec![
        format!("kill -9 {pid}, node n2, which owned the agent's session, after {before} calls"),
        format!("the next {} calls were answered as well, none failed", after - before),
        format!("the longest took {} ms: that was the pause", longest.as_millis()),
        format!("its shards were taken over: {}", shards.join(", ")),
    ])
}

/// Waits until a Runtime whose id starts so works on a call, and returns its id.
async fn running_at(stage: &Stage, runtime: &str) -> anyhow::Result<String> {
    let administrator = stage.host.administrator()?;
    let ask = async || {
        let request = ListRuntimesRequest { tenant_id: stage.acme.id().to_owned() };
        let list = administrator.runtimes().list_runtimes(request).await;
        let list = list.map_err(|status| Error::from_status(&status))?.into_inner().runtimes;
        let busy = list.into_iter().find(|one| one.runtime_id.starts_with(runtime) && one.outstanding > 0);
        busy.map(|one| one.runtime_id).context("no such Runtime works on a call")
    };
    until("a Runtime works on the call", ask).await
}

/// Returns the newest event of acme's log, for people.
pub(crate) async fn newest(stage: &Stage) -> anyhow::Result<Value> {
    let events = stage.acme.events(QueryEventsRequest::default()).await?;
    let event = events.into_iter().next().context("the log is empty")?;
    Ok(json!({ "id": event.event_id, "action": event.action }))
}
