//! A tenant's rules, alerts and messages at its home. Pure: events and times come in; what is to be stored and put on record comes out.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use aesp_proto::{AlertId, SilenceId, TenantId, Timestamp, v1::AuditEvent};

use crate::{
    Alert, Silence,
    group::{BY_HAND, Group, Phase, Turn},
    matching::is_own,
    note::{Manner, Note, NoteKey, Tell},
    rules::Rules,
    silence::silenced_until,
    tracker::{Key, Out, Tracker},
};

/// Who can be told, and how, as far as the desk has to know.
#[derive(Clone, Debug, Default)]
pub(crate) struct Book {
    pub(crate) manners: BTreeMap<String, Manner>,
    /// Who is told of the alerts of rules that name nobody.
    pub(crate) default: Vec<String>,
    /// The receivers that a tenant may name, beside the default ones.
    pub(crate) open: BTreeMap<String, Open>,
}

/// Which tenants may name a receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Open {
    All,
    These(BTreeSet<TenantId>),
}

impl Book {
    /// Tells why the tenant can't have the receiver told; nothing if it can.
    pub(crate) fn refuses(&self, tenant: TenantId, receiver: &str) -> Option<&'static str> {
        if !self.manners.contains_key(receiver) {
            return Some("there is no such receiver");
        }
        let by_default = self.default.iter().any(|name| name == receiver);
        let open = match self.open.get(receiver) {
            Some(Open::All) => true,
            Some(Open::These(tenants)) => tenants.contains(&tenant),
            None => false,
        };
        (!by_default && !open && tenant != TenantId::PLATFORM)
            .then_some("the receiver is not open to this tenant")
    }
}

/// A tenant's alerts at work.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) tenant: TenantId,
    pub(crate) rules: Arc<Rules>,
    pub(crate) book: Arc<Book>,
    pub(crate) trackers: Vec<Tracker>,
    /// Those that last, and those of whose end somebody is to be told.
    pub(crate) alerts: BTreeMap<AlertId, Alert>,
    pub(crate) silences: BTreeMap<SilenceId, Silence>,
    pub(crate) notes: BTreeMap<NoteKey, Note>,
    /// Up to when time has passed here.
    pub(crate) now: Timestamp,
}

/// What is not as it was.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// Groups, by the place of their rule.
    pub(crate) groups: BTreeSet<(usize, Key)>,
    pub(crate) alerts: BTreeSet<AlertId>,
    pub(crate) notes: BTreeSet<NoteKey>,
    pub(crate) news: Vec<News>,
}

/// What is to be put on record.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum News {
    Fired(Alert),
    Resolved(Alert),
    Escalated(Alert, Vec<String>),
    Undeliverable(Alert, String, &'static str),
}

impl Changes {
    pub(crate) fn is_empty(&self) -> bool {
        self.groups.is_empty() && self.alerts.is_empty() && self.notes.is_empty() && self.news.is_empty()
    }
}

impl Desk {
    pub(crate) fn new(tenant: TenantId, rules: Arc<Rules>, book: Arc<Book>, now: Timestamp) -> Self {
        Self {
            tenant,
            trackers: rules.all().map(|rule| Tracker::new(Arc::clone(rule), now)).collect(),
            rules,
            book,
            alerts: BTreeMap::new(),
            silences: BTreeMap::new(),
            notes: BTreeMap::new(),
            now,
        }
    }

    /// Tells whether there is nothing at work that a fresh desk would not have.
    pub(crate) fn is_idle(&self) -> bool {
        self.alerts.is_empty() && self.notes.is_empty() && self.trackers.iter().all(Tracker::is_empty)
    }

    /// Takes an event in.
    pub(crate) fn observe(
        &mut self,
        event: &AuditEvent,
        ids: &mut dyn FnMut(Timestamp) -> AlertId,
        changes: &mut Changes,
    ) {
        let at = Timestamp(event.timestamp_ms);
        self.pass(at, ids, changes);
        if is_own(event) {
            return;
        }
        let now = self.now;
        for place in 0..self.trackers.len() {
            let mut out = Out::new(ids);
            self.trackers[place].observe(now, at, event, &mut out);
            let (turns, touched) = (out.turns, out.touched);
            self.take_in(place, turns, touched, changes);
        }
    }

