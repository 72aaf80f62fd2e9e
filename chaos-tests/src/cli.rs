//! The command line of `aesp-chaos`.

use std::{
    env,
    io::{Write, stdout},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use aesp_proto::Entropy;
use aesp_sdk::Endpoint;
use aesp_tests::{Certificate, aesp_binary};
use anyhow::{Context, bail, ensure};
use clap::{Args, Parser, Subcommand};
use tokio::signal::{
    ctrl_c,
    unix::{SignalKind, signal},
};

use crate::{
    access::Access,
    delay::Delay,
    progress::say,
    report::{self, Row},
    run::{self, Plan},
    scenario::{ALL, Nodes, Scenario, find},
    workload::Load,
};

/// What a scenario takes beside its own length: start, recovery, checks.
const OVERHEAD: Duration = Duration::from_secs(10);
/// What a shell shows of a program that was interrupted.
const INTERRUPTED: u8 = 130;
const SHORTEST: Duration = Duration::from_secs(4);

/// Breaks real nodes and Runtimes on purpose, and checks from the outside what must hold all the same.
#[derive(Parser, Debug)]
#[command(name = "aesp-chaos")]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// List the scenarios, and what keeps one from being played here.
    List {
        /// On so many nodes.
        #[arg(long, default_value_t = 1, value_parser = nodes)]
        nodes: usize,
    },
    /// Play scenarios and check the invariants. Exits with 1 when one is violated, with 2 when something could not be played.
    Run(Box<Run>),
    /// Render a chaos.json.
    Report {
        /// The file.
        file: PathBuf,
    },
    #[command(hide = true)]
    Delay(Delay),
}

#[derive(Args, Debug)]
struct Run {
    /// Which; all that can be played on so many nodes when none is named.
    scenarios: Vec<String>,
    /// Only the few that every change must pass.
    #[arg(long, conflicts_with = "scenarios")]
    short: bool,
    /// On one node, or on three that share a store; `1,3` for both.
    #[arg(long, value_parser = nodes, value_delimiter = ',', default_value = "1")]
    nodes: Vec<usize>,
    /// What decides all that is random; one that the system draws when it is not given. The report names it.
    #[arg(long, env = "AESP_SEED")]
    seed: Option<u64>,
    /// How long each scenario breaks things, in seconds.
    #[arg(long, conflicts_with = "within")]
    seconds: Option<u64>,
    /// How long everything may take together, in seconds, about.
    #[arg(long)]
    within: Option<u64>,
    /// How many Runtimes reconnect at once in runtime-storm.
    #[arg(long, default_value_t = 1_000)]
    runtimes: usize,
    /// The folder for chaos.json and chaos.md.
    #[arg(long, default_value = "target/out")]
    out: PathBuf,
    /// Keep data and logs although nothing was violated.
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    attached: Attached,
}

/// A cluster that runs elsewhere and that others break.
#[derive(Args, Debug)]
struct Attached {
    /// Only run the workload and the checks, against this cluster; may be repeated, for each node once.
    #[arg(long, value_name = "ENDPOINT", conflicts_with_all = ["scenarios", "short", "nodes", "within"])]
    attach: Vec<Endpoint>,
    /// The authority of its nodes' certificates.
    #[arg(long, value_name = "FILE", requires = "attach")]
    ca: Option<PathBuf>,
    /// The API key of a platform administrator; the run makes a tenant of its own.
    #[arg(long, env = "AESP_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
    /// A client certificate for the Runtime that the run starts; the run registers its identity.
    #[arg(long, value_name = "FILE", requires = "attach")]
    runtime_certificate: Option<PathBuf>,
    /// Its key.
    #[arg(long, value_name = "FILE", requires = "attach")]
    runtime_key: Option<PathBuf>,
    /// Its identity, as aesp pki issue shows it.
    #[arg(long, value_name = "IDENTITY", requires = "attach")]
    runtime_identity: Option<String>,
}

fn nodes(text: &str) -> Result<usize, String> {
    match text {
        "1" => Ok(1),
        "3" => Ok(3),
        _ => Err("give 1 or 3".into()),
    }
}

/// Runs the command; the exit code tells what came of it.
///
/// # Errors
/// When it could not be run at all.
pub async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    match arguments.command {
        Command::List { nodes } => list(nodes),
        Command::Delay(delay) => delay.run().await.map(|()| ExitCode::SUCCESS),
        Command::Report { file } => {
            show(&report::markdown(&report::read(&file)?));
            Ok(ExitCode::SUCCESS)
        }
        Command::Run(run) => {
            let mut terminate = signal(SignalKind::terminate())?;
            let running = async {
                match run.attached.attach.is_empty() {
                    true => Box::pin(play(*run)).await,
                    false => Box::pin(attach(*run)).await,
                }
            };
            // Whatever runs is dropped, and so are processes, mounts and namespaces.
            tokio::select! {
                outcome = running => outcome,
                _ = ctrl_c() => Ok(ExitCode::from(INTERRUPTED)),
                _ = terminate.recv() => Ok(ExitCode::from(INTERRUPTED)),
            }
        }
    }
}

fn show(text: &str) {
    // A reader who has gone needs no answer.
    drop(stdout().lock().write_all(text.as_bytes()));
}

