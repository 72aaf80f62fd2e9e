//! What is gathered after the last fault, for the checkers.

use std::{
    collections::BTreeSet,
    fmt,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use aesp_proto::{Entropy, Error};
use aesp_sdk::{
    Client,
    v1::{ExportAuditLogsRequest, GetInvocationRequest, InvocationStatus, ListRolesRequest, Page},
};
use anyhow::{Context, ensure};
use futures::{StreamExt, stream};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::{
    access::Access,
    audit_log::{self, Record},
    crowding::Limits,
    effects::{self, Effect},
    history::{Call, CallKey, End, History},
    tools::Tool,
    visits::{self, Visit},
    workload::{Answer, Ground, LIMITS, Verdict, ask, verdict},
};

/// How many calls are asked again at most, chosen by the seed.
const REPEATS: usize = 1_000;
const ASKED_AT_ONCE: usize = 16;
/// How long the Host has, with all faults over, to answer what it answered before.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(200);

/// What a client hears when it asks again for a call that had ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Answer {
        event: String,
        replayed: bool,
        faithful: bool,
    },
    /// The Host says that the call never reached a Runtime.
    NeverRan,
    /// Its outcome is still unknown.
    Open,
    Refused(String),
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answer { event, .. } => write!(f, "answered as {event}"),
            Self::NeverRan => f.write_str("said never to have run"),
            Self::Open => f.write_str("of unknown outcome"),
            Self::Refused(code) => write!(f, "refused with {code}"),
        }
    }
}

/// A call that was asked again.
#[derive(Clone, Debug)]
pub(crate) struct Repeat {
    pub(crate) key: CallKey,
    pub(crate) heard: Asked,
}

/// What the offline verifier said.
#[derive(Clone, Debug)]
pub(crate) enum Verified {
    Good { events: u64 },
    Broken(String),
}

/// Where a run left what is checked.
#[derive(Clone, Debug)]
pub(crate) struct Traces {
    /// The folders in which the tools wrote.
    pub(crate) effects: PathBuf,
    pub(crate) visits: PathBuf,
    pub(crate) folder: PathBuf,
    pub(crate) seed: u64,
}

impl Traces {
    /// Returns where everything is below the folder of a run.
    pub(crate) fn in_folder(folder: &Path, seed: u64) -> Self {
        let [effects, visits] = ["effects", "visits"].map(|name| folder.join(name));
        Self { effects, visits, folder: folder.to_owned(), seed }
    }

    /// Makes the folders in which the tools write.
    ///
    /// # Errors
    /// When one can't be made.
    pub(crate) fn make(&self) -> std::io::Result<()> {
        fs::create_dir_all(&self.effects)?;
        fs::create_dir_all(&self.visits)
    }
}

/// Everything that a run left behind.
#[derive(Debug)]
pub(crate) struct Evidence {
    pub(crate) history: History,
    pub(crate) effects: Vec<Effect>,
    pub(crate) records: Vec<Record>,
    pub(crate) verified: Verified,
    pub(crate) repeats: Vec<Repeat>,
    /// The tenant's roles now; none if nobody looked.
    pub(crate) roles: Option<BTreeSet<String>>,
    /// Of the tenant at its limits.
    pub(crate) limits: Limits,
    /// Of its calls at their tool.
    pub(crate) visits: Vec<Visit>,
}

/// Gathers it. `folder` gets the export.
///
/// # Errors
/// When the cluster can't be asked even now, or the export has another form.
pub(crate) async fn gather(
    access: &Access,
    ground: &Ground,
    history: History,
    traces: &Traces,
) -> anyhow::Result<Evidence> {
    let Traces { effects, visits, folder, seed } = traces;
    let administrator = access.administrator()?;
    let client = access.client(ground.credentials(), 0)?;
    let repeats = ask_again(&client, &history, *seed).await;
    let tenant = ground.tenant.id();
    let roles = patiently("the roles", async || roles(&administrator, tenant).await).await?;
    let export = folder.join("audit.jsonl");
    patiently("the export", async || download(&administrator, tenant, &export).await).await?;
    let verified = verify(access, &export).await?;
    Ok(Evidence {
        history,
        effects: effects::read(effects)?,
        records: audit_log::read(&export)?,
        verified,
        repeats,
        roles: Some(roles),
        limits: LIMITS,
        visits: visits::read(visits)?,
    })
}