    /// Lets time pass until `now`.
    pub(crate) fn advance(
        &mut self,
        now: Timestamp,
        ids: &mut dyn FnMut(Timestamp) -> AlertId,
        changes: &mut Changes,
    ) {
        self.pass(now, ids, changes);
        let now = self.now;
        self.escalate(changes);
        self.silences.retain(|_, silence| silence.until > now);
        self.tidy(changes);
    }

    fn pass(&mut self, to: Timestamp, ids: &mut dyn FnMut(Timestamp) -> AlertId, changes: &mut Changes) {
        self.now = self.now.max(to);
        let now = self.now;
        for place in 0..self.trackers.len() {
            if self.trackers[place].next_look().is_none_or(|at| at > now) {
                continue;
            }
            let mut out = Out::new(ids);
            self.trackers[place].advance(now, &mut out);
            let (turns, touched) = (out.turns, out.touched);
            self.take_in(place, turns, touched, changes);
        }
    }

    /// Returns when time alone may change something, or somebody is to be told.
    pub(crate) fn next_look(&self) -> Option<Timestamp> {
        let looks = self.trackers.iter().filter_map(Tracker::next_look);
        let steps = self.alerts.values().filter_map(|alert| self.escalates_at(alert));
        looks.chain(steps).min()
    }

    /// Returns the messages that are or will be due, as things are at `now`, unless something happens before.
    pub(crate) fn due(&self, now: Timestamp) -> Vec<(NoteKey, Timestamp)> {
        let silences: Vec<Silence> = self.silences.values().cloned().collect();
        let due = |(key, note): (&NoteKey, &Note)| {
            let manner = *self.book.manners.get(&key.receiver)?;
            Some((key.clone(), note.due(&self.alerts, &silences, manner, now)?))
        };
        self.notes.iter().filter_map(due).collect()
    }

    /// Returns what a receiver is to be told at `now`.
    pub(crate) fn message(&self, key: &NoteKey, now: Timestamp) -> Vec<(Alert, Tell)> {
        let (Some(note), Some(manner)) = (self.notes.get(key), self.book.manners.get(&key.receiver)) else {
            return Vec::new();
        };
        let silences: Vec<Silence> = self.silences.values().cloned().collect();
        let message = note.message(&self.alerts, &silences, *manner, now);
        message.into_iter().filter_map(|(id, tell)| Some((self.alerts.get(&id)?.clone(), tell))).collect()
    }

    /// Forgets what nobody is to be told of any more.
    pub(crate) fn tidy(&mut self, changes: &mut Changes) {
        let silences: Vec<Silence> = self.silences.values().cloned().collect();
        for (key, note) in &mut self.notes {
            let over = match self.book.manners.get(&key.receiver) {
                Some(manner) => note.tidy(&self.alerts, &silences, *manner, self.now),
                None => false,
            };
            if over {
                changes.notes.insert(key.clone());
            }
        }
        let empty: Vec<NoteKey> = self
            .notes
            .iter()
            .filter(|(_, note)| note.members.is_empty())
            .map(|(key, _)| key.clone())
            .collect();
        for key in empty {
            self.notes.remove(&key);
            changes.notes.insert(key);
        }
        let told: BTreeSet<AlertId> =
            self.notes.values().flat_map(|note| note.members.keys().copied()).collect();
        self.alerts.retain(|id, alert| alert.is_firing() || told.contains(id) || changes.alerts.contains(id));
    }

    /// Has the groups of alerts that are over without their doing begin anew: somebody ended them.
    pub(crate) fn end_ended(&mut self, changes: &mut Changes) {
        let now = self.now;
        for place in 0..self.trackers.len() {
            let over = |group: &Group| match group.phase {
                Phase::Firing { alert, .. } => self.alerts.get(&alert).is_none_or(|alert| !alert.is_firing()),
                _ => false,
            };
            let keys = self.trackers[place].keys_of(over);
            for key in keys {
                // An alert begins no other by ending, for nothing that was counted is left.
                let mut none = |_: Timestamp| AlertId::from_bytes([0; 16]);
                let mut out = Out::new(&mut none);
                self.trackers[place].end(&key, now, BY_HAND, &mut out);
                let (turns, touched) = (out.turns, out.touched);
                self.take_in(place, turns, touched, changes);
            }
        }
    }

