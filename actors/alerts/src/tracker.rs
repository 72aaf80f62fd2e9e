//! One rule with its groups. Pure: events and times come in, alerts that begin and end come out.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use aesp_proto::{AlertId, Timestamp, v1::AuditEvent};

use crate::{
    group::{ENDED, Group, Turn},
    rule::{Condition, Rule},
};

/// The values that tell a group from others.
pub(crate) type Key = Vec<String>;

/// A rule with its groups.
#[derive(Debug)]
pub(crate) struct Tracker {
    pub(crate) rule: Arc<Rule>,
    /// Since when the rule is there.
    pub(crate) since: Timestamp,
    groups: BTreeMap<Key, Group>,
    looks: BTreeSet<(Timestamp, Key)>,
    planned: BTreeMap<Key, Timestamp>,
}

/// What becomes of groups, and which of them are not as they were.
pub(crate) struct Out<'a> {
    pub(crate) ids: &'a mut dyn FnMut(Timestamp) -> AlertId,
    /// With the values of the group, and its last events.
    pub(crate) turns: Vec<(Group, Turn)>,
    pub(crate) touched: BTreeSet<Key>,
}

impl<'a> Out<'a> {
    pub(crate) fn new(ids: &'a mut dyn FnMut(Timestamp) -> AlertId) -> Self {
        Self { ids, turns: Vec::new(), touched: BTreeSet::new() }
    }
}

/// The key of the group that stands for those beyond the most. No value has a control character.
const OVERFLOW: &str = "\0";

impl Tracker {
    pub(crate) fn new(rule: Arc<Rule>, since: Timestamp) -> Self {
        let mut tracker =
            Self { rule, since, groups: BTreeMap::new(), looks: BTreeSet::new(), planned: BTreeMap::new() };
        tracker.begin(since);
        tracker
    }

    /// Says since when the rule is there; before any group is put back.
    pub(crate) fn begin(&mut self, since: Timestamp) {
        self.since = since;
        if let Condition::Absence { at_once: true, .. } = self.rule.condition {
            self.restore(Group::new(Vec::new(), false, since), since);
        }
    }

    /// Puts a group back that was stored, as it was at `now`.
    pub(crate) fn restore(&mut self, group: Group, now: Timestamp) {
        let key = if group.overflow { overflow() } else { group.values.clone() };
        // Looked at again at once: time has passed.
        self.plan(&key, Some(now));
        self.groups.insert(key, group);
    }

    pub(crate) fn group(&self, key: &Key) -> Option<&Group> {
        self.groups.get(key)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Returns when time alone may change something.
    pub(crate) fn next_look(&self) -> Option<Timestamp> {
        self.looks.first().map(|(at, _)| *at)
    }

    /// Lets time pass until `now`.
    pub(crate) fn advance(&mut self, now: Timestamp, out: &mut Out<'_>) {
        while let Some((at, key)) = self.looks.first().filter(|(at, _)| *at <= now).cloned() {
            self.look(&key, at, false, out);
        }
    }

    /// Takes an event in that happened at `at`, not after `now`; time has passed until then.
    pub(crate) fn observe(&mut self, now: Timestamp, at: Timestamp, event: &AuditEvent, out: &mut Out<'_>) {
        let rule = Arc::clone(&self.rule);
        let hits = rule.events.admits(event);
        let counts = rule.of.as_ref().is_some_and(|of| of.admits(event));
        let ends = rule.resolve_on.as_ref().is_some_and(|ends| ends.admits(event));
        if !hits && !counts && !ends {
            return;
        }
        let key: Key = rule.group_by.iter().map(|field| field.of(event)).collect();
        if ends {
            self.end(&key, now, ENDED, out);
        }
        if !hits && !counts {
            return;
        }
        let key = self.find_or_make(key, now, at, hits);
        let Some(group) = self.groups.get_mut(&key) else { return };
        let count = event.count.max(1);
        // What is counted is a part of its total, whether the total's filter says so or not.
        let total = if hits || counts { count } else { 0 };
        group.count(&rule, now, at, if hits { count } else { 0 }, total, event.event_id.parse().ok());
        self.look(&key, now, true, out);
    }

    /// Ends the alert of a group, and what was counted for it.
    pub(crate) fn end(&mut self, key: &Key, now: Timestamp, why: &'static str, out: &mut Out<'_>) {
        let Some(group) = self.groups.get_mut(key) else { return };
        let mut turns = Vec::new();
        group.end(now, why, &mut turns);
        out.turns.extend(turns.into_iter().map(|turn| (group.clone(), turn)));
        self.look(key, now, true, out);
    }

    /// Returns the keys of the groups for which something holds.
    pub(crate) fn keys_of(&self, holds: impl Fn(&Group) -> bool) -> Vec<Key> {
        self.groups.iter().filter(|(_, group)| holds(group)).map(|(key, _)| key.clone()).collect()
    }

    fn find_or_make(&mut self, key: Key, now: Timestamp, at: Timestamp, hits: bool) -> Key {
        if self.groups.contains_key(&key) {
            return key;
        }
        if self.groups.len() >= self.rule.max_groups {
            let key = overflow();
            if hits && !self.groups.contains_key(&key) {
                self.groups.insert(key.clone(), Group::new(Vec::new(), true, at));
            }
            return key;
        }
        let mut group = Group::new(key.clone(), false, at);
        if let Condition::FirstSeen { learn_ms, .. } = self.rule.condition
            && now.0 >= self.since.0.saturating_add(learn_ms)
        {
            group.mark_new();
        }
        self.groups.insert(key.clone(), group);
        key
    }

    /// Looks at a group; one that only forgot some of its counts by the time needs no new row, for it would forget them again.
    fn look(&mut self, key: &Key, at: Timestamp, changed: bool, out: &mut Out<'_>) {
        self.plan(key, None);
        let Some(group) = self.groups.get_mut(key) else { return };
        let (mut turns, before) = (Vec::new(), group.phase);
        let keep = group.look(&self.rule, at, out.ids, &mut turns);
        if changed || !keep || group.phase != before {
            out.touched.insert(key.clone());
        }
        out.turns.extend(turns.into_iter().map(|turn| (group.clone(), turn)));
        let next = group.next_look(&self.rule, at);
        if keep {
            self.plan(key, next);
        } else {
            self.groups.remove(key);
        }
    }

    fn plan(&mut self, key: &Key, at: Option<Timestamp>) {
        let before = match at {
            Some(at) => self.planned.insert(key.clone(), at),
            None => self.planned.remove(key),
        };
        if let Some(before) = before {
            self.looks.remove(&(before, key.clone()));
        }
        if let Some(at) = at {
            self.looks.insert((at, key.clone()));
        }
    }
}

/// Returns the key of the group that stands for those beyond the most.
pub(crate) fn overflow() -> Key {
    vec![OVERFLOW.to_owned()]
}

#[cfg(test)]
mod tests;
