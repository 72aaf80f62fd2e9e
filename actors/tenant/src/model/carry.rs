//! What is on its way: letters, commits and counts.

use aesp_proto::Incarnation;

use super::{Letter, World};
use crate::{
    home::{Effect, Home},
    message::{Message, Term},
};

impl World {
    fn send(&mut self, from: Incarnation, to: Incarnation, message: Message) {
        self.letters.push(Letter { from, to, message });
    }

    pub(super) fn report(&mut self, from: Incarnation, report: Option<crate::message::Report>) {
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

    pub(super) fn with_home(&mut self, act: impl FnOnce(&mut Home) -> Vec<Effect>) {
        if let Some(home) = &mut self.home {
            let effects = act(home);
            self.effects(effects);
        }
    }

    pub(super) fn begin_home(&mut self) {
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

    pub(super) fn deliver(&mut self, Letter { from, to, message }: Letter) {
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

    pub(super) fn write_one(&mut self) {
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

    pub(super) fn count_one(&mut self) {
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

    pub(super) fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        self.tick();
    }
}