    /// Gives up what receivers were to be told that there are no more.
    pub(crate) fn drop_strangers(&mut self, changes: &mut Changes) {
        let gone = |key: &&NoteKey| !self.book.manners.contains_key(&key.receiver);
        let keys: Vec<NoteKey> = self.notes.keys().filter(gone).cloned().collect();
        for key in keys {
            let Some(note) = self.notes.remove(&key) else { continue };
            for alert in note.members.keys().filter_map(|id| self.alerts.get(id)) {
                let why = "there is no such receiver any more";
                changes.news.push(News::Undeliverable(alert.clone(), key.receiver.clone(), why));
            }
            changes.notes.insert(key);
        }
    }

    fn take_in(
        &mut self,
        place: usize,
        turns: Vec<(Group, Turn)>,
        touched: BTreeSet<Key>,
        changes: &mut Changes,
    ) {
        changes.groups.extend(touched.into_iter().map(|key| (place, key)));
        for (group, turn) in turns {
            match turn {
                Turn::Fired { at, alert, value } => self.fire(place, &group, (alert, at, &value), changes),
                Turn::Resolved { at, alert, why } => self.resolve(alert, at, why, changes),
            }
        }
    }

    fn fire(&mut self, place: usize, group: &Group, what: (AlertId, Timestamp, &str), changes: &mut Changes) {
        let rule = Arc::clone(&self.trackers[place].rule);
        let named = if rule.receivers.is_empty() { &self.book.default } else { &rule.receivers };
        let alert = Alert::new(self.tenant, &rule, group, what, named);
        changes.alerts.insert(alert.id);
        changes.news.push(News::Fired(alert.clone()));
        self.alerts.insert(alert.id, alert.clone());
        for receiver in &alert.receivers {
            self.tell(&alert, receiver, false, changes);
        }
    }

    /// Has a receiver told of an alert; of an urgent one without waiting for others.
    fn tell(&mut self, alert: &Alert, receiver: &str, urgent: bool, changes: &mut Changes) {
        if let Some(why) = self.book.refuses(self.tenant, receiver) {
            changes.news.push(News::Undeliverable(alert.clone(), receiver.to_owned(), why));
            return;
        }
        let manner = self.book.manners[receiver];
        if alert.severity < manner.least {
            return;
        }
        let key = NoteKey { receiver: receiver.to_owned(), group: manner.group_by.group(alert) };
        let wait = i64::try_from(manner.wait.as_millis()).unwrap_or(i64::MAX);
        let created = if urgent { Timestamp(self.now.0.saturating_sub(wait)) } else { self.now };
        self.notes.entry(key.clone()).or_insert_with(|| Note::new(key.clone(), created)).add(alert.id);
        changes.notes.insert(key);
    }

    pub(crate) fn resolve(&mut self, id: AlertId, at: Timestamp, why: &str, changes: &mut Changes) {
        let Some(alert) = self.alerts.get_mut(&id).filter(|alert| alert.is_firing()) else { return };
        alert.ended = Some(at);
        alert.ended_because = why.to_owned();
        changes.alerts.insert(id);
        changes.news.push(News::Resolved(alert.clone()));
    }

    fn escalates_at(&self, alert: &Alert) -> Option<Timestamp> {
        let at = alert.next_escalation()?;
        // Somebody knows of what is silenced.
        Some(
            silenced_until(self.silences.values(), &alert.labels, self.now).map_or(at, |until| at.max(until)),
        )
    }

    fn escalate(&mut self, changes: &mut Changes) {
        loop {
            let due =
                self.alerts.values().find(|alert| self.escalates_at(alert).is_some_and(|at| at <= self.now));
            let Some(id) = due.map(|alert| alert.id) else { return };
            let alert = self.alerts.get_mut(&id).expect("it was just found");
            let step = alert.escalate[alert.escalated].clone();
            alert.escalated += 1;
            let new: Vec<String> =
                step.receivers.into_iter().filter(|name| !alert.receivers.contains(name)).collect();
            alert.receivers.extend(new.iter().cloned());
            let alert = alert.clone();
            changes.alerts.insert(id);
            changes.news.push(News::Escalated(alert.clone(), new.clone()));
            for receiver in &new {
                self.tell(&alert, receiver, true, changes);
            }
        }
    }
}