fn list(nodes: usize) -> anyhow::Result<ExitCode> {
    for scenario in &ALL {
        let needs = if scenario.nodes == Nodes::Three { "3 nodes" } else { "1 or 3" };
        let short = if scenario.short { "short" } else { "" };
        show(&format!("{:<20} {needs:<8} {short:<6} {}\n", scenario.name, scenario.about));
        if let Some(why) = scenario.unmet(nodes) {
            show(&format!("{:<36} (not here: {why})\n", ""));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Chooses what is played, each with the number of nodes.
fn chosen(run: &Run) -> anyhow::Result<Vec<(&'static Scenario, usize)>> {
    let mut chosen = Vec::new();
    for &nodes in &run.nodes {
        if run.scenarios.is_empty() {
            let fits = |scenario: &&Scenario| {
                (nodes == 3 || scenario.nodes == Nodes::Any) && (!run.short || scenario.short)
            };
            chosen.extend(ALL.iter().filter(fits).map(|scenario| (scenario, nodes)));
        }
        for name in &run.scenarios {
            let Some(scenario) = find(name) else {
                bail!("there is no scenario {name}: aesp-chaos list shows all")
            };
            chosen.push((scenario, nodes));
        }
    }
    ensure!(!chosen.is_empty(), "nothing is to be played");
    Ok(chosen)
}

async fn play(run: Run) -> anyhow::Result<ExitCode> {
    let chosen = chosen(&run)?;
    // A seed that people can type again.
    let seed = run.seed.unwrap_or_else(|| Entropy::from_system().below(1_000_000));
    let length = match (run.seconds, run.within) {
        (Some(seconds), _) => Duration::from_secs(seconds),
        (None, Some(within)) => {
            let count = u32::try_from(chosen.len()).unwrap_or(u32::MAX);
            (Duration::from_secs(within) / count).saturating_sub(OVERHEAD).max(SHORTEST)
        }
        (None, None) => Duration::from_secs(15),
    };
    let mut rows = Vec::new();
    for (n, (scenario, nodes)) in chosen.iter().enumerate() {
        say(&format!(
            "{} of {}: {} on {nodes} node(s), {} s, seed {seed}",
            n + 1,
            chosen.len(),
            scenario.name,
            length.as_secs()
        ));
        let plan = Plan { nodes: *nodes, seed, length, storm: run.runtimes, keep: run.keep };
        let row = Box::pin(run::scenario(scenario, plan)).await;
        told(&row);
        rows.push(row);
        // After each, so that what is known is there however the run ends.
        report::write(&run.out, &rows)?;
    }
    end(&run.out, &rows)
}

async fn attach(run: Run) -> anyhow::Result<ExitCode> {
    let given = run.attached;
    let missing = "is missing: aesp-chaos run --help";
    let access = Access {
        endpoints: given.attach,
        ca: given.ca.context(format!("--ca {missing}"))?,
        api_key: given.api_key.context(format!("--api-key {missing}"))?,
        binary: aesp_binary()?,
    };
    let certificate = Certificate {
        certificate: given.runtime_certificate.context(format!("--runtime-certificate {missing}"))?,
        key: given.runtime_key.context(format!("--runtime-key {missing}"))?,
        identity: given.runtime_identity.context(format!("--runtime-identity {missing}"))?,
        serial: String::new(),
    };
    let seed = run.seed.unwrap_or_else(|| Entropy::from_system().below(1_000_000));
    let length = Duration::from_secs(run.seconds.unwrap_or(60));
    let all: Vec<usize> = (0..access.endpoints.len()).collect();
    let load =
        Load { sessions: 12, callers: 2, pace: Duration::from_millis(40), born: all.clone(), called: all };
    let row = run::attached(&access, certificate, &load, seed, length).await;
    told(&row);
    let rows = [row];
    report::write(&run.out, &rows)?;
    end(&run.out, &rows)
}

/// Tells people in a line or two what came of a scenario.
fn told(row: &Row) {
    match (&row.skipped, &row.error) {
        (Some(why), _) => say(&format!("  skipped: {why}")),
        (None, Some(error)) => say(&format!("  not finished: {error}")),
        (None, None) => say(&format!(
            "  {} calls, {:.2} % succeeded, longest pause {} ms, {} faults, {} violations",
            row.calls,
            row.availability * 100.0,
            row.longest_pause_ms,
            row.faults.len(),
            row.violations.len()
        )),
    }
    for violation in &row.violations {
        say(&format!("  VIOLATION {violation}"));
    }
}

fn end(out: &std::path::Path, rows: &[Row]) -> anyhow::Result<ExitCode> {
    let folder = env::current_dir()?.join(out);
    say(&format!("The report is in {}/chaos.md and chaos.json.", folder.display()));
    if rows.iter().any(|row| !row.violations.is_empty()) {
        return Ok(ExitCode::from(1));
    }
    if rows.iter().any(|row| row.error.is_some()) {
        return Ok(ExitCode::from(2));
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
        let run = |words: &[&str]| {
            let words = ["aesp-chaos", "run"].iter().chain(words);
            match Arguments::try_parse_from(words).expect("is understood").command {
                Command::Run(run) => chosen(&run).map(|all| all.len()),
                _ => unreachable!("it is run"),
            }
        };
        let any = ALL.iter().filter(|scenario| scenario.nodes == Nodes::Any).count();
        assert_eq!(run(&[]).unwrap(), any);
        assert_eq!(run(&["--nodes", "1,3"]).unwrap(), any + ALL.len());
        assert_eq!(run(&["kill-node", "mixture", "--nodes", "3"]).unwrap(), 2);
        assert!(run(&["kill-everything"]).unwrap_err().to_string().contains("kill-everything"));
    }
}
