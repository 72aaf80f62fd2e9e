//! One scenario from its first process to its verdict.

use std::{collections::BTreeMap, time::Duration};

use aesp_proto::Entropy;
use aesp_tests::Certificate;
use anyhow::Context;
use tokio::time::{Instant, sleep};

use crate::{
    access::Access,
    check::{self, Invariant, Violation},
    evidence::{self, Evidence, Traces, Verified},
    history::Recorder,
    pauses::Service,
    progress::{Progress, say},
    report::Row,
    scenario::{Field, Scenario, play},
    topology::{self, Topology},
    workload::{Ground, Load, Workload},
};

/// How long all sessions may take to be answered first, and again after the last fault.
const SERVED: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(50);

/// What is to be run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) nodes: usize,
    pub(crate) seed: u64,
    pub(crate) length: Duration,
    /// How many Runtimes reconnect at once in the scenario that has them do so.
    pub(crate) storm: usize,
    /// Whether data and logs are kept although nothing was violated.
    pub(crate) keep: bool,
}

/// Plays a scenario and checks what came of it.
pub(crate) async fn scenario(scenario: &Scenario, plan: Plan) -> Row {
    let mut row = Row {
        scenario: scenario.name.into(),
        nodes: plan.nodes,
        seed: plan.seed,
        seconds: plan.length.as_secs(),
        ..Row::default()
    };
    if let Some(why) = scenario.unmet(plan.nodes) {
        row.skipped = Some(why);
        return row;
    }
    if let Err(error) = Box::pin(on_a_fresh_topology(scenario, plan, &mut row)).await {
        row.error = Some(format!("{error:#}"));
    }
    row
}

async fn on_a_fresh_topology(scenario: &Scenario, plan: Plan, row: &mut Row) -> anyhow::Result<()> {
    let shape = scenario.shape(plan.nodes, plan.storm);
    let mut topology = Box::pin(Topology::start(shape)).await.context("the cluster does not start")?;
    let played = Box::pin(on(&mut topology, scenario, plan, row)).await;
    if plan.keep || played.is_err() || !row.violations.is_empty() {
        say(&format!("  data, logs and the export are kept in {}", topology.keep().display()));
    }
    played
}

async fn on(topology: &mut Topology, scenario: &Scenario, plan: Plan, row: &mut Row) -> anyhow::Result<()> {
    let access = topology.access().clone();
    let ground = Ground::prepare(&access.administrator()?, "chaos").await.context("no tenant")?;
    topology.employ(&ground).await.context("the Runtimes do not serve")?;
    let workload = Workload::start(&access, &ground, &scenario.load(plan.nodes), plan.seed).await?;
    all_answered(workload.recorder(), 0).await.context("before the first fault")?;

    let progress = Progress::start(scenario.name, plan.length, workload.recorder().clone());
    let mut field = Field {
        topology,
        random: Entropy::from_seed(plan.seed),
        recorder: workload.recorder().clone(),
        until: Instant::now() + plan.length,
        faults: Vec::new(),
        violations: Vec::new(),
        measures: BTreeMap::new(),
    };
    let played = Box::pin(play(scenario.kind, &mut field)).await;
    drop(progress);
    (row.faults, row.measures) = (field.faults, field.measures);
    let seen = field.violations;
    played.context("the scenario could not be played")?;
    let healed = topology.heal().await;
    let recovered = recover(&workload, healed).await;

    finish(&access, &ground, workload, &Traces::in_folder(topology.folder(), plan.seed), row).await?;
    row.violations.extend(seen.into_iter().chain(recovered));
    Ok(())
}

/// Waits until every session is served again; tells which are not.
async fn recover(workload: &Workload, healed: anyhow::Result<()>) -> Option<Violation> {
    let after = workload.recorder().now_ms();
    let served = match healed {
        Ok(()) => all_answered(workload.recorder(), after).await,
        Err(error) => Err(error),
    };
    served.err().map(|error| Violation::new(Invariant::Recovery, format!("after the last fault: {error:#}")))
}

