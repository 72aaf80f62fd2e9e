//! The bridge between a stub of the Host and real MCP servers.

mod peers;
#[path = "../../rust/tests/stub/mod.rs"]
mod stub;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use aesp_bridge::{Bridge, BridgeOptions, Error, McpCommand, Selection, list_tools_json};
use aesp_proto::{
    Entropy, ErrorCode,
    v1::{CancelCall, ToolResult, host_frame, runtime_frame},
};
use aesp_sdk::{Runtime, RuntimeBuilder, RuntimeHandle, ToolFailure};
use serde_json::{Value, json};
use stub::{Pki, RuntimePeer, Stub, soon};
use tokio::task::JoinHandle;

fn runtime(pki: &Pki, stub: &Stub) -> RuntimeBuilder {
    Runtime::builder("bridge-1", pki.tls_with_identity())
        .endpoint(stub.endpoint())
        .entropy(Entropy::from_seed(1))
}

fn options(line: &[&str]) -> BridgeOptions {
    let mut options = BridgeOptions::new(McpCommand::new(line.iter().copied()).expect("has a program"));
    options.restart_base = Duration::from_millis(20);
    options
}

/// A bridge that runs, and the Host's end of its connection.
struct Running {
    host: RuntimePeer,
    offered: Vec<String>,
    handle: RuntimeHandle,
    run: JoinHandle<Result<(), Error>>,
    _stub: Stub,
}

impl Running {
    async fn start(options: BridgeOptions) -> Self {
        let pki = Pki::new();
        let mut stub = Stub::start(&pki).await;
        let bridge = Bridge::start(options, runtime(&pki, &stub)).await.expect("the server starts");
        let handle = bridge.handle();
        let run = tokio::spawn(bridge.run());
        let mut host = stub.runtime().await;
        let (_, offered) = host.welcome(0, 0).await;
        Self { host, offered, handle, run, _stub: stub }
    }

    async fn call(&mut self, n: u8, tool: &str, args: Value) -> Result<Value, ToolFailure> {
        self.host.call(n, tool, &args);
        let result = self.host.result().await;
        self.host.acknowledge(&result);
        outcome(result)
    }

    /// Drains the bridge and waits until it has ended.
    async fn drain(mut self) {
        self.handle.drain("the test is over");
        while self.host.next().await.is_some() {}
        soon("the bridge ends", self.run).await.expect("runs").expect("ends in order");
    }
}

fn outcome(result: ToolResult) -> Result<Value, ToolFailure> {
    let result = result.result.expect("has a result");
    match result.error {
        Some(error) => Err(error.into()),
        None => Ok(serde_json::from_slice(&result.content_json).expect("is JSON")),
    }
}

fn text(content: &Value) -> &str {
    content["content"][0]["text"].as_str().expect("has a text")
}

