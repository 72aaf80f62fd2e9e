use std::{fs, path::Path, time::Duration};

use aesp_sdk::{Credentials, Session, v1::Effects};
use aesp_tests::{Account, Contract, Host, Process, Site, Tenant, Worker, balanced, object, platform};
use anyhow::{Context, ensure};
use serde_json::json;
use tokio::{process::Command, time::Instant};

use crate::{
    bridges::{self, Server},
    report::Report,
    screen::say,
};

const HOUR: Duration = Duration::from_secs(3600);
/// What an administrator found to have no effects when reviewing the drafts.
const READS: [&str; 8] = [
    "git_log",
    "git_status",
    "git_show",
    "get_current_time",
    "convert_time",
    "db_read_query",
    "db_list_tables",
    "db_describe_table",
];

/// The Host, its tenants, Runtimes and agents.
pub(crate) struct Stage {
    /// The node that people and Runtimes are sent to.
    pub(crate) host: Host,
    /// The node that owns the agent's session; it is killed.
    pub(crate) owner: Host,
    third: Host,
    pub(crate) repository: String,
    pub(crate) acme: Tenant,
    pub(crate) globex: Tenant,
    pub(crate) agent: Account,
    pub(crate) session: Session,
    pub(crate) stranger: Session,
    pub(crate) bridges: Vec<(Server, Process)>,
    worker: Worker,
}

impl Stage {
    pub(crate) async fn set(report: &mut Report) -> anyhow::Result<Self> {
        let begun = Instant::now();
        let site = Site::cluster(Vec::new()).await?;
        let (host, owner) = (site.node("n1").await?, site.node("n2").await?);
        let third = site.node("n3").await?;
        say(&format!("Host   three nodes on one store, in {}", site.folder().display()));
        for node in [&host, &owner, &third] {
            say(&format!("       {}  {}  (process of its own)", node.name().unwrap_or_default(), node.url()));
        }
        let administrator = host.administrator()?;
        balanced(&administrator, 3).await?;
        let acme = platform::create_tenant(&administrator, "acme").await?;
        let globex = platform::create_tenant(&administrator, "globex").await?;
        let repository = repository()?;
        let database = host.folder().join("library.db");
        generate(&database).await?;

        let servers = bridges::servers(&repository, &database.to_string_lossy())?;
        let mut drafts = Vec::new();
        for server in &servers[..3] {
            drafts.extend(bridges::adopt(&host, &acme, server, &READS).await?);
        }
        let slow = Contract::new("prepare_report")
            .takes(&object(&json!({ "title": { "type": "string" } })))
            .effects(Effects::ReadOnly);
        acme.offer(slow).await?;
        let mut bridges = Vec::new();
        for server in servers {
            let process = bridges::start(&host, &server, &[&acme]).await?;
            bridges.push((server, process));
        }
        for (server, _) in &bridges {
            let tools = bridges::connected(&host, &acme, server.runtime_id).await?;
            say(&format!("       Runtime {:6} bridges {} ({tools} tools)", server.runtime_id, name(server)));
        }
        let worker = slow_runtime(&host, &acme).await?;

        let granted: Vec<String> = READS.iter().map(|tool| format!("tool:{tool}")).collect();
        acme.role("reader", &granted.iter().map(String::as_str).collect::<Vec<_>>()).await?;
        acme.role("reporter", &["tool:prepare_report"]).await?;
        let agent = acme.account("assistant", &["reader", "reporter"]).await?;
        // A session is born at the node that is asked for it; the others know it, too.
        let key = Credentials::ApiKey(agent.api_key.as_str().into());
        let session = site.client(&[&owner, &host, &third], key)?.session(HOUR).await?;
        globex.role("caller", &["*"]).await?;
        let stranger = globex.account("visitor", &["caller"]).await?.client(&host)?.session(HOUR).await?;
        let shown = vec![
            format!(
                "tenants acme and globex; {} drafts imported from three servers and activated",
                drafts.len()
            ),
            "account assistant of acme may read; account visitor of globex may call all that globex has"
                .into(),
        ];
        report.step("three nodes, tenants, contracts, Runtimes", begun, Ok(shown));
        Ok(Self { host, owner, third, repository, acme, globex, agent, session, stranger, bridges, worker })
    }

    /// Ends the processes in order.
    pub(crate) async fn end(mut self) {
        self.worker.handle().drain("the demonstration is over");
        for (_, bridge) in &mut self.bridges {
            if let Err(error) = bridge.stop().await {
                say(&format!("a bridge did not stop: {error:#}"));
            }
        }
        // The owner may have been killed by the demonstration.
        for node in [&mut self.owner, &mut self.third, &mut self.host] {
            if let Err(error) = node.process().stop().await {
                say(&format!("a node did not stop: {error:#}"));
            }
        }
    }
}

fn name(server: &Server) -> String {
    let program = server.line.first().map(Path::new).and_then(Path::file_name);
    program.unwrap_or_default().to_string_lossy().into_owned()
}

/// The clone that this program was built from.
fn repository() -> anyhow::Result<String> {
    let root = fs::canonicalize(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))?;
    ensure!(root.join(".git").exists(), "{} is no clone of a git repository", root.display());
    Ok(root.to_string_lossy().into_owned())
}

/// Generates a database with a few books.
async fn generate(path: &Path) -> anyhow::Result<()> {
    let script = "import sqlite3, sys
c = sqlite3.connect(sys.argv[1])
c.execute('create table books (id integer primary key, title text, year integer)')
c.executemany('insert into books (title, year) values (?, ?)', [(f'Volume {n}', 1900 + n % 120) for n in range(500)])
c.commit()";
    let done = Command::new("python3").arg("-c").arg(script).arg(path).output().await;
    let done = done.context("python3, which the MCP servers need as well, does not start")?;
    ensure!(done.status.success(), "no database: {}", String::from_utf8_lossy(&done.stderr));
    Ok(())
}

/// A Runtime of the demonstration's own, with a tool that takes long.
async fn slow_runtime(host: &Host, tenant: &Tenant) -> anyhow::Result<Worker> {
    let certificate = platform::register(host, "reports-1", &[tenant]).await?;
    let runtime = Worker::builder(host, "reports-1", &certificate)?;
    Worker::start(runtime.tool("prepare_report", async |_, args| {
        tokio::time::sleep(Duration::from_secs(20)).await;
        Ok(args)
    }))
    .await
}
