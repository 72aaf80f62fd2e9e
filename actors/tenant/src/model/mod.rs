//! Several nodes, their homes and a network that loses, doubles and reorders, against invariant Q1 and against whoever waits.
//!
//! A failing run prints its seed; `AESP_SEED` runs that one alone.

mod calm;
mod carry;
mod steps;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use aesp_proto::{Entropy, Incarnation, Revision};
use tokio::time::Instant;

use crate::{
    Quotas,
    ceilings::Ceilings,
    counts::Limit,
    gate::Gate,
    holder::Holder,
    home::Home,
    message::{Message, Newest, Term},
};

const LONGEST: u64 = 3_000;
const RATE: u32 = 40;

struct Node {
    gate: Gate,
    holder: Holder,
    /// Until when calls run.
    calls: Vec<u64>,
    /// Sessions for which a place is taken, and whether they are in the store.
    creating: Vec<bool>,
}

struct Letter {
    from: Incarnation,
    to: Incarnation,
    message: Message,
}

struct World {
    seed: u64,
    random: Entropy,
    base: Instant,
    now_ms: u64,
    nodes: BTreeMap<Incarnation, Node>,
    next: u64,
    /// Calls of dead nodes, which their Runtimes still work on.
    orphans: Vec<u64>,
    /// Sessions of dead nodes whose commit is on its way.
    late: u32,
    epoch: u64,
    at: Incarnation,
    home: Option<Home>,
    instance: u64,
    row: Ceilings,
    sessions: u32,
    newest: Newest,
    letters: Vec<Letter>,
    writes: Vec<(Term, Ceilings)>,
    counts: Vec<(Term, Option<u64>)>,
    started: Vec<u64>,
    quiet: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let random = Entropy::from_seed(seed);
        let draw = |most: u64| u32::try_from(1 + random.below(most)).unwrap();
        let quotas = Quotas {
            sessions: draw(40),
            calls_in_flight: draw(60),
            calls_per_second: RATE,
            runtimes: draw(8),
        };
        let mut world = Self {
            seed,
            base: Instant::now(),
            now_ms: 1_000,
            nodes: BTreeMap::new(),
            next: 0,
            orphans: Vec::new(),
            late: 0,
            epoch: 1,
            at: Incarnation(1),
            home: None,
            instance: 0,
            row: Ceilings::new(),
            sessions: 0,
            newest: Newest { revision: Revision(1), quotas },
            letters: Vec::new(),
            writes: Vec::new(),
            counts: Vec::new(),
            started: Vec::new(),
            quiet: false,
            random,
        };
        for _ in 0..world.below(4) + 1 {
            world.join();
        }
        world
    }

    fn below(&self, most: u64) -> u64 {
        self.random.below(most)
    }

    fn now(&self) -> Duration {
        Duration::from_millis(self.now_ms)
    }

    fn instant(&self) -> Instant {
        self.base + self.now()
    }

    fn join(&mut self) {
        self.next += 1;
        let gate = Gate::new(self.base);
        let mut holder = Holder::default();
        holder.learn(self.newest, &gate);
        let node = Node { gate, holder, calls: Vec::new(), creating: Vec::new() };
        self.nodes.insert(Incarnation(self.next), node);
    }

    fn any_node(&self) -> Incarnation {
        let at = usize::try_from(self.below(self.nodes.len() as u64)).unwrap();
        *self.nodes.keys().nth(at).unwrap()
    }

    fn living(&self) -> BTreeSet<Incarnation> {
        self.nodes.keys().copied().collect()
    }

    /// What runs of the tenant, wherever it is.
    fn used(&self, limit: Limit) -> u32 {
        let count = |of: fn(&Node) -> usize| self.nodes.values().map(of).sum::<usize>();
        let count = match limit {
            Limit::Calls => {
                count(|node| node.calls.len())
                    + self.orphans.iter().filter(|until| **until > self.now_ms).count()
            }
            Limit::Sessions => {
                // Those that are stored already are counted as stored.
                count(|node| node.creating.iter().filter(|stored| !**stored).count())
                    + (self.sessions + self.late) as usize
            }
            Limit::Runtimes => count(|node| node.gate.runtimes.level().used as usize),
            Limit::Starts => 0,
        };
        u32::try_from(count).unwrap()
    }

    /// INVARIANT Q1: asked after each thing that begins.
    fn check(&self, limit: Limit) {
        let (used, quota) = (self.used(limit), limit.of(&self.newest.quotas));
        assert!(used <= quota, "{used} of {quota} {} (AESP_SEED={})", limit.name(), self.seed);
    }
}

/// Whoever wants to start a call wants a place for it, too.
fn missing(node: &Node, limit: Limit) -> Vec<Limit> {
    let homeless = limit == Limit::Starts && node.gate.calls.level().limit == 0;
    if homeless { vec![Limit::Calls, Limit::Starts] } else { vec![limit] }
}

fn seeds(count: u64) -> std::ops::Range<u64> {
    let asked = std::env::var("AESP_SEED").ok().and_then(|seed| seed.parse().ok());
    asked.map_or(0..count, |seed| seed..seed + 1)
}

#[test]
fn no_limit_is_ever_exceeded_and_who_waits_is_answered() {
    for seed in seeds(1_000) {
        let mut world = World::new(seed);
        for _ in 0..600 {
            world.step();
        }
        world.quieten();
        for limit in Limit::LEVELS {
            world.exhaust(limit);
        }
        world.check_rate();
    }
}

#[test]
fn the_rate_of_a_quiet_cluster_is_used_to_the_last_call_from_any_node() {
    for seed in seeds(300) {
        let mut world = World::new(seed);
        world.quiet = true;
        for _ in 0..3 {
            // Whatever is stale by then was taken by nobody.
            for _ in 0..20 {
                world.pass(100);
                world.settle();
            }
            let begun = world.started.len();
            let first = world.now_ms;
            while world.now_ms < first + 1_000 && world.acquire(world.any_node(), Limit::Starts).is_ok() {}
            let count = world.started.len() - begun;
            assert!(count + 2 >= RATE as usize, "{count} of {RATE} (AESP_SEED={seed})");
        }
        world.check_rate();
    }
}
