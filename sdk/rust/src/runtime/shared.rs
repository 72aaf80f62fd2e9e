//! What the connections and calls of one Runtime share.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use aesp_proto::{
    Clock, DispatchId, Entropy,
    v1::{
        AnnounceRuntime, CapabilityUpdate, ContractDraft, FulfillTools, RegisterTools, RuntimeFrame,
        ToolResult, runtime_frame::Frame,
    },
};
use tokio::sync::{mpsc, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::warn;

use crate::{
    client::Client,
    failure::ToolFailure,
    runtime::{ledger::Ledger, status::RuntimeStatus, tool::Tool},
};

/// Bounds of one Runtime.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) concurrency: u32,
    pub(crate) max_result_bytes: usize,
}

pub(crate) struct Shared {
    pub(crate) announcement: AnnounceRuntime,
    pub(crate) limits: Limits,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Entropy,
    pub(crate) client: Client,
    pub(crate) status: watch::Sender<RuntimeStatus>,
    /// Changes whenever a call ends or a result is acknowledged.
    pub(crate) progress: watch::Sender<()>,
    pub(crate) drain: CancellationToken,
    pub(crate) drain_reason: Mutex<String>,
    pub(crate) calls: TaskTracker,
    tools: Mutex<BTreeMap<String, Arc<Tool>>>,
    registered: Mutex<BTreeMap<String, Registered>>,
    ledger: Mutex<Ledger>,
    links: Mutex<BTreeMap<u64, mpsc::Sender<RuntimeFrame>>>,
}

/// What is registered for one session, in DEVELOPMENT mode.
#[derive(Default)]
struct Registered {
    drafts: BTreeMap<String, ContractDraft>,
    tools: BTreeMap<String, Arc<Tool>>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").field("id", &self.announcement.runtime_id).finish_non_exhaustive()
    }
}

pub(crate) struct Parts {
    pub(crate) announcement: AnnounceRuntime,
    pub(crate) limits: Limits,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Entropy,
    pub(crate) client: Client,
    pub(crate) tools: Vec<Tool>,
    pub(crate) ledger: Ledger,
}

