//! What breaks inside a node: its store, its disk, its actors.

use std::time::Duration;

use tokio::{task::block_in_place, time::Instant};

use super::Field;
use crate::{
    check::{Invariant, Violation},
    faulty::{Crash, Orders, StoreFault},
};

/// How soon a node obeys: it looks for orders every 20 ms, on a busy machine now and then.
const OBEYED_MS: u64 = 400;
/// Milliseconds of a read and of a commit.
const SLOW: [(u64, u64); 3] = [(5, 40), (20, 150), (50, 600)];
/// One in so many commits.
const UNKNOWN: [u64; 3] = [3, 8, 25];
/// How many of the commits that did not land arrive late, in percent of the looks at the orders.
const LATE_PERCENT: u64 = 20;
/// How many of the syncs fail, in percent.
const FAILING_SYNCS: [u32; 3] = [100, 100, 20];
/// Kinds of actors that are not restarted by a supervisor but made anew by those who need them, with how many messages it
/// takes for one to crash.
const TEMPORARY: [(&str, u64); 2] = [("session", 12), ("runtime_connection", 40)];
/// A kind that a supervisor restarts. One crashes as often as it starts.
const PERMANENT: &str = "tenant-duty";
/// What its node says when one crashes beyond its declared intensity.
const GAVE_UP: &str = "actor tenant-duty crashed beyond its restart intensity";
/// How soon a node must end by itself whose actor crashes in a loop: the messages that it takes, and the shutdown.
const GIVES_UP: Duration = Duration::from_secs(25);

/// Lets the store of one node, or of all, be away or answer nothing, for less or more than a lease.
pub(super) async fn store_unavailable(field: &mut Field<'_>) -> anyhow::Result<()> {
    let fault = field.one_of(&[StoreFault::Unavailable, StoreFault::Stalled]);
    let how = if fault == StoreFault::Stalled { "answers nothing" } else { "is away" };
    break_store(field, fault, how, (800, 4_500)).await
}

pub(super) async fn store_slow(field: &mut Field<'_>) -> anyhow::Result<()> {
    let (read_ms, commit_ms) = field.one_of(&SLOW);
    let how = format!("takes {read_ms} ms for a read, {commit_ms} ms for a commit");
    break_store(field, StoreFault::Slow { read_ms, commit_ms }, &how, (2_500, 5_000)).await
}

pub(super) async fn commit_unknown(field: &mut Field<'_>) -> anyhow::Result<()> {
    let one_in = field.one_of(&UNKNOWN);
    let how = format!("can't say of one commit in {one_in} whether it landed");
    break_store(field, StoreFault::Unknown { one_in, late_percent: LATE_PERCENT }, &how, (2_500, 5_000)).await
}

async fn break_store(
    field: &mut Field<'_>,
    store: StoreFault,
    how: &str,
    (least_ms, most_ms): (u64, u64),
) -> anyhow::Result<()> {
    field.pause(500, 1_000).await;
    let nodes = field.topology.nodes.len();
    let one = field.pick(nodes);
    let victims = if field.pick(3) == 0 { (0..nodes).collect() } else { vec![one] };
    for &victim in &victims {
        field.note(format!("the store of {} {how}", field.name(victim)));
        let orders = Orders { seed: field.random.below(u64::MAX), store, crash: None };
        field.topology.nodes[victim].order(&orders)?;
    }
    let nobody_writes =
        victims.len() == nodes && matches!(store, StoreFault::Unavailable | StoreFault::Stalled);
    let from_ms = field.recorder.now_ms() + OBEYED_MS;
    field.pause(least_ms, most_ms).await;
    if nobody_writes {
        field.recorder.closed(from_ms, field.recorder.now_ms());
    }
    for victim in victims {
        field.topology.nodes[victim].order(&Orders::default())?;
        field.note(format!("the store of {} is in order", field.name(victim)));
    }
    field.pause(1_500, 2_500).await;
    // One that was declared dead meanwhile has ended; its supervisor starts it again.
    for node in 0..nodes {
        field.topology.raise(node).await?;
    }
    Ok(())
}

