//! Alerts of three real nodes, told to Alertmanager itself and to webhooks, while homes are killed.

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    net::TcpListener as StdListener,
    sync::{Arc, Mutex},
};

use aesp_sdk::v1;
use aesp_tests::{Host, Process, Trio, balanced, command::json_of, peers, until};
use anyhow::{Context, ensure};
use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, Uri},
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{net::TcpListener, process::Command};

/// The alerts that came, with the path on which they came.
#[derive(Default)]
struct Inside(Mutex<Vec<(String, Value)>>);

async fn take(State(inside): State<Arc<Inside>>, uri: Uri, Json(body): Json<Value>) -> StatusCode {
    let alerts = body["alerts"].as_array().unwrap().clone();
    inside.0.lock().unwrap().extend(alerts.into_iter().map(|alert| (uri.path().to_owned(), alert)));
    StatusCode::OK
}

impl Inside {
    /// Returns the alerts of a rule that came on a path.
    fn of(&self, path: &str, rule: &str) -> Vec<Value> {
        let all = self.0.lock().unwrap();
        let is = |(at, alert): &&(String, Value)| at == path && alert["labels"]["alertname"] == rule;
        all.iter().filter(is).map(|(_, alert)| alert.clone()).collect()
    }

    async fn has(&self, path: &str, rule: &str) -> Value {
        let what = format!("{path} is told of {rule}");
        let found = until(&what, async || self.of(path, rule).first().cloned().context("nothing came"));
        found.await.unwrap()
    }
}

struct Receivers {
    inside: Arc<Inside>,
    section: String,
    _alertmanager: Process,
    _folder: TempDir,
}

/// Alertmanager, which tells `/am`, and the webhooks `/soc` and `/duty`.
async fn receivers() -> anyhow::Result<Receivers> {
    let program = peers::alertmanager()?;
    let inside = Arc::<Inside>::default();
    let routes = Router::new().fallback(take).with_state(Arc::clone(&inside));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let hook = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name).display().to_string();
    let config = format!(
        "route:\n  receiver: hook\n  group_by: ['...']\n  group_wait: 0s\n  group_interval: 1s\n\
         receivers:\n- name: hook\n  webhook_configs:\n  - url: {hook}/am\n    send_resolved: true\n"
    );
    fs::write(at("am.yml"), config)?;
    fs::write(at("secret"), "canary-of-the-hook")?;
    let port = StdListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut command = Command::new(program);
    command.arg(format!("--config.file={}", at("am.yml"))).arg(format!("--storage.path={}", at("am")));
    command.arg(format!("--web.listen-address=127.0.0.1:{port}")).arg("--cluster.listen-address=");
    let alertmanager = Process::start(command, &folder.path().join("am.log"))?;
    let webhook = |name: &str| {
        format!(
            "\n[[alerts.receivers]]\nname = \"{name}\"\nkind = \"webhook\"\ntarget = \"{hook}/{name}\"\nsecret = \"file:{}\"\n\
             tenants = [\"*\"]\ngroup_wait_seconds = 0\ngroup_interval_seconds = 1\n",
            at("secret")
        )
    };
    let section = format!(
        "\n[alerts]\ndefault = [\"ops\"]\n\n[[alerts.receivers]]\nname = \"ops\"\nkind = \"alertmanager\"\n\
         target = \"http://127.0.0.1:{port}\"\ngroup_wait_seconds = 0\ngroup_interval_seconds = 1\n{}{}",
        webhook("soc"),
        webhook("duty")
    );
    Ok(Receivers { inside, section, _alertmanager: alertmanager, _folder: folder })
}

async fn trio(section: &str) -> Trio {
    let mut trio = Trio::new().await.unwrap();
    let mut config = fs::OpenOptions::new().append(true).open(trio.site.config()).unwrap();
    config.write_all(section.as_bytes()).unwrap();
    for node in &mut trio.nodes {
        node.process().stop().await.unwrap();
        node.restart().await.unwrap();
    }
    balanced(&trio.administrator, 3).await.unwrap();
    trio
}

fn aesp(host: &Host, tenant: &str, arguments: &[&str]) -> Command {
    let mut command = host.command();
    command.env("AESP_API_KEY", host.administrator_key()).args(["--output", "json"]);
    if !tenant.is_empty() {
        command.args(["--tenant", tenant]);
    }
    command.arg("alert").args(arguments);
    command
}

async fn apply(trio: &Trio, tenant: &str, text: &str) -> anyhow::Result<Value> {
    let file = trio.site.folder().join("rules.toml");
    fs::write(&file, text)?;
    json_of(aesp(&trio.nodes[0], tenant, &["rules", "apply", "-f", &file.display().to_string()])).await
}

