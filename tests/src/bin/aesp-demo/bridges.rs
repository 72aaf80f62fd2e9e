use std::path::{Path, PathBuf};

use aesp_bridge::{McpCommand, list_tools_json};
use aesp_sdk::{
    Error,
    v1::{ContractDraft, Effects, EnterpriseToolContract, ImportMcpRequest, ListRuntimesRequest, Risk},
};
use aesp_tests::{Contract, Host, Process, Tenant, peers, platform, until};
use anyhow::{Context, ensure};
use tokio::process::Command;

/// A real MCP server, and what its Runtime is called.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) runtime_id: &'static str,
    pub(crate) prefix: &'static str,
    pub(crate) line: Vec<String>,
}

fn line(program: PathBuf, arguments: &[&str]) -> Vec<String> {
    let arguments = arguments.iter().map(|&argument| argument.to_owned());
    std::iter::once(program.to_string_lossy().into_owned()).chain(arguments).collect()
}

/// Returns the servers of the demonstration; SQLite is there twice, so that one can be lost.
pub(crate) fn servers(repository: &str, database: &str) -> anyhow::Result<[Server; 4]> {
    let sqlite = line(peers::sqlite()?, &["--db-path", database]);
    let git = line(peers::server("mcp-server-git")?, &["--repository", repository]);
    let time = line(peers::server("mcp-server-time")?, &["--local-timezone", "UTC"]);
    Ok([
        Server { runtime_id: "git-1", prefix: "", line: git },
        Server { runtime_id: "time-1", prefix: "", line: time },
        Server { runtime_id: "db-1", prefix: "db_", line: sqlite.clone() },
        Server { runtime_id: "db-2", prefix: "db_", line: sqlite },
    ])
}

/// Imports what a server says of itself as drafts; the administrator decides what they may do, and activates them.
pub(crate) async fn adopt(
    host: &Host,
    tenant: &Tenant,
    server: &Server,
    reads: &[&str],
) -> anyhow::Result<Vec<String>> {
    let tools = list_tools_json(&McpCommand::new(server.line.clone())?).await?;
    let request = ImportMcpRequest {
        tenant_id: tenant.id().to_owned(),
        tools_json: tools.to_string().into_bytes(),
        version: "0.1.0".into(),
        offered_to: Vec::new(),
        name_prefix: server.prefix.into(),
    };
    let imported = host.administrator()?.catalog().import_mcp(request).await;
    let imported = imported.map_err(|status| Error::from_status(&status))?.into_inner();
    ensure!(imported.refused.is_empty(), "drafts were refused: {:?}", imported.refused);
    let mut names = Vec::new();
    for draft in imported.drafts {
        names.push(draft.name.clone());
        tenant.offer(decided(draft, reads)).await?;
    }
    Ok(names)
}

/// The administrator's decision on a draft: version 1.0.0, with the effects that a review found.
fn decided(draft: EnterpriseToolContract, reads: &[&str]) -> Contract {
    let reads = reads.contains(&draft.name.as_str());
    let (effects, risk) =
        if reads { (Effects::ReadOnly, Risk::Low) } else { (Effects::NonIdempotent, Risk::High) };
    Contract(ContractDraft {
        name: draft.name,
        version: "1.0.0".into(),
        description: draft.description,
        parameters_json: draft.parameters,
        return_type_json: draft.return_type,
        effects: effects.into(),
        risk: risk.into(),
        timeout_ms: 30_000,
        security_classification: draft.security_classification,
        tags: vec!["mcp".into()],
        ..ContractDraft::default()
    })
}

/// Starts `aesp runtime mcp` for a server, as a process of its own.
pub(crate) async fn start(host: &Host, server: &Server, tenants: &[&Tenant]) -> anyhow::Result<Process> {
    let certificate = platform::register(host, server.runtime_id, tenants).await?;
    let mut command: Command = host.command();
    command
        .env("AESP_CLIENT_CERT", &certificate.certificate)
        .env("AESP_CLIENT_KEY", &certificate.key)
        .args(["runtime", "mcp", "--runtime-id", server.runtime_id, "--prefix", server.prefix, "--"])
        .args(&server.line);
    let log: PathBuf = Path::new(host.folder()).join(format!("{}.log", server.runtime_id));
    let process = Process::start(command, &log)?;
    Ok(process)
}

/// Waits until the Host says that a Runtime is connected and offers tools.
pub(crate) async fn connected(host: &Host, tenant: &Tenant, runtime_id: &str) -> anyhow::Result<usize> {
    let administrator = host.administrator()?;
    let ask = async || {
        let request = ListRuntimesRequest { tenant_id: tenant.id().to_owned() };
        let list = administrator.runtimes().list_runtimes(request).await;
        let list = list.map_err(|status| Error::from_status(&status))?.into_inner().runtimes;
        let found = list.iter().find(|one| one.runtime_id == runtime_id && !one.tools.is_empty());
        found.map(|one| one.tools.len()).with_context(|| format!("{runtime_id} offers nothing yet"))
    };
    until(runtime_id, ask).await
}