/// Lets the syncs of one node fail for a while, as a dying disk does.
pub(super) async fn fail_syncs(field: &mut Field<'_>) -> anyhow::Result<()> {
    field.pause(500, 1_000).await;
    let (victim, percent) = (field.pick(field.topology.nodes.len()), field.one_of(&FAILING_SYNCS));
    field.note(format!("{percent} % of the syncs of {} fail with EIO", field.name(victim)));
    block_in_place(|| field.topology.nodes[victim].fail_syncs(percent))?;
    let from_ms = field.recorder.now_ms() + OBEYED_MS;
    field.pause(1_500, 4_500).await;
    if percent == 100 && field.topology.nodes.len() == 1 {
        field.recorder.closed(from_ms, field.recorder.now_ms());
    }
    block_in_place(|| field.topology.nodes[victim].fail_syncs(0))?;
    field.note(format!("the disk of {} is sound", field.name(victim)));
    field.pause(1_500, 2_500).await;
    field.topology.raise(victim).await
}

/// Lets actors of sessions or Runtimes crash now and then; whoever needs them next makes them anew.
pub(super) async fn crash_some(field: &mut Field<'_>) -> anyhow::Result<()> {
    field.pause(500, 1_000).await;
    let victim = field.pick(field.topology.nodes.len());
    let (actor, one_in) = field.one_of(&TEMPORARY);
    let name = field.name(victim);
    field.note(format!("one message in {one_in} makes an actor of {name} crash: {actor}"));
    order_crash(field, victim, actor, one_in)?;
    field.pause(2_000, 4_000).await;
    if field.topology.nodes[victim].is_down() {
        let what = format!("{name} ended because actors crashed that no supervisor restarts: {actor}");
        field.violations.push(Violation::new(Invariant::Supervision, what));
    } else {
        let panics = field.topology.nodes[victim].counter(&panics_of(actor)).await?;
        field.measure(&format!("{actor}_crashes"), panics);
    }
    field.topology.nodes[victim].order(&Orders::default())?;
    field.note(format!("actors of {name} crash no more"));
    field.pause(1_000, 2_000).await;
    field.topology.raise(victim).await
}

/// Lets one actor crash as often as it starts: its node must give up, and come back in order.
pub(super) async fn crash_in_a_loop(field: &mut Field<'_>) -> anyhow::Result<()> {
    let victim = field.pick(field.topology.nodes.len());
    let name = field.name(victim);
    field.note(format!("an actor of {name} crashes in a loop: {PERMANENT}"));
    order_crash(field, victim, PERMANENT, 1)?;
    let begun = Instant::now();
    while !field.topology.nodes[victim].is_down() {
        if begun.elapsed() > GIVES_UP {
            let what = format!("{name} goes on {GIVES_UP:?} after its {PERMANENT} began to crash in a loop");
            field.violations.push(Violation::new(Invariant::Supervision, what));
            break;
        }
        field.pause(50, 50).await;
    }
    let down = field.topology.nodes[victim].is_down();
    if down && !field.topology.nodes[victim].has_said(GAVE_UP) {
        let what = format!("{name} ended for another reason than that its {PERMANENT} crashed in a loop");
        field.violations.push(Violation::new(Invariant::Supervision, what));
    }
    field.measure("gave_up_ms", begun.elapsed().as_secs_f64() * 1e3);
    field.topology.nodes[victim].order(&Orders::default())?;
    field.note(format!("{name} ended and comes back"));
    field.topology.raise(victim).await?;
    field.pause(1_500, 2_500).await;
    Ok(())
}

fn order_crash(field: &mut Field<'_>, victim: usize, actor: &str, one_in: u64) -> anyhow::Result<()> {
    let crash = Crash { actor: actor.to_owned(), one_in, times: u64::MAX };
    let orders = Orders { seed: field.random.below(u64::MAX), store: StoreFault::None, crash: Some(crash) };
    field.topology.nodes[victim].order(&orders)
}

fn panics_of(actor: &str) -> String {
    format!("aesp_actor_panics_total{{actor=\"{actor}\"}}")
}
