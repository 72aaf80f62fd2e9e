//! Which dispatches this process has seen, works on, or holds a result for. No I/O.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use aesp_proto::{DispatchId, v1::ToolResult};
use tokio_util::sync::CancellationToken;

use crate::failure::ToolFailure;

/// How many dispatches are remembered after they ended, for the report after a reconnect.
const SEEN: usize = 65_536;

/// What the ledger holds at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) running: usize,
    pub(crate) results: usize,
    pub(crate) result_bytes: usize,
}

/// What to do with a call that arrived.
#[derive(Debug)]
pub(crate) enum Begin {
    /// Run it; the token says when to stop.
    Run(CancellationToken),
    /// It is running already.
    Running,
    /// It was answered already: answer again.
    Answered(ToolResult),
    /// It was answered and acknowledged already, or its result had to be given up: it must not run again.
    Over,
    /// More calls run than this Runtime gave credits for.
    Full,
}

#[derive(Debug)]
struct Running {
    generation: u64,
    streaming: bool,
    token: CancellationToken,
    stopped: Option<ToolFailure>,
}

#[derive(Debug)]
struct Held {
    generation: u64,
    order: u64,
    bytes: usize,
    result: ToolResult,
}

/// The ledger. `generation` numbers the connections of this process.
#[derive(Debug)]
pub(crate) struct Ledger {
    bounds: Bounds,
    running: HashMap<DispatchId, Running>,
    held: HashMap<DispatchId, Held>,
    order: BTreeMap<u64, DispatchId>,
    next_order: u64,
    bytes: usize,
    seen: HashSet<DispatchId>,
    seen_order: VecDeque<DispatchId>,
}

impl Ledger {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            running: HashMap::new(),
            held: HashMap::new(),
            order: BTreeMap::new(),
            next_order: 0,
            bytes: 0,
            seen: HashSet::new(),
            seen_order: VecDeque::new(),
        }
    }

    /// Takes a call that arrived on the connection `generation`.
    pub(crate) fn begin(&mut self, id: DispatchId, generation: u64, streaming: bool) -> Begin {
        if let Some(running) = self.running.get_mut(&id) {
            running.generation = generation;
            return Begin::Running;
        }
        if let Some(held) = self.held.get_mut(&id) {
            held.generation = generation;
            return Begin::Answered(held.result.clone());
        }
        if self.seen.contains(&id) {
            return Begin::Over;
        }
        self.remember(id);
        if self.running.len() >= self.bounds.running {
            return Begin::Full;
        }
        let token = CancellationToken::new();
        self.running.insert(id, Running { generation, streaming, token: token.clone(), stopped: None });
        Begin::Run(token)
    }

    /// Keeps the result of a call until it is acknowledged, and returns the connection to send it on first. The oldest
    /// results are given up when too many are kept; their number is the second value.
    pub(crate) fn finish(&mut self, id: DispatchId, generation: u64, result: ToolResult) -> (u64, usize) {
        let generation = self.running.remove(&id).map_or(generation, |running| running.generation);
        let bytes = result.result.as_ref().map_or(0, |r| r.content_json.len());
        let order = self.next_order;
        self.next_order += 1;
        self.forget(id);
        self.held.insert(id, Held { generation, order, bytes, result });
        self.order.insert(order, id);
        self.bytes += bytes;
        let mut given_up = 0;
        while self.held.len() > self.bounds.results
            || (self.bytes > self.bounds.result_bytes && self.held.len() > 1)
        {
            let oldest = self.order.first_key_value().map(|(_, id)| *id).expect("held results are ordered");
            self.forget(oldest);
            given_up += 1;
        }
        (generation, given_up)
    }

    /// Forgets the result of a call: the Host has it, or will never want it.
    pub(crate) fn acknowledge(&mut self, id: DispatchId) -> bool {
        self.forget(id)
    }

    /// Tells a running call to stop, and why.
    pub(crate) fn stop(&mut self, id: DispatchId, why: ToolFailure) {
        if let Some(running) = self.running.get_mut(&id) {
            running.stopped.get_or_insert(why);
            running.token.cancel();
        }
    }

    /// Tells all running calls to stop.
    pub(crate) fn stop_all(&mut self, why: &ToolFailure) {
        for running in self.running.values_mut() {
            running.stopped.get_or_insert_with(|| why.clone());
            running.token.cancel();
        }
    }

    /// Stops the streams of a connection that is gone: chunks that were lost can't be sent again.
    pub(crate) fn stop_streams(&mut self, generation: u64, why: &ToolFailure) {
        for running in self.running.values_mut().filter(|r| r.streaming && r.generation == generation) {
            running.stopped.get_or_insert_with(|| why.clone());
            running.token.cancel();
        }
    }

    /// Returns why a running call was told to stop.
    pub(crate) fn stopped(&self, id: DispatchId) -> Option<ToolFailure> {
        self.running.get(&id)?.stopped.clone()
    }

    /// Returns the held results of connections that are not `live`, oldest first, and lets `generation` answer for them.
    pub(crate) fn redeliver(&mut self, generation: u64, live: impl Fn(u64) -> bool) -> Vec<ToolResult> {
        let mut results = Vec::new();
        for id in self.order.values() {
            let held = self.held.get_mut(id).expect("ordered results are held");
            if !live(held.generation) {
                held.generation = generation;
                results.push(held.result.clone());
            }
        }
        for running in self.running.values_mut().filter(|r| !live(r.generation)) {
            running.generation = generation;
        }
        results
    }

    /// Returns the dispatches seen and running.
    pub(crate) fn report(&self) -> (Vec<DispatchId>, Vec<DispatchId>) {
        (self.seen_order.iter().copied().collect(), self.running.keys().copied().collect())
    }

    /// Returns how many calls of a connection run or wait for their acknowledgement.
    pub(crate) fn open(&self, generation: u64) -> usize {
        self.running.values().filter(|r| r.generation == generation).count()
            + self.held.values().filter(|h| h.generation == generation).count()
    }

    /// Returns whether no call runs or waits for its acknowledgement.
    pub(crate) fn is_idle(&self) -> bool {
        self.running.is_empty() && self.held.is_empty()
    }

    /// Returns how many calls run.
    pub(crate) fn running(&self) -> usize {
        self.running.len()
    }

    fn remember(&mut self, id: DispatchId) {
        self.seen.insert(id);
        self.seen_order.push_back(id);
        // A dispatch that is still open is not forgotten before a newer one that has ended.
        let mut open = Vec::new();
        while self.seen_order.len() + open.len() > SEEN {
            let Some(oldest) = self.seen_order.pop_front() else { break };
            if self.running.contains_key(&oldest) || self.held.contains_key(&oldest) {
                open.push(oldest);
            } else {
                self.seen.remove(&oldest);
            }
        }
        for id in open.into_iter().rev() {
            self.seen_order.push_front(id);
        }
    }

    fn forget(&mut self, id: DispatchId) -> bool {
        let Some(held) = self.held.remove(&id) else { return false };
        self.order.remove(&held.order);
        self.bytes -= held.bytes;
        true
    }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