/// Asks again, under their ids, for calls that were answered, and for those whose outcome was unknown.
async fn ask_again(client: &Client, history: &History, seed: u64) -> Vec<Repeat> {
    let ended = |call: &&Call| {
        let settled = matches!(call.end, End::Answered { .. } | End::Unknown);
        settled && history.served.contains_key(&call.key.session)
    };
    let mut calls: Vec<&Call> = history.calls.iter().filter(ended).collect();
    let random = Entropy::from_seed(seed);
    while calls.len() > REPEATS {
        let at = usize::try_from(random.below(calls.len() as u64)).unwrap_or(0);
        calls.swap_remove(at);
    }
    let asked = stream::iter(calls).map(async |call| {
        let heard = match call.end {
            End::Unknown => status(client, &call.key).await,
            _ => again(client, &call.key, call.tool).await,
        };
        Repeat { key: call.key.clone(), heard }
    });
    asked.buffer_unordered(ASKED_AT_ONCE).collect().await
}

async fn again(client: &Client, key: &CallKey, tool: Tool) -> Asked {
    let begun = Instant::now();
    loop {
        match ask(client, key, tool).await {
            Ok(Answer { event, replayed, faithful, .. }) => {
                return Asked::Answer { event, replayed, faithful };
            }
            Err(error) if verdict(error.code()) != Verdict::Again || begun.elapsed() > PATIENCE => {
                return Asked::Refused(error.code().as_str_name().to_owned());
            }
            Err(_) => sleep(PAUSE).await,
        }
    }
}

async fn status(client: &Client, key: &CallKey) -> Asked {
    let begun = Instant::now();
    loop {
        let request = GetInvocationRequest {
            session_id: key.session.to_string(),
            invocation_id: key.invocation.clone(),
        };
        match client.agent().get_invocation(request).await {
            Ok(found) => {
                return match found.into_inner().status() {
                    InvocationStatus::InvocationCancelled => Asked::NeverRan,
                    _ => Asked::Open,
                };
            }
            Err(refusal) => {
                let code = Error::from_status(&refusal).code();
                if verdict(code) != Verdict::Again || begun.elapsed() > PATIENCE {
                    return Asked::Refused(code.as_str_name().to_owned());
                }
                sleep(PAUSE).await;
            }
        }
    }
}

async fn roles(administrator: &Client, tenant_id: &str) -> anyhow::Result<BTreeSet<String>> {
    let (mut roles, mut cursor) = (BTreeSet::new(), String::new());
    loop {
        let page = Some(Page { limit: 1_000, cursor });
        let request = ListRolesRequest { tenant_id: tenant_id.to_owned(), page };
        let answer = administrator.authorization().list_roles(request).await;
        let answer = answer.map_err(|status| Error::from_status(&status))?.into_inner();
        roles.extend(answer.roles.into_iter().map(|role| role.name));
        if answer.next_cursor.is_empty() {
            return Ok(roles);
        }
        cursor = answer.next_cursor;
    }
}

async fn download(administrator: &Client, tenant_id: &str, path: &Path) -> anyhow::Result<()> {
    let request = ExportAuditLogsRequest { tenant_id: tenant_id.to_owned(), ..Default::default() };
    let refused = |status| anyhow::Error::from(Error::from_status(&status));
    let mut parts = administrator.audit().export_audit_logs(request).await.map_err(refused)?.into_inner();
    let mut file = File::create(path)?;
    while let Some(part) = parts.message().await.map_err(refused)? {
        file.write_all(&part.json_lines)?;
    }
    Ok(())
}

/// Runs `aesp audit verify`, which needs no Host.
async fn verify(access: &Access, export: &Path) -> anyhow::Result<Verified> {
    ensure!(fs::metadata(export)?.len() > 0, "the export is empty");
    let mut command = access.command();
    command.args(["audit", "verify"]).arg(export);
    let output = command.output().await.context("aesp audit verify does not start")?;
    if !output.status.success() {
        return Ok(Verified::Broken(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    let report: Value =
        serde_json::from_slice(&output.stdout).context("aesp audit verify printed no JSON")?;
    let events = report["events"].as_u64().context("aesp audit verify told no number of events")?;
    Ok(Verified::Good { events })
}

/// Asks until there is an answer.
async fn patiently<T, F, Fut>(what: &str, ask: F) -> anyhow::Result<T>
where
    F: Fn() -> Fut,
    Fut: Future<Output = anyhow::Result<T>>,
{
    let begun = Instant::now();
    loop {
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(error) if begun.elapsed() > PATIENCE => {
                return Err(error.context(format!("{what}: no answer after the last fault")));
            }
            Err(_) => sleep(PAUSE).await,
        }
    }
}
