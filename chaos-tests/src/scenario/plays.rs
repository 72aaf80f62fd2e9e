//! How each scenario breaks things. Each goes on until the time is over, once at least; what it leaves broken is healed
//! afterwards.

use std::time::Duration;

use anyhow::Context;
use tokio::{task::block_in_place, time::Instant};

use super::{Kind, LEASE, field::Field, inside};
use crate::{
    check::{Invariant, Violation},
    topology::Weather,
};

/// Between these a packet is late, in milliseconds.
const LATE_MS: (u64, u64) = (5, 25);
const LOSS_PERCENT: u32 = 2;
/// By how much clocks jump, in seconds.
const STEPS: [i64; 6] = [300, -300, 1_200, -60, 3_600, -600];
/// By how much one clock of several is off, in seconds.
const SKEWS: [i64; 4] = [3, -3, 30, -30];

/// How soon the others must see that a clock is off: some renewals of the lease, and the second for which libfaketime keeps
/// what it read.
const SKEW_SEEN: Duration = Duration::from_secs(5);

/// Plays a scenario.
///
/// # Errors
/// When what should be broken or mended can't be.
pub(crate) async fn play(kind: Kind, field: &mut Field<'_>) -> anyhow::Result<()> {
    let mut round = 0;
    loop {
        once(kind, field, round).await?;
        round += 1;
        if field.is_over() {
            return Ok(());
        }
    }
}

async fn once(kind: Kind, field: &mut Field<'_>, round: usize) -> anyhow::Result<()> {
    let nodes = field.topology.nodes.len();
    // Where the first victim is given by what the nodes do, the later ones are anybody: clients have moved by then.
    let anybody = field.pick(nodes);
    let victim = if round == 0 { 0 } else { anybody };
    match kind {
        Kind::KillOwner | Kind::KillGateway | Kind::KillRuntimesNode => kill_node(field, victim).await,
        Kind::KillNode => kill_node(field, anybody).await,
        Kind::KillTwo => kill_two(field).await,
        Kind::KillRuntime => kill_runtime(field).await,
        Kind::FreezeNode => freeze_node(field).await,
        Kind::FreezeRuntime => freeze_runtime(field).await,
        Kind::RollingRestart => restart_in_order(field, round % nodes).await,
        Kind::RuntimeStorm => storm(field).await,
        Kind::ClockSteps => step_clock(field).await,
        Kind::ClockSkew => skew_clock(field).await,
        Kind::DiskFull => fill_disk(field).await,
        Kind::DiskErrors => inside::fail_syncs(field).await,
        Kind::StoreUnavailable => inside::store_unavailable(field).await,
        Kind::StoreSlow => inside::store_slow(field).await,
        Kind::CommitUnknown => inside::commit_unknown(field).await,
        Kind::ActorCrashes => {
            inside::crash_some(field).await?;
            inside::crash_in_a_loop(field).await
        }
        Kind::PartitionOne => partition(field, Cut::BothWays).await,
        Kind::PartitionAll => partition(field, Cut::Everybody).await,
        Kind::PartitionOneWay => partition(field, Cut::OneWay).await,
        Kind::BadLinks => worsen_links(field).await,
        Kind::Mixture => mix(field).await,
    }
}

async fn kill_node(field: &mut Field<'_>, victim: usize) -> anyhow::Result<()> {
    field.pause(700, 1_500).await;
    field.kill(victim).await?;
    field.pause(50, 500).await;
    up_again(field, victim).await
}

/// Starts a node that is down, and notes how long that took.
async fn up_again(field: &mut Field<'_>, node: usize) -> anyhow::Result<()> {
    if field.topology.nodes[node].is_down() {
        let begun = Instant::now();
        field.topology.raise(node).await?;
        field.measure("node_start_ms", begun.elapsed().as_secs_f64() * 1e3);
        field.note(format!("{} is up", field.name(node)));
    }
    field.pause(1_000, 2_000).await;
    Ok(())
}

async fn kill_two(field: &mut Field<'_>) -> anyhow::Result<()> {
    field.pause(700, 1_500).await;
    let spared = field.pick(field.topology.nodes.len());
    let victims: Vec<usize> = (0..field.topology.nodes.len()).filter(|node| *node != spared).collect();
    for &victim in &victims {
        field.kill(victim).await?;
    }
    field.pause(1_000, 4_000).await;
    for victim in victims {
        up_again(field, victim).await?;
    }
    Ok(())
}