/// Waits until every session got an answer after `since_ms`.
async fn all_answered(recorder: &Recorder, since_ms: u64) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        let silent = recorder.silent_since(since_ms);
        if silent.is_empty() {
            return Ok(());
        }
        anyhow::ensure!(
            begun.elapsed() < SERVED,
            "{} sessions got no answer within {SERVED:?}: {}",
            silent.len(),
            silent.join(", ")
        );
        sleep(PAUSE).await;
    }
}

/// Ends the workload, gathers the evidence and checks it.
async fn finish(
    access: &Access,
    ground: &Ground,
    workload: Workload,
    traces: &Traces,
    row: &mut Row,
) -> anyhow::Result<()> {
    let end_ms = workload.recorder().now_ms();
    let history = workload.stop().await.take();
    let service = Service::of(&history, end_ms);
    (row.calls, row.availability) = (service.calls, service.availability);
    row.longest_pause_ms = service.longest_pause_ms();
    (row.ends, row.pauses_ms) = (service.ends, service.pauses_ms);
    let evidence = evidence::gather(access, ground, history, traces).await;
    let evidence = evidence.context("the evidence can't be gathered")?;
    anyhow::ensure!(!evidence.visits.is_empty(), "no call of the tenant at its limits came to a tool");
    row.checked = counted(&evidence);
    row.violations = check::all(&evidence);
    Ok(())
}

fn counted(evidence: &Evidence) -> BTreeMap<String, u64> {
    let history = &evidence.history;
    let events = match evidence.verified {
        Verified::Good { events } => events,
        Verified::Broken(_) => 0,
    };
    let counts = [
        ("calls", history.calls.len()),
        ("effects", evidence.effects.len()),
        ("call records", evidence.records.len()),
        ("calls asked again", evidence.repeats.len()),
        ("administrative changes", history.changes.len()),
        ("revocations", history.revocations.len()),
        ("cluster states", history.sightings.len()),
        ("calls at limits", history.crowding.attempts.len()),
        ("sessions at limits", history.crowding.stays.len()),
        ("held calls", evidence.visits.len()),
    ];
    let counts = counts.into_iter().map(|(name, count)| (name.to_owned(), count as u64));
    counts.chain([("verified events".to_owned(), events)]).collect()
}

/// Runs the workload against a cluster that others break, and checks what came of it.
pub(crate) async fn attached(
    access: &Access,
    certificate: Certificate,
    load: &Load,
    seed: u64,
    length: Duration,
) -> Row {
    let mut row = Row {
        scenario: "attached".into(),
        nodes: access.endpoints.len(),
        seed,
        seconds: length.as_secs(),
        ..Row::default()
    };
    let tried = Box::pin(attach(access, certificate, load, seed, length, &mut row)).await;
    row.error = tried.err().map(|error| format!("{error:#}"));
    row
}

async fn attach(
    access: &Access,
    certificate: Certificate,
    load: &Load,
    seed: u64,
    length: Duration,
    row: &mut Row,
) -> anyhow::Result<()> {
    let folder = tempfile::Builder::new().prefix("aesp-chaos-").tempdir()?;
    let name = format!("chaos-{:08x}", Entropy::from_system().below(1 << 32));
    let ground = Ground::prepare(&access.administrator()?, &name).await.context("no tenant")?;
    say(&format!("  tenant {name}; break what you like for {} s", length.as_secs()));
    let runtime = topology::attach(access, &ground, certificate, folder.path()).await?;
    let workload = Workload::start(access, &ground, load, seed).await?;
    let progress = Progress::start("attached", length, workload.recorder().clone());
    sleep(length).await;
    drop(progress);
    let recovered = recover(&workload, Ok(())).await;
    finish(access, &ground, workload, &Traces::in_folder(folder.path(), seed), row).await?;
    drop(runtime);
    row.violations.extend(recovered);
    Ok(())
}