/// Adds events to the tenant's log that somebody reports.
async fn knock(trio: &Trio, door: &str, count: usize) {
    for _ in 0..count {
        let mut event = v1::AuditEvent {
            tenant_id: trio.acme.id().to_owned(),
            action: "door.knock".into(),
            resource: format!("door:{door}"),
            ..Default::default()
        };
        event.set_event_type(v1::EventType::SystemEvent);
        event.set_outcome(v1::Outcome::Success);
        let request = v1::LogEventRequest { event: Some(event) };
        until("the event is taken", async || {
            Ok(trio.administrator.audit().log_event(request.clone()).await?)
        })
        .await
        .unwrap();
    }
}

async fn recorded(trio: &Trio, action: &str) -> anyhow::Result<usize> {
    let request = v1::QueryEventsRequest { action: action.into(), ..Default::default() };
    Ok(trio.acme.events(request).await?.len())
}

/// Returns which node is the tenant's home.
async fn home(trio: &Trio) -> usize {
    let home = until("the tenant has a home", async || {
        // Whoever is asked for a session asks the home.
        trio.session(0).await?;
        let request = v1::GetTenantUsageRequest { tenant_id: trio.acme.id().to_owned() };
        let usage = trio.administrator.tenants().get_tenant_usage(request).await?.into_inner();
        let home = usage.nodes.iter().find(|node| node.home).with_context(|| format!("{usage:?}"))?;
        ["n1", "n2", "n3"].iter().position(|name| *name == home.name).with_context(|| home.name.clone())
    });
    home.await.unwrap()
}

const KNOCKS: &str = "[[rules]]\nname = \"knocks\"\nseverity = \"high\"\ncount = 6\nwindow = \"1h\"\ngroup_by = [\"resource\"]\n\
    events = { actions = [\"audit.log\"], fields = { reported_action = \"door.knock\" } }\n\
    annotations = { summary = \"{value} knocks at {resource}\" }\n\
    [[tests]]\nname = \"six\"\nevents = [{ at = \"0s\", action = \"audit.log\", fields = { reported_action = \"door.knock\" }, repeat = 6 }]\n\
    until = \"1m\"\nexpect = [{ rule = \"knocks\" }]\n";

#[tokio::test]
async fn failed_logins_and_events_are_told_once_though_homes_are_killed() {
    let receivers = match receivers().await {
        Ok(receivers) => receivers,
        Err(error) => return peers::skip(&error.to_string()),
    };
    let (inside, mut trio) = (&receivers.inside, trio(&receivers.section).await);

    // Strangers guess at any node: it is in the platform's log, and its built-in rule is tuned.
    apply(&trio, "", "[builtin.failed-authentications]\ncount = 5\n").await.unwrap();
    for node in [0, 1, 2, 0, 1, 2] {
        let request = v1::AuthenticateServiceAccountRequest { api_key: "not-a-key".into() };
        let mut authentication = trio.nodes[node].administrator().unwrap().authentication();
        let refused = authentication.authenticate_service_account(request).await;
        assert!(refused.is_err(), "{refused:?}");
    }
    let told = inside.has("/am", "failed-authentications").await;
    assert_eq!(told["labels"]["source_ip"], "127.0.0.0/24", "{told}");

    // A home that is killed between the events, and another after the alert.
    let acme = trio.acme.id().to_owned();
    let text = format!(
        "{}receivers = [\"ops\", \"soc\"]\n{}",
        &KNOCKS[..KNOCKS.find("[[tests]]").unwrap()],
        &KNOCKS[KNOCKS.find("[[tests]]").unwrap()..]
    );
    let applied = apply(&trio, &acme, &text).await.unwrap();
    assert_eq!(applied["version"], 1, "{applied}");
    knock(&trio, "front", 3).await;
    let first = home(&trio).await;
    trio.nodes[first].process().kill().await.unwrap();
    knock(&trio, "front", 3).await;
    let told = inside.has("/soc", "knocks").await;
    assert_eq!(told["annotations"]["summary"], "6 knocks at door:front", "{told}");
    inside.has("/am", "knocks").await;
    trio.nodes[first].restart().await.unwrap();
    balanced(&trio.administrator, 3).await.unwrap();
    let second = home(&trio).await;
    trio.nodes[second].process().kill().await.unwrap();
    knock(&trio, "back", 6).await;
    until("the other is told, too", async || {
        let doors: BTreeSet<String> =
            inside.of("/soc", "knocks").iter().map(|alert| alert["labels"]["resource"].to_string()).collect();
        ensure!(doors.len() == 2, "{doors:?}");
        Ok(())
    })
    .await
    .unwrap();
    trio.nodes[second].restart().await.unwrap();
    balanced(&trio.administrator, 3).await.unwrap();
    assert_eq!(recorded(&trio, "alert.fired").await.unwrap(), 2, "each once");
    for (path, key) in [("/soc", "dedup_key"), ("/am", "fingerprint")] {
        until("each is one alert there, too", async || {
            let keys: BTreeSet<String> =
                inside.of(path, "knocks").iter().map(|alert| alert[key].to_string()).collect();
            ensure!(keys.len() == 2, "{path}: {keys:?}");
            Ok(())
        })
        .await
        .unwrap();
    }
    let deliveries =
        json_of(aesp(&trio.nodes[0], &acme, &["deliveries", "--receiver", "soc"])).await.unwrap();
    assert!(
        deliveries["deliveries"].as_array().unwrap().iter().any(|one| one["outcome"] == "delivered"),
        "{deliveries}"
    );
    assert!(!deliveries.to_string().contains("canary-of-the-hook"));
    assert!(recorded(&trio, "alert.delivered").await.unwrap() >= 2);
}