async fn kill_runtime(field: &mut Field<'_>) -> anyhow::Result<()> {
    field.pause(300, 900).await;
    let victim = field.pick(field.topology.workers.len());
    field.note(format!("kill -9 {}", field.topology.workers[victim].id()));
    let worker = &mut field.topology.workers[victim];
    worker.kill().await?;
    field.pause(50, 800).await;
    field.topology.workers[victim].start()?;
    field.pause(500, 1_000).await;
    Ok(())
}

async fn freeze_node(field: &mut Field<'_>) -> anyhow::Result<()> {
    field.pause(500, 1_000).await;
    let victim = field.pick(field.topology.nodes.len());
    field.note(format!("SIGSTOP {}", field.name(victim)));
    field.topology.nodes[victim].freeze();
    let lease = u64::try_from(LEASE.as_millis()).unwrap_or(u64::MAX);
    field.pause(lease * 3 / 2, lease * 5 / 2).await;
    field.topology.nodes[victim].thaw();
    field.note(format!("SIGCONT {}", field.name(victim)));
    field.pause(1_500, 2_500).await;
    // One that was declared dead meanwhile has ended; its supervisor starts it again.
    field.topology.raise(victim).await
}

async fn freeze_runtime(field: &mut Field<'_>) -> anyhow::Result<()> {
    field.pause(500, 1_000).await;
    let victim = field.pick(field.topology.workers.len());
    field.note(format!("SIGSTOP {}", field.topology.workers[victim].id()));
    field.topology.workers[victim].freeze();
    field.pause(500, 4_000).await;
    field.topology.workers[victim].thaw();
    field.note(format!("SIGCONT {}", field.topology.workers[victim].id()));
    field.pause(500, 1_500).await;
    Ok(())
}

async fn restart_in_order(field: &mut Field<'_>, node: usize) -> anyhow::Result<()> {
    field.pause(500, 1_000).await;
    field.note(format!("SIGTERM {}", field.name(node)));
    let begun = Instant::now();
    field.topology.nodes[node].stop().await?;
    field.measure("node_stop_ms", begun.elapsed().as_secs_f64() * 1e3);
    up_again(field, node).await
}

async fn storm(field: &mut Field<'_>) -> anyhow::Result<()> {
    field.pause(500, 1_000).await;
    let mut begun = Instant::now();
    field.kill(0).await?;
    field.pause(300, 500).await;
    if field.topology.nodes.len() == 1 {
        // They have nowhere else to go.
        field.topology.raise(0).await?;
        begun = Instant::now();
    }
    field.topology.all_serve().await?;
    field.measure("reconnected_ms", begun.elapsed().as_secs_f64() * 1e3);
    field.note("all Runtimes serve again");
    up_again(field, 0).await
}

async fn step_clock(field: &mut Field<'_>) -> anyhow::Result<()> {
    let victim = field.pick(field.topology.clocks.len());
    let seconds = field.one_of(&STEPS);
    field.note(format!("the clock of {} is {seconds:+} s off", field.name(victim)));
    field.topology.clocks[victim].step(seconds)?;
    field.pause(800, 1_800).await;
    if field.topology.nodes.len() > 1 {
        field.topology.clocks[victim].step(0)?;
        field.note(format!("the clock of {} is right", field.name(victim)));
        field.pause(800, 1_800).await;
    }
    field.topology.raise(victim).await
}

async fn skew_clock(field: &mut Field<'_>) -> anyhow::Result<()> {
    let victim = field.pick(field.topology.clocks.len());
    let (seconds, name) = (field.one_of(&SKEWS), field.name(victim));
    field.note(format!("the clock of {name} is {seconds:+} s off"));
    field.topology.clocks[victim].step(seconds)?;
    let begun = Instant::now();
    while field.topology.nodes[victim].is_ready().await {
        if begun.elapsed() > SKEW_SEEN {
            let what = format!("{name} is ready {SKEW_SEEN:?} after its clock went {seconds:+} s off");
            field.violations.push(Violation::new(Invariant::Clock, what));
            break;
        }
        field.pause(50, 50).await;
    }
    field.measure("skew_refused_ms", begun.elapsed().as_secs_f64() * 1e3);
    field.pause(1_500, 2_500).await;
    field.topology.clocks[victim].step(0)?;
    field.note(format!("the clock of {name} is right"));
    field.pause(2_500, 4_000).await;
    field.topology.raise(victim).await
}

