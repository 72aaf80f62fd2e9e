//! Several nodes, their homes and a network that loses, doubles and reorders, against invariant Q1 and against whoever waits.
//!
//! A failing run prints its seed; `AESP_SEED` runs that one alone.

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
    holder::{Holder, Refused},
    home::{Effect, Home},
    message::{Message, Newest, Term},
    starts::LIFE,
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

    fn send(&mut self, from: Incarnation, to: Incarnation, message: Message) {
        self.letters.push(Letter { from, to, message });
    }

    fn report(&mut self, from: Incarnation, report: Option<crate::message::Report>) {
        if let Some(report) = report {
            self.send(from, self.at, Message::Report(report));
        }
    }

    fn effects(&mut self, effects: Vec<Effect>) {
        let Some(term) = self.home.as_ref().map(Home::term) else { return };
        for effect in effects {
            match effect {
                Effect::Tell(to, message) => self.send(self.at, to, message),
                Effect::Write(ceilings) => self.writes.push((term, ceilings)),
                Effect::Count => {
                    self.sessions += std::mem::take(&mut self.late);
                    self.counts.push((term, None));
                }
            }
        }
    }

    fn with_home(&mut self, act: impl FnOnce(&mut Home) -> Vec<Effect>) {
        if let Some(home) = &mut self.home {
            let effects = act(home);
            self.effects(effects);
        }
    }

    fn begin_home(&mut self) {
        if self.home.is_none() {
            // A home of the same epoch reads when the write before it has ended, however it ended.
            for (term, ceilings) in std::mem::take(&mut self.writes) {
                if term.epoch == self.epoch && self.below(2) == 0 {
                    self.row = ceilings;
                }
            }
            self.instance += 1;
            let term = Term { epoch: self.epoch, instance: self.instance };
            let (home, effects) = Home::new(term, self.row.clone(), &self.living(), self.now());
            self.home = Some(home);
            self.effects(effects);
        }
    }

    fn deliver(&mut self, Letter { from, to, message }: Letter) {
        let (now, instant) = (self.now(), self.instant());
        if let Message::Report(report) = message {
            if to == self.at && self.nodes.contains_key(&to) {
                self.begin_home();
                self.with_home(|home| home.hear(from, &report, now));
            }
            return;
        }
        let Some(node) = self.nodes.get_mut(&to) else { return };
        match message {
            Message::Collect(collect) => {
                if let Some(report) = node.holder.collect(collect, &node.gate, instant) {
                    self.send(to, from, Message::Report(report));
                }
            }
            Message::Grant(grant) => {
                node.holder.grant(&grant, &node.gate, instant);
            }
            Message::Report(_) => {}
        }
    }

    fn write_one(&mut self) {
        if self.writes.is_empty() {
            return;
        }
        let (term, ceilings) = self.writes.remove(0);
        let fenced = term.epoch != self.epoch;
        let fails = !self.quiet && self.below(6) == 0;
        if !fenced && (!fails || self.below(2) == 0) {
            self.row = ceilings;
        }
        let now = self.now();
        if self.home.as_ref().is_some_and(|home| home.term() == term) {
            self.with_home(|home| home.written(!fails && !fenced, now));
        }
    }

    fn count_one(&mut self) {
        let Some(at) = (0..self.counts.len()).next() else { return };
        if self.counts[at].1.is_none() {
            self.counts[at].1 = Some(self.sessions.into());
            return;
        }
        let (term, count) = self.counts.remove(at);
        let count = count.filter(|_| self.quiet || self.below(5) > 0);
        let now = self.now();
        if self.home.as_ref().is_some_and(|home| home.term() == term) {
            self.with_home(|home| home.counted(count, now));
        }
    }

    fn tick(&mut self) {
        let (now, living) = (self.now(), self.living());
        self.with_home(|home| home.tick(&living, now));
        if self.home.as_ref().is_some_and(Home::is_idle) {
            self.home = None;
        }
        let instant = self.instant();
        let nodes: Vec<_> = self.nodes.keys().copied().collect();
        for id in nodes {
            let node = self.nodes.get_mut(&id).unwrap();
            node.calls.retain(|until| {
                let runs = *until > now.as_millis() as u64;
                if !runs {
                    node.gate.calls.give();
                }
                runs
            });
            let report = node.holder.ask(&node.gate, instant);
            self.report(id, report);
        }
    }

    fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        self.tick();
    }

    fn take(&mut self, id: Incarnation, limit: Limit) -> bool {
        let lasts = 1 + self.below(LONGEST);
        let (now_ms, instant) = (self.now_ms, self.instant());
        let node = self.nodes.get_mut(&id).unwrap();
        let taken = match limit {
            Limit::Calls => {
                let lasts = Duration::from_millis(lasts);
                // Without the rate, which has a check of its own.
                lasts <= node.gate.longest() && node.gate.calls.take()
            }
            Limit::Starts => node.gate.starts.take(instant),
            _ => node.gate.meter(limit).unwrap().take(),
        };
        if !taken {
            let missing = missing(node, limit);
            node.holder.wait_for(&missing, Duration::from_millis(lasts));
            let report = node.holder.ask(&node.gate, instant);
            self.report(id, report);
            // Some go on waiting, some leave.
            if self.below(2) == 0 {
                self.nodes.get_mut(&id).unwrap().holder.waits_no_more(&missing);
            }
            return false;
        }
        match limit {
            Limit::Calls => node.calls.push(now_ms + lasts),
            Limit::Sessions => node.creating.push(false),
            Limit::Starts => self.started.push(now_ms),
            Limit::Runtimes => {}
        }
        self.check(limit);
        true
    }

    fn give(&mut self, id: Incarnation, limit: Limit) {
        let node = self.nodes.get_mut(&id).unwrap();
        match limit {
            Limit::Calls => {
                if node.calls.pop().is_some() {
                    node.gate.calls.give();
                }
            }
            Limit::Runtimes => {
                if node.gate.runtimes.level().used > 0 {
                    node.gate.runtimes.give();
                }
            }
            Limit::Starts => {
                let report = node.holder.look(&node.gate);
                self.report(id, report);
            }
            Limit::Sessions => self.sessions = self.sessions.saturating_sub(1),
        }
    }

    /// One step of a session's creation: it is stored, then its place is counted as that; or it fails.
    fn create(&mut self, id: Incarnation) {
        let fails = self.below(4) == 0;
        let node = self.nodes.get_mut(&id).unwrap();
        match node.creating.pop() {
            None => {}
            Some(true) => node.gate.session_stored(),
            Some(false) if fails => node.gate.sessions.give(),
            Some(false) => {
                node.creating.insert(0, true);
                self.sessions += 1;
            }
        }
    }

    fn kill(&mut self, id: Incarnation) {
        if self.nodes.len() == 1 {
            return;
        }
        let node = self.nodes.remove(&id).unwrap();
        self.orphans.extend(node.calls);
        self.late += u32::try_from(node.creating.iter().filter(|stored| !**stored).count()).unwrap();
        if self.at == id {
            self.move_home();
        }
    }

    fn move_home(&mut self) {
        self.home = None;
        self.epoch += 1;
        self.at = self.any_node();
        if self.below(2) == 0 {
            self.begin_home();
        }
    }

    /// A change of quotas returns when every node has applied it.
    fn change_quotas(&mut self) {
        let draw = |most: u64| u32::try_from(1 + self.random.below(most)).unwrap();
        let quotas = Quotas {
            sessions: draw(40),
            calls_in_flight: draw(60),
            calls_per_second: RATE,
            runtimes: draw(8),
        };
        self.newest = Newest { revision: Revision(self.newest.revision.0 + 1), quotas };
        for node in self.nodes.values_mut() {
            node.holder.learn(self.newest, &node.gate);
        }
    }

    fn step(&mut self) {
        let id = self.any_node();
        let limit = Limit::ALL[usize::try_from(self.below(4)).unwrap()];
        match self.below(100) {
            0..30 => {
                self.take(id, limit);
            }
            30..40 => self.give(id, limit),
            40..48 => self.create(id),
            48..75 => self.travel(),
            75..82 => self.write_one(),
            82..88 => self.count_one(),
            88..95 => self.pass(1 + self.below(150)),
            95 => self.kill(id),
            96 if self.nodes.len() < 5 => self.join(),
            97 => self.change_quotas(),
            98 => self.move_home(),
            // The home alone ends, and begins anew at the same owner.
            99 => self.home = None,
            _ => {}
        }
    }

    fn travel(&mut self) {
        if self.letters.is_empty() {
            return;
        }
        let at = usize::try_from(self.below(self.letters.len() as u64)).unwrap();
        match self.below(10) {
            0 => drop(self.letters.swap_remove(at)),
            1 => {
                let Letter { from, to, message } = self.letters[at];
                self.deliver(Letter { from, to, message });
            }
            _ => {
                let letter = self.letters.swap_remove(at);
                self.deliver(letter);
            }
        }
    }

    /// Lets everything arrive that is on its way.
    fn settle(&mut self) {
        loop {
            if !self.letters.is_empty() {
                let letter = self.letters.remove(0);
                self.deliver(letter);
            } else if !self.writes.is_empty() {
                self.write_one();
            } else if !self.counts.is_empty() {
                self.count_one();
            } else {
                return;
            }
        }
    }

    /// Ends the faults: who waited has left, what dead nodes ran has ended.
    fn quieten(&mut self) {
        self.quiet = true;
        self.begin_home();
        for node in self.nodes.values_mut() {
            let wanted = node.holder.newest();
            assert_eq!(wanted, self.newest);
            for limit in Limit::ALL {
                (0..10_000).for_each(|_| node.holder.waits_no_more(&[limit]));
            }
        }
        let nodes: Vec<_> = self.nodes.keys().copied().collect();
        for id in nodes {
            while !self.nodes[&id].creating.is_empty() {
                self.create(id);
            }
        }
        for _ in 0..60 {
            self.pass(100);
            self.settle();
        }
        assert!(self.orphans.iter().all(|until| *until <= self.now_ms));
    }

    /// Waits as an admission does.
    fn acquire(&mut self, id: Incarnation, limit: Limit) -> Result<(), Refused> {
        for attempt in 0..160 {
            let instant = self.instant();
            let lasts = Duration::from_millis(LONGEST);
            let node = self.nodes.get_mut(&id).unwrap();
            let taken = match limit {
                Limit::Calls => lasts <= node.gate.longest() && node.gate.calls.take(),
                Limit::Starts => node.gate.starts.take(instant),
                _ => node.gate.meter(limit).unwrap().take(),
            };
            if taken {
                match limit {
                    Limit::Calls => node.calls.push(u64::MAX),
                    Limit::Starts => self.started.push(self.now_ms),
                    _ => {}
                }
                return Ok(());
            }
            let missing = missing(node, limit);
            let since = node.holder.wait_for(&missing, lasts);
            let report = node.holder.ask(&node.gate, instant);
            self.report(id, report);
            self.settle();
            let node = self.nodes.get_mut(&id).unwrap();
            let refusal = node.holder.refusal(limit, since);
            node.holder.waits_no_more(&missing);
            match refusal {
                // What was granted is there at once.
                None if attempt % 4 < 3 => {}
                Some(Refused::Unknown) | None => self.pass(100),
                Some(refused) => return Err(refused),
            }
        }
        panic!(
            "nobody answers who waits at {id:?} for {} (AESP_SEED={}): {:#?} {:#?}",
            limit.name(),
            self.seed,
            self.nodes[&id].holder,
            self.home,
        );
    }

    /// Takes all that is left of a limit, from random nodes; exactly the quota must come of it.
    fn exhaust(&mut self, limit: Limit) {
        let quota = limit.of(&self.newest.quotas);
        let free = quota.saturating_sub(self.used(limit));
        for _ in 0..free {
            let id = self.any_node();
            // Whatever was before has been before.
            self.now_ms += 1;
            let acquired = self.acquire(id, limit);
            assert_eq!(
                acquired,
                Ok(()),
                "{} of {} {} (AESP_SEED={})",
                self.used(limit),
                quota,
                limit.name(),
                self.seed
            );
            if limit == Limit::Sessions {
                self.sessions += 1;
                self.nodes[&id].gate.session_stored();
            }
            self.check(limit);
        }
        let id = self.any_node();
        let more = self.acquire(id, limit);
        assert!(matches!(more, Err(Refused::AtLimit { .. })), "{more:?} (AESP_SEED={})", self.seed);
    }

    fn check_rate(&self) {
        for (first, start) in self.started.iter().enumerate() {
            for (last, end) in self.started.iter().enumerate().skip(first) {
                let window = u128::from(end - start) + LIFE.as_millis();
                let most = u128::from(RATE) * window / 1_000 + u128::from(RATE) + 1;
                let count = (last - first + 1) as u128;
                assert!(count <= most, "{count} starts in {window} ms (AESP_SEED={})", self.seed);
            }
        }
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