impl Shared {
    pub(crate) fn new(parts: Parts) -> Self {
        let tools = parts.tools.into_iter().map(|tool| (tool.name().to_owned(), Arc::new(tool))).collect();
        Self {
            announcement: parts.announcement,
            limits: parts.limits,
            clock: parts.clock,
            entropy: parts.entropy,
            client: parts.client,
            status: watch::Sender::default(),
            progress: watch::Sender::default(),
            drain: CancellationToken::new(),
            drain_reason: Mutex::default(),
            calls: TaskTracker::new(),
            tools: Mutex::new(tools),
            registered: Mutex::default(),
            ledger: Mutex::new(parts.ledger),
            links: Mutex::default(),
        }
    }

    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.ledger)
    }

    /// Returns the tool that is registered as `name` for the session, or else that fulfils `name` in `version`.
    pub(crate) fn tool(&self, session: &str, name: &str, version: &str) -> Option<Arc<Tool>> {
        if let Some(tool) = lock(&self.registered).get(session).and_then(|own| own.tools.get(name)) {
            return Some(Arc::clone(tool));
        }
        let tools = lock(&self.tools);
        tools.get(&format!("{name}@{version}")).or_else(|| tools.get(name)).cloned()
    }

    pub(crate) fn tool_names(&self) -> Vec<String> {
        lock(&self.tools).keys().cloned().collect()
    }

    /// Adds tools and offers them to every node that is connected.
    pub(crate) fn offer(&self, offered: Vec<Tool>) {
        let names: Vec<_> = offered.iter().map(|tool| tool.name().to_owned()).collect();
        lock(&self.tools).extend(offered.into_iter().map(|tool| (tool.name().to_owned(), Arc::new(tool))));
        self.tell_all(&self.fulfill(names));
    }

    /// Removes tools and tells every node that is connected.
    pub(crate) fn withdraw(&self, names: &[String], reason: &str) {
        lock(&self.tools).retain(|name, _| !names.contains(name));
        self.status.send_modify(|status| {
            status.fulfilled.retain(|fulfilled| !names.iter().any(|name| same_tool(name, fulfilled)));
            status.rejected.retain(|rejected, _| !names.contains(rejected));
        });
        let update = CapabilityUpdate {
            runtime_id: self.announcement.runtime_id.clone(),
            reason: reason.to_owned(),
            effective_timestamp: self.clock.now().0,
            withdrawn_tools: names.to_vec(),
            ..CapabilityUpdate::default()
        };
        self.tell_all(&RuntimeFrame { frame: Some(Frame::CapabilityUpdate(update)) });
    }

    /// Adds tools with their own contracts for one session, in DEVELOPMENT mode.
    pub(crate) fn register(&self, session: &str, added: Vec<(ContractDraft, Tool)>) {
        let mut registered = lock(&self.registered);
        let own = registered.entry(session.to_owned()).or_default();
        for (draft, tool) in added {
            own.tools.insert(draft.name.clone(), Arc::new(tool));
            own.drafts.insert(draft.name.clone(), draft);
        }
        let frame = self.registration(session, own);
        drop(registered);
        self.tell_all(&frame);
    }

    /// Returns the registrations to make on a new connection.
    pub(crate) fn registrations(&self) -> Vec<RuntimeFrame> {
        lock(&self.registered).iter().map(|(session, own)| self.registration(session, own)).collect()
    }

    /// Forgets what is registered for a session that is over.
    pub(crate) fn unregister(&self, session: &str) {
        lock(&self.registered).remove(session);
    }

    fn registration(&self, session: &str, own: &Registered) -> RuntimeFrame {
        let register = RegisterTools {
            runtime_id: self.announcement.runtime_id.clone(),
            tools: own.drafts.values().cloned().collect(),
            session_id: session.to_owned(),
            ..RegisterTools::default()
        };
        RuntimeFrame { frame: Some(Frame::Register(register)) }
    }

    pub(crate) fn fulfill(&self, tool_names: Vec<String>) -> RuntimeFrame {
        let fulfill = FulfillTools {
            session_id: String::new(),
            tool_names,
            runtime_id: self.announcement.runtime_id.clone(),
        };
        RuntimeFrame { frame: Some(Frame::Fulfill(fulfill)) }
    }

    pub(crate) fn join(&self, generation: u64, link: mpsc::Sender<RuntimeFrame>) {
        lock(&self.links).insert(generation, link);
    }

    pub(crate) fn leave(&self, generation: u64) {
        lock(&self.links).remove(&generation);
    }

    /// Returns the way to the Host over a connection, or over the newest if that one is gone.
    pub(crate) fn link(&self, generation: u64) -> Option<mpsc::Sender<RuntimeFrame>> {
        let links = lock(&self.links);
        links.get(&generation).or_else(|| links.values().next_back()).cloned()
    }

    pub(crate) fn live(&self) -> Vec<u64> {
        lock(&self.links).keys().copied().collect()
    }

    /// Keeps a result until it is acknowledged, and sends it. What can't be sent now goes over the next connection.
    pub(crate) async fn finish(&self, id: DispatchId, generation: u64, result: ToolResult) {
        let (generation, given_up) = self.ledger().finish(id, generation, result.clone());
        if given_up > 0 {
            warn!(given_up, "too many results are unacknowledged, the oldest are given up");
        }
        self.progress.send_replace(());
        if let Some(link) = self.link(generation) {
            // A closed link has lost its connection: the next one delivers what the ledger holds.
            drop(link.send(RuntimeFrame { frame: Some(Frame::Result(result)) }).await);
        }
    }

    /// Ends every call.
    pub(crate) fn stop_all(&self, why: &ToolFailure) {
        self.ledger().stop_all(why);
    }

    fn tell_all(&self, frame: &RuntimeFrame) {
        for link in lock(&self.links).values() {
            if link.try_send(frame.clone()).is_err() {
                warn!(
                    "a node that is too busy or gone hears of the changed tools when it is connected again"
                );
            }
        }
    }
}

/// Tells whether `offered`, `name` or `name@version`, is what the Host calls `fulfilled`.
pub(crate) fn same_tool(offered: &str, fulfilled: &str) -> bool {
    offered == fulfilled || fulfilled.split_once('@').is_some_and(|(name, _)| name == offered)
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
