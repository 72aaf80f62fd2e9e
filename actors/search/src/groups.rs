//! The lines of statistics while they are counted.

use std::collections::{BTreeMap, HashMap};

use aesp_audit::{Filter, tool};
use aesp_proto::{
    PrincipalId, Timestamp,
    v1::{AuditEvent, EventType, Outcome},
};

use crate::{
    Error, Group, GroupBy, Tally,
    cells::{Cells, HOUR_MS, Sort},
};

/// The most lines that statistics have.
const LINES: usize = 10_000;
const HOURS_A_DAY: i64 = 24;

/// What tells lines apart; what events are not counted by is the same for all.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    hour: i64,
    kind: i32,
    outcome: i32,
    action: String,
    principal: Vec<u8>,
    tool: String,
}

pub(crate) struct Groups {
    by: Vec<GroupBy>,
    lines: BTreeMap<Key, Tally>,
}

impl Groups {
    pub(crate) fn new(by: &[GroupBy]) -> Self {
        Self { by: by.to_vec(), lines: BTreeMap::new() }
    }

    fn has(&self, by: GroupBy) -> bool {
        self.by.contains(&by)
    }

    fn hour(&self, hour: i64) -> i64 {
        if self.has(GroupBy::Hour) {
            hour
        } else if self.has(GroupBy::Day) {
            hour - hour.rem_euclid(HOURS_A_DAY)
        } else {
            0
        }
    }

    fn add(&mut self, key: Key, tally: Tally) -> Result<(), Error> {
        if self.lines.len() >= LINES && !self.lines.contains_key(&key) {
            return Err(Error::TooManyGroups(LINES));
        }
        self.lines.entry(key).or_default().add(tally);
        Ok(())
    }

    /// Counts one event.
    pub(crate) fn event(&mut self, event: &AuditEvent) -> Result<(), Error> {
        let mut key = Key { hour: self.hour(event.timestamp_ms.div_euclid(HOUR_MS)), ..Key::default() };
        if self.has(GroupBy::Kind) {
            key.kind = event.event_type;
        }
        if self.has(GroupBy::Outcome) {
            key.outcome = event.outcome;
        }
        if self.has(GroupBy::Action) {
            key.action.clone_from(&event.action);
        }
        if self.has(GroupBy::Principal) {
            let principal = event.principal_id.parse::<PrincipalId>();
            key.principal = principal.map(|id| id.as_bytes().to_vec()).unwrap_or_default();
        }
        if self.has(GroupBy::Tool) {
            key.tool = tool(&event.resource).unwrap_or_default().to_owned();
        }
        self.add(key, Tally { events: 1, occurrences: event.count.max(1) })
    }

    /// Counts a segment's events that the filter admits; it asks for nothing that the cells don't tell.
    pub(crate) fn cells(&mut self, cells: &Cells, filter: &Filter) -> Result<(), Error> {
        let wanted = Wanted::new(cells, filter);
        // By the places of the names first: there are far fewer lines than cells.
        let mut lines: HashMap<Sort, Tally> = HashMap::new();
        for (sort, tally) in cells.counts.iter().filter(|(sort, _)| wanted.admits(sort)) {
            let line = Sort {
                hour: self.hour(sort.hour),
                kind: if self.has(GroupBy::Kind) { sort.kind } else { 0 },
                outcome: if self.has(GroupBy::Outcome) { sort.outcome } else { 0 },
                action: if self.has(GroupBy::Action) { sort.action } else { 0 },
                principal: if self.has(GroupBy::Principal) { sort.principal } else { 0 },
                on_behalf_of: 0,
                tool: if self.has(GroupBy::Tool) { sort.tool } else { 0 },
            };
            lines.entry(line).or_default().add(*tally);
        }
        let text = |index: u32| String::from_utf8_lossy(cells.name(index)).into_owned();
        for (line, tally) in lines {
            let key = Key {
                hour: line.hour,
                kind: line.kind,
                outcome: line.outcome,
                action: text(line.action),
                principal: cells.name(line.principal).to_vec(),
                tool: text(line.tool),
            };
            self.add(key, tally)?;
        }
        Ok(())
    }

    /// Returns the lines in their order.
    pub(crate) fn lines(self) -> Vec<Group> {
        let by = self.by;
        let has = |one: GroupBy| by.contains(&one);
        let line = |(key, tally): (Key, Tally)| Group {
            at: (has(GroupBy::Hour) || has(GroupBy::Day)).then_some(Timestamp(key.hour * HOUR_MS)),
            kind: has(GroupBy::Kind).then(|| EventType::try_from(key.kind).unwrap_or_default()),
            outcome: has(GroupBy::Outcome).then(|| Outcome::try_from(key.outcome).unwrap_or_default()),
            action: has(GroupBy::Action).then_some(key.action),
            principal: PrincipalId::from_slice(&key.principal).ok(),
            tool: has(GroupBy::Tool).then_some(key.tool),
            tally,
        };
        self.lines.into_iter().map(line).collect()
    }
}

/// Which names of some cells a filter asks for; nothing where it asks for none.
struct Wanted<'a> {
    filter: &'a Filter,
    actions: Option<Vec<bool>>,
    principals: Option<Vec<bool>>,
    tools: Option<Vec<bool>>,
}

impl<'a> Wanted<'a> {
    fn new(cells: &Cells, filter: &'a Filter) -> Self {
        let names = |asked: bool, is: &dyn Fn(&[u8]) -> bool| {
            asked.then(|| cells.names.iter().map(|name| is(name)).collect::<Vec<_>>())
        };
        let text = |wanted: &[String], name: &[u8]| wanted.iter().any(|one| one.as_bytes() == name);
        Self {
            filter,
            actions: names(!filter.actions.is_empty(), &|name| text(&filter.actions, name)),
            principals: names(!filter.principals.is_empty(), &|name| {
                filter.principals.iter().any(|id| id.as_bytes() == name)
            }),
            tools: names(!filter.tools.is_empty(), &|name| text(&filter.tools, name)),
        }
    }

    fn admits(&self, sort: &Sort) -> bool {
        let is =
            |wanted: &Option<Vec<bool>>, index: u32| wanted.as_ref().is_none_or(|all| all[index as usize]);
        let kinds = &self.filter.kinds;
        let outcomes = &self.filter.outcomes;
        (kinds.is_empty() || kinds.iter().any(|kind| i32::from(*kind) == sort.kind))
            && (outcomes.is_empty() || outcomes.iter().any(|outcome| i32::from(*outcome) == sort.outcome))
            && is(&self.actions, sort.action)
            && (is(&self.principals, sort.principal) || is(&self.principals, sort.on_behalf_of))
            && is(&self.tools, sort.tool)
    }
}