fn git(folder: &Path, args: &[&str]) {
    let identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "commit.gpgsign=false"];
    let done = Command::new("git").current_dir(folder).args(identity).args(args).output().expect("git runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// Writes a shell script; the environment of a child is cleared, so it carries its parameters in its text.
fn script(folder: &Path, text: &str) -> String {
    let path = folder.join("server.sh");
    fs::write(&path, text).expect("is written");
    path.to_str().expect("is UTF-8").to_owned()
}

fn kill(pid: &str) {
    let done =
        Command::new("sh").args(["-c", &format!("kill -KILL {}", pid.trim())]).status().expect("sh runs");
    assert!(done.success());
}

/// Returns the processes of a group that run still, as `/proc` shows them.
fn running_in(group: &str) -> Vec<String> {
    let stats = fs::read_dir("/proc").expect("is there").filter_map(|entry| {
        let stat = fs::read_to_string(entry.ok()?.path().join("stat")).ok()?;
        let rest = stat.rsplit_once(')')?.1.to_owned();
        let fields: Vec<_> = rest.split_whitespace().collect();
        (fields[0] != "Z" && fields[2] == group).then_some(stat)
    });
    stats.collect()
}

async fn content_of(path: PathBuf) -> String {
    let read = async {
        loop {
            match tokio::fs::read_to_string(&path).await {
                Ok(text) if !text.is_empty() => return text,
                _ => tokio::task::yield_now().await,
            }
        }
    };
    soon("the file appears", read).await
}

#[tokio::test]
async fn the_time_server_answers_and_fails_through_the_host() {
    let Some(time) = peers::server("mcp-server-time") else { return };
    let mut bridge = Running::start(options(&[time.to_str().unwrap()])).await;
    assert_eq!(bridge.offered, ["convert_time", "get_current_time"]);
    let now = bridge.call(1, "get_current_time", json!({"timezone": "Europe/Paris"})).await.unwrap();
    assert!(text(&now).contains("Europe/Paris"), "{now}");
    let failed = bridge.call(2, "get_current_time", json!({"timezone": "Nowhere/Never"})).await.unwrap_err();
    assert!(failed.message().contains("Nowhere/Never"), "{failed}");
    let refused = bridge.call(3, "get_current_time", json!(["no", "object"])).await.unwrap_err();
    assert_eq!(refused.kind(), ToolFailure::SCHEMA_VIOLATION);
    bridge.drain().await;
}

#[tokio::test]
async fn the_git_server_reads_a_repository_under_a_prefix() {
    let Some(server) = peers::server("mcp-server-git") else { return };
    let folder = tempfile::tempdir().unwrap();
    git(folder.path(), &["init", "-q"]);
    git(folder.path(), &["commit", "-q", "--allow-empty", "-m", "the first commit"]);
    let repository = folder.path().to_str().unwrap();
    let mut options = options(&[server.to_str().unwrap(), "--repository", repository]);
    options.selection =
        Selection { prefix: "vcs_".to_owned(), include: vec!["git_log".to_owned(), "git_status".to_owned()] };
    let mut bridge = Running::start(options).await;
    assert_eq!(bridge.offered, ["vcs_git_log", "vcs_git_status"]);
    let log = bridge.call(1, "vcs_git_log", json!({"repo_path": repository, "max_count": 5})).await.unwrap();
    assert!(text(&log).contains("the first commit"), "{log}");
    bridge.drain().await;
}

/// Runs until it is cancelled, for any purpose of a test.
const ENDLESS: &str =
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";

#[tokio::test]
async fn a_cancellation_reaches_the_server_and_a_stuck_one_is_stopped() {
    let Some(sqlite) = peers::sqlite() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (heard, pid) = (folder.path().join("heard"), folder.path().join("pid"));
    let line = script(
        folder.path(),
        &format!(
            "echo $$ > {}; tee {} | {} --db-path {}",
            pid.display(),
            heard.display(),
            sqlite.display(),
            folder.path().join("test.db").display()
        ),
    );
    let mut bridge = Running::start(options(&["sh", &line])).await;
    bridge.call(1, "create_table", json!({"query": "CREATE TABLE t (x INTEGER)"})).await.unwrap();
    bridge.call(2, "write_query", json!({"query": "INSERT INTO t VALUES (42)"})).await.unwrap();
    let rows = bridge.call(3, "read_query", json!({"query": "SELECT x FROM t"})).await.unwrap();
    assert!(text(&rows).contains("42"), "{rows}");

    // The server reads its input one by one and is busy from here on; what it was sent is seen by `tee`.
    bridge.host.call(
        5,
        "read_query",
        &json!({"query": ENDLESS.replace("WITH", "SELECT * FROM (WITH") + ")"}),
    );
    let sent = async {
        while !fs::read_to_string(&heard).unwrap().contains("RECURSIVE") {
            tokio::task::yield_now().await;
        }
    };
    soon("the query is sent", sent).await;
    bridge
        .host
        .send(host_frame::Frame::Cancel(CancelCall { dispatch_id: vec![5; 16], reason: "enough".into() }));
    let result = bridge.host.result().await;
    assert_eq!(outcome(result.clone()).unwrap_err().kind(), ToolFailure::CANCELLED);
    let told = async {
        while !fs::read_to_string(&heard).unwrap().contains("notifications/cancelled") {
            tokio::task::yield_now().await;
        }
    };
    soon("the server is told", told).await;
    // It never comes back to its input, so closing that is not enough to stop it, and the shell does not know how.
    let group = content_of(pid).await;
    bridge.host.acknowledge(&result);
    bridge.drain().await;
    // A killed process stands in the table until the system has reaped it.
    let gone = async {
        while !running_in(group.trim()).is_empty() {
            tokio::task::yield_now().await;
        }
    };
    soon("no process of the server is left", gone).await;
}

#[tokio::test]
async fn a_server_that_dies_fails_its_calls_and_comes_back() {
    let Some(sqlite) = peers::sqlite() else { return };
    let folder = tempfile::tempdir().unwrap();
    let pid = folder.path().join("pid");
    let database = folder.path().join("test.db");
    let line = script(
        folder.path(),
        &format!("echo $$ > {}; exec {} --db-path {}", pid.display(), sqlite.display(), database.display()),
    );
    let mut bridge = Running::start(options(&["sh", &line])).await;
    bridge.call(1, "list_tables", json!({})).await.unwrap();
    let first = content_of(pid.clone()).await;
    fs::remove_file(&pid).unwrap();
    bridge.host.call(
        2,
        "read_query",
        &json!({"query": ENDLESS.replace("WITH", "SELECT * FROM (WITH") + ")"}),
    );
    kill(&first);
    let result = loop {
        match tokio::time::timeout(Duration::from_secs(3), bridge.host.result()).await {
            Ok(result) => break result,
            // The call reached the bridge after the death, so the next server has it: that one dies too.
            Err(_) => {
                kill(&content_of(pid.clone()).await);
                fs::remove_file(&pid).unwrap();
            }
        }
    };
    bridge.host.acknowledge(&result);
    assert_eq!(outcome(result).unwrap_err().kind(), ToolFailure::TRANSPORT_ERROR);
    // This one waits for the server to be there again.
    let tables = bridge.call(3, "list_tables", json!({})).await.unwrap();
    assert!(text(&tables).contains('['), "{tables}");
    assert_ne!(content_of(pid).await, first);
    bridge.drain().await;
}

#[tokio::test]
async fn tools_that_are_gone_after_a_restart_are_withdrawn() {
    let (Some(time), Some(git_server)) = (peers::server("mcp-server-time"), peers::server("mcp-server-git"))
    else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (pid, again) = (folder.path().join("pid"), folder.path().join("again"));
    let line = script(
        folder.path(),
        &format!(
            "if [ -e {again} ]; then exec {git_server}; fi; touch {again}; echo $$ > {pid}; exec {time}",
            again = again.display(),
            git_server = git_server.display(),
            pid = pid.display(),
            time = time.display(),
        ),
    );
    let mut options = options(&["sh", &line]);
    options.selection.prefix = "x_".to_owned();
    let mut bridge = Running::start(options).await;
    assert_eq!(bridge.offered, ["x_convert_time", "x_get_current_time"]);
    kill(&content_of(pid).await);
    let Some(runtime_frame::Frame::CapabilityUpdate(update)) = bridge.host.next().await else {
        panic!("no update")
    };
    assert_eq!(update.withdrawn_tools, ["x_convert_time", "x_get_current_time"]);
    let offered = bridge.host.offer().await;
    assert!(offered.contains(&"x_git_log".to_owned()), "{offered:?}");
    let gone = bridge.call(1, "x_convert_time", json!({})).await.unwrap_err();
    assert_eq!(gone.kind(), ToolFailure::NOT_FOUND);
    bridge.drain().await;
}

#[tokio::test]
async fn a_drained_bridge_lets_its_server_end_in_order() {
    let Some(time) = peers::server("mcp-server-time") else { return };
    let folder = tempfile::tempdir().unwrap();
    let ended = folder.path().join("ended");
    // Not ended by a signal, or the rest of the script would not run.
    let line = script(folder.path(), &format!("{}; echo in order > {}", time.display(), ended.display()));
    let bridge = Running::start(options(&["sh", &line])).await;
    bridge.drain().await;
    assert_eq!(fs::read_to_string(ended).unwrap(), "in order\n");
}

#[tokio::test]
async fn the_list_for_the_import_is_the_servers_own() {
    let Some(time) = peers::server("mcp-server-time") else { return };
    let command = McpCommand::new([time.to_str().unwrap()]).unwrap();
    let list = list_tools_json(&command).await.unwrap();
    let tools = list["tools"].as_array().unwrap();
    let convert = tools.iter().find(|tool| tool["name"] == "convert_time").unwrap();
    assert_eq!(convert["inputSchema"]["type"], "object");
    assert!(convert["inputSchema"]["properties"]["time"].is_object());
}

#[tokio::test]
async fn what_can_not_be_bridged_says_why() {
    let pki = Pki::new();
    let stub = Stub::start(&pki).await;
    let start = |options| Bridge::start(options, runtime(&pki, &stub));
    let missing = start(options(&["/nowhere/at-all"])).await.unwrap_err();
    assert!(matches!(missing, Error::Spawn { .. }), "{missing:?}");
    let silent = start(options(&["true"])).await.unwrap_err();
    assert!(matches!(silent, Error::Handshake { .. }), "{silent:?}");
    let told = aesp_proto::Error::from(silent);
    assert_eq!(told.code(), ErrorCode::TransportError);
    assert!(told.remediation().unwrap().contains("standard error"));

    let Some(time) = peers::server("mcp-server-time") else { return };
    let mut unknown = options(&[time.to_str().unwrap()]);
    unknown.selection.include = vec!["no_such_tool".to_owned()];
    let unknown = start(unknown).await.unwrap_err();
    assert!(matches!(&unknown, Error::UnknownTool { tool, .. } if tool == "no_such_tool"), "{unknown:?}");
}