async fn fill_disk(field: &mut Field<'_>) -> anyhow::Result<()> {
    field.pause(500, 1_000).await;
    field.note("the disk is full");
    let disk = field.topology.disk.as_ref().context("the store has no disk of its own")?;
    block_in_place(|| disk.fill())?;
    field.pause(1_500, 3_000).await;
    let disk = field.topology.disk.as_ref().context("the store has no disk of its own")?;
    disk.empty()?;
    field.note("the disk has room");
    for node in 0..field.topology.nodes.len() {
        field.topology.raise(node).await?;
    }
    field.pause(1_500, 2_500).await;
    Ok(())
}

/// Which links are cut.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cut {
    /// All of one node, in both directions.
    BothWays,
    /// All of one node, in the direction away from it.
    OneWay,
    /// All.
    Everybody,
}

async fn partition(field: &mut Field<'_>, cut: Cut) -> anyhow::Result<()> {
    field.pause(500, 1_000).await;
    let nodes = field.topology.nodes.len();
    let victim = field.pick(nodes);
    field.note(match cut {
        Cut::BothWays => format!("{} is cut off from its peers", field.name(victim)),
        Cut::OneWay => format!("what {} sends to its peers is lost", field.name(victim)),
        Cut::Everybody => "no node reaches another".to_owned(),
    });
    let network = field.topology.network.as_mut().context("the nodes have no network of their own")?;
    block_in_place(|| {
        let pairs = (0..nodes).flat_map(|from| (0..nodes).map(move |to| (from, to)));
        let hit = |&(from, to): &(usize, usize)| {
            from != to
                && match cut {
                    Cut::BothWays => from == victim || to == victim,
                    Cut::OneWay => from == victim,
                    Cut::Everybody => true,
                }
        };
        pairs.filter(hit).try_for_each(|(from, to)| network.cut(from, to))
    })?;
    field.pause(3_000, 6_000).await;
    let network = field.topology.network.as_mut().context("the nodes have no network of their own")?;
    block_in_place(|| network.mend())?;
    field.note("the links are mended");
    field.pause(1_500, 3_000).await;
    for node in 0..nodes {
        field.topology.raise(node).await?;
    }
    Ok(())
}

async fn worsen_links(field: &mut Field<'_>) -> anyhow::Result<()> {
    let (least_ms, most_ms) = LATE_MS;
    field.note(format!(
        "what arrives at a node is {least_ms} to {most_ms} ms late, out of order, and {LOSS_PERCENT} % is lost"
    ));
    let weather =
        Weather { least_ms, most_ms, loss_percent: LOSS_PERCENT, seed: field.random.below(u64::MAX) };
    let log = field.topology.folder().join("delay.log");
    let network = field.topology.network.as_mut().context("the nodes have no network of their own")?;
    network.worsen(&weather, &log).await?;
    field.pause(4_000, 8_000).await;
    let network = field.topology.network.as_mut().context("the nodes have no network of their own")?;
    network.better().await?;
    field.note("the links are good");
    field.pause(1_000, 2_000).await;
    for node in 0..field.topology.nodes.len() {
        field.topology.raise(node).await?;
    }
    Ok(())
}

/// Does any of it.
async fn mix(field: &mut Field<'_>) -> anyhow::Result<()> {
    let mut choices =
        vec![Kind::KillNode, Kind::KillRuntime, Kind::FreezeNode, Kind::FreezeRuntime, Kind::RollingRestart];
    if !field.topology.clocks.is_empty() {
        choices.push(Kind::ClockSteps);
    }
    let shape = field.topology.shape();
    if shape.network {
        choices.extend([Kind::PartitionOne, Kind::PartitionOneWay]);
    }
    if shape.filters {
        choices.push(Kind::BadLinks);
    }
    if shape.faulty {
        choices.extend([Kind::StoreUnavailable, Kind::StoreSlow, Kind::CommitUnknown, Kind::ActorCrashes]);
    }
    if shape.failing_syncs {
        choices.push(Kind::DiskErrors);
    }
    if field.topology.nodes.len() > 2 {
        choices.push(Kind::KillTwo);
    }
    let (kind, node) = (field.one_of(&choices), field.pick(field.topology.nodes.len()));
    match kind {
        Kind::ActorCrashes => Box::pin(inside::crash_some(field)).await,
        _ => Box::pin(once(kind, field, node)).await,
    }
}
