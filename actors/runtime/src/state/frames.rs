use aesp_proto::{
    DispatchId, SessionId,
    v1::{
        CapabilityUpdate, ContractDraft, DispatchReport, FulfillStatus, FulfillTools, FulfillToolsResponse,
        RegisterTools, RegisterToolsResponse, RejectedTool, host_frame::Frame as HostFrame,
    },
};
use tokio::time::Instant;

use super::{Effect, Note, Phase, State};
use crate::{
    offers::{MAX_OFFERS, rejected},
    penalty::LOOKUP,
    terms::{FEATURES, short},
};

/// How many updates of one connection may wait for their time.
const MAX_PLANNED: usize = 64;

impl<R> State<R> {
    pub(super) fn fulfil(&mut self, now: Instant, wishes: FulfillTools) {
        let session = self.scope(&wishes.runtime_id, &wishes.session_id);
        let (mut fulfilled, mut refused) = (Vec::new(), Vec::new());
        for text in wishes.tool_names.into_iter().take(MAX_OFFERS) {
            let (Some(terms), Phase::Serving) = (&self.terms, self.phase) else {
                refused.push(rejected(&text, "the connection drains".to_owned()));
                continue;
            };
            let wished =
                session.clone().and_then(|session| self.offers.wish(&text, session, terms, &*self.directory));
            match wished {
                Ok(()) => fulfilled.push(text),
                Err(reason) => refused.push(rejected(&text, reason)),
            }
        }
        if self.phase == Phase::Serving {
            self.settle_offers();
        }
        self.note_refused(&refused);
        let response = FulfillToolsResponse {
            status: status(fulfilled.len(), refused.len()).into(),
            fulfilled,
            rejected: refused,
            errors: Vec::new(),
            correlation_id: self.id.to_string(),
        };
        self.send(HostFrame::Fulfilled(response));
        self.charge(now, LOOKUP);
    }

    pub(super) fn register(&mut self, now: Instant, tools: RegisterTools) {
        let session = self.scope(&tools.runtime_id, &tools.session_id);
        let session = session.and_then(|scope| {
            scope.ok_or_else(|| "tools are registered for one session: name it in session_id".to_owned())
        });
        let (mut registered, mut refused) = (Vec::new(), Vec::new());
        for draft in tools.tools.into_iter().take(MAX_OFFERS) {
            let name = draft.name.clone();
            match session.clone().and_then(|session| self.register_one(draft, session)) {
                Ok(()) => registered.push(name),
                Err(reason) => refused.push(rejected(&name, reason)),
            }
        }
        if self.phase == Phase::Serving {
            self.settle_offers();
        }
        self.note_refused(&refused);
        if !registered.is_empty() {
            self.effects.push(Effect::Note(Note::Registered(registered.clone())));
        }
        let response = RegisterToolsResponse {
            status: status(registered.len(), refused.len()).into(),
            registered,
            rejected: refused,
            correlation_id: self.id.to_string(),
        };
        self.send(HostFrame::Registered(response));
        self.charge(now, LOOKUP);
    }

    fn register_one(&mut self, draft: ContractDraft, session: SessionId) -> Result<(), String> {
        let (Some(terms), Phase::Serving) = (&self.terms, self.phase) else {
            return Err("the connection drains".to_owned());
        };
        self.offers.register(draft, session, terms, &*self.directory)
    }

    pub(super) fn capabilities(&mut self, now: Instant, update: CapabilityUpdate) {
        if self.scope(&update.runtime_id, "").is_err() {
            return self.garbage(now);
        }
        if let Some(terms) = &mut self.terms {
            terms.features.retain(|feature| !update.deprecated_features.contains(feature));
            for feature in FEATURES.iter().filter(|name| update.new_features.iter().any(|new| new == *name)) {
                if !terms.features.iter().any(|own| own == feature) {
                    terms.features.push((*feature).to_owned());
                }
            }
        }
        for (features, streams) in [(&update.new_features, true), (&update.deprecated_features, false)] {
            if features.iter().any(|feature| feature == "streaming") {
                self.effects.push(Effect::Streaming(streams));
            }
        }
        for text in update.withdrawn_tools.iter().take(MAX_OFFERS) {
            self.offers.withdraw(text);
        }
        if self.phase == Phase::Serving {
            self.settle_offers();
        }
        self.charge(now, LOOKUP);
    }

    /// Keeps an update until its time comes.
    pub(super) fn plan(&mut self, now: Instant, at: Instant, update: CapabilityUpdate) {
        self.heard = now;
        self.probes = 0;
        let serves = matches!(self.phase, Phase::Serving | Phase::Draining);
        if !serves || self.planned.len() >= MAX_PLANNED || self.scope(&update.runtime_id, "").is_err() {
            return self.garbage(now);
        }
        let place = self.planned.partition_point(|(planned, _)| *planned <= at);
        self.planned.insert(place, (at, update));
        self.charge(now, LOOKUP);
    }

    pub(super) fn next_planned(&self) -> Option<Instant> {
        self.planned.first().map(|(at, _)| *at)
    }

    /// Applies the updates whose time has come, in its order.
    pub(super) fn come_true(&mut self, now: Instant) {
        while self.next_planned().is_some_and(|at| at <= now) {
            let (_, update) = self.planned.remove(0);
            self.capabilities(now, update);
        }
    }

    pub(super) fn report(&mut self, now: Instant, report: &DispatchReport) {
        let ids = report.seen.iter().chain(&report.running).map(|bytes| DispatchId::from_slice(bytes));
        match ids.collect::<Result<_, _>>() {
            Ok(seen) => {
                self.effects.push(Effect::Report(seen));
                self.charge(now, LOOKUP);
            }
            Err(_) => self.garbage(now),
        }
    }

    /// Checks whom and which session a frame speaks of.
    fn scope(&self, runtime_id: &str, session: &str) -> Result<Option<SessionId>, String> {
        let own = self.terms.as_ref().map(|terms| terms.registration.runtime_id.as_str());
        if !runtime_id.is_empty() && own != Some(runtime_id) {
            return Err("runtime_id is not the one that was announced".to_owned());
        }
        if session.is_empty() {
            return Ok(None);
        }
        session.parse().map(Some).map_err(|error| format!("session_id is {error}"))
    }

    fn note_refused(&mut self, refused: &[RejectedTool]) {
        if !refused.is_empty() {
            let names = refused.iter().map(|tool| (tool.name.clone(), short(tool.reason.clone())));
            self.effects.push(Effect::Note(Note::FulfilmentRefused(names.collect())));
        }
    }
}

fn status(good: usize, bad: usize) -> FulfillStatus {
    match (good, bad) {
        (_, 0) => FulfillStatus::FulfillSuccess,
        (0, _) => FulfillStatus::FulfillFailure,
        _ => FulfillStatus::FulfillPartialSuccess,
    }
}