#[tokio::test]
async fn what_is_silenced_is_not_told_and_what_nobody_acknowledges_is_told_to_others() {
    let receivers = match receivers().await {
        Ok(receivers) => receivers,
        Err(error) => return peers::skip(&error.to_string()),
    };
    let (inside, trio) = (&receivers.inside, trio(&receivers.section).await);
    let acme = trio.acme.id().to_owned();
    let more = "receivers = [\"soc\"]\nescalate = [{ after = \"10s\", receivers = [\"duty\"] }]\n";
    let (rule, tests) = KNOCKS.split_at(KNOCKS.find("[[tests]]").unwrap());
    let broken = tests.replace("repeat = 6", "repeat = 5");
    let refused = apply(&trio, &acme, &format!("{rule}{more}{broken}")).await.unwrap_err();
    assert!(refused.to_string().contains("missing: knocks fired"), "{refused}");
    apply(&trio, &acme, &format!("{rule}{more}{tests}")).await.unwrap();

    let run = async |arguments: &[&str]| json_of(aesp(&trio.nodes[1], &acme, arguments)).await.unwrap();
    let silence = run(&["silence", "alertname=knocks", "resource=door:quiet", "--reason", "works"]).await;
    knock(&trio, "quiet", 6).await;
    knock(&trio, "loud", 6).await;
    knock(&trio, "cared", 6).await;
    let of = async |door: &str| {
        let found = until("the alert is listed", async || {
            let listed = json_of(aesp(&trio.nodes[2], &acme, &["list"])).await?;
            let alerts = listed["alerts"].as_array().cloned().unwrap_or_default();
            alerts
                .into_iter()
                .find(|alert| alert["labels"]["resource"] == format!("door:{door}"))
                .context("not yet")
        });
        found.await.unwrap()
    };
    let cared = of("cared").await;
    run(&["ack", cared["alert_id"].as_str().unwrap(), "--note", "on it"]).await;
    let quiet = of("quiet").await;
    assert!(quiet["silenced_until_ms"].as_i64().is_some_and(|until| until > 0), "{quiet}");
    let told = inside.has("/duty", "knocks").await;
    assert_eq!(told["labels"]["resource"], "door:loud", "{told}");
    let doors = |path: &str| -> BTreeSet<String> {
        inside
            .of(path, "knocks")
            .iter()
            .map(|alert| alert["labels"]["resource"].as_str().unwrap().to_owned())
            .collect()
    };
    assert!(!doors("/soc").contains("door:quiet") && !doors("/duty").contains("door:cared"));
    run(&["unsilence", silence["silence_id"].as_str().unwrap()]).await;
    until("what was silenced is told", async || {
        ensure!(doors("/soc").contains("door:quiet"));
        Ok(())
    })
    .await
    .unwrap();
    let resolved = run(&["ack", cared["alert_id"].as_str().unwrap(), "--resolve"]).await;
    assert_eq!(resolved["status"], "resolved", "{resolved}");

    // The rules that hold are tried on what is in the log.
    let tried = run(&["rules", "test", "--since", "1"]).await;
    assert_eq!(tried["happened"].as_array().unwrap().len(), 3, "{tried}");
    let rolled = apply(&trio, &acme, "").await.unwrap();
    assert_eq!(rolled["version"], 2, "{rolled}");
    let back = run(&["rules", "rollback", "1", "--comment", "as it was"]).await;
    assert_eq!((&back["version"], &back["rolled_back_to"]), (&3.into(), &1.into()), "{back}");
    assert_eq!(run(&["rules", "history"]).await["versions"].as_array().unwrap().len(), 3);
    assert_eq!(run(&["rules", "show", "knocks"]).await["rule"]["kind"], "threshold");
}
