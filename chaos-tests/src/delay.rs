//! Delays what arrives in a network namespace: a reader of the packet queue (NFQUEUE) that hands each packet on some time later.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    io::{ErrorKind, Write, stderr},
    time::Duration,
};

use aesp_proto::Entropy;
use anyhow::Context;
use clap::Args;
use nfq::{Message, Queue, Verdict};
use tokio::time::{Instant, MissedTickBehavior, interval};

/// What it says once it stands in the way of packets.
pub(crate) const READY: &str = "delaying";
const LOOK: Duration = Duration::from_millis(1);
/// So many packets may be under way.
const ROOM: u32 = 65_536;

/// Delays the packets of a queue; aesp-chaos starts this itself, within the namespace of a node.
#[derive(Args, Debug)]
pub(crate) struct Delay {
    /// The queue that iptables puts packets into.
    #[arg(long)]
    queue: u16,
    /// A packet is late by so much at least.
    #[arg(long)]
    least_ms: u64,
    /// And by so much at most: it may arrive before one that was sent earlier.
    #[arg(long)]
    most_ms: u64,
    /// Decides by how much.
    #[arg(long)]
    seed: u64,
}

impl Delay {
    /// Delays until it is killed.
    ///
    /// # Errors
    /// When the system refuses the queue.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let mut queue = Queue::open().context("no packet queue")?;
        queue.bind(self.queue).context("the packet queue can't be read")?;
        // Only when a packet may go on is decided here, not what is in it.
        queue.set_copy_range(self.queue, 0)?;
        queue.set_recv_gso(self.queue, true)?;
        queue.set_fail_open(self.queue, true)?;
        queue.set_queue_max_len(self.queue, ROOM)?;
        queue.set_nonblocking(true);
        // Nobody reads it when aesp-chaos is gone.
        drop(writeln!(stderr().lock(), "{READY}"));

        let random = Entropy::from_seed(self.seed);
        let mut under_way = UnderWay::default();
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            let now = Instant::now();
            loop {
                match queue.recv() {
                    Ok(packet) => {
                        let spread = self.most_ms.saturating_sub(self.least_ms) * 1_000 + 1;
                        let late = Duration::from_micros(self.least_ms * 1_000 + random.below(spread));
                        under_way.add(now + late, packet);
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error).context("the packet queue can't be read"),
                }
            }
            while let Some(mut packet) = under_way.due(now) {
                packet.set_verdict(Verdict::Accept);
                // One that the system has dropped meanwhile is lost, as packets are.
                drop(queue.verdict(packet));
            }
        }
    }
}

/// Packets by the time at which they arrive.
struct UnderWay<P = Message> {
    times: BinaryHeap<Reverse<(Instant, u64)>>,
    packets: BTreeMap<u64, P>,
    next: u64,
}

impl<P> Default for UnderWay<P> {
    fn default() -> Self {
        Self { times: BinaryHeap::new(), packets: BTreeMap::new(), next: 0 }
    }
}

impl<P> UnderWay<P> {
    fn add(&mut self, at: Instant, packet: P) {
        self.times.push(Reverse((at, self.next)));
        self.packets.insert(self.next, packet);
        self.next += 1;
    }

    /// Takes the earliest packet that has arrived by `now`.
    fn due(&mut self, now: Instant) -> Option<P> {
        let Reverse((at, number)) = *self.times.peek()?;
        if at > now {
            return None;
        }
        self.times.pop();
        self.packets.remove(&number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn packets_arrive_when_due_and_may_overtake_each_other() {
        let now = Instant::now();
        let mut under_way = UnderWay::default();
        let after = |ms| now + Duration::from_millis(ms);
        under_way.add(after(20), "first");
        under_way.add(after(10), "second");
        assert_eq!(under_way.due(after(9)), None);
        assert_eq!(under_way.due(after(15)), Some("second"));
        assert_eq!(under_way.due(after(15)), None);
        assert_eq!(under_way.due(after(20)), Some("first"));
        assert!(under_way.packets.is_empty());
    }
}
