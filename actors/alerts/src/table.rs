//! Tests that a document brings along: made-up events, and what must become of them. Pure.

use std::collections::BTreeMap;

use aesp_proto::{AlertId, EventId, TenantId, Timestamp, v1::AuditEvent};

use crate::{
    Wait,
    desk::{Book, Changes, Desk, News},
    document::{Became, EventForm, Expected, TestForm},
    matching::{event_type, outcome},
    rule::BASE_LABELS,
    rules::Rules,
};

/// Where the time of tests begins: a whole day, so that slots of windows begin with it.
const BEGIN: Timestamp = Timestamp(1_767_225_600_000);
/// How long after the last event a test ends, if it does not say.
const AFTER: Wait = Wait::seconds(3_600);
/// Made-up events of one test.
const EVENTS: usize = 10_000;
/// How far from the expected time is right, where a rule has no window.
const NEAR_MS: i64 = 1_000;

/// What became of an alert.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Happening {
    /// Of which rule.
    pub rule: String,
    /// What.
    pub became: Became,
    /// When, in milliseconds since 1970; in a test, after its beginning.
    pub at: Timestamp,
    /// The alert's group, by the labels.
    pub group: BTreeMap<String, String>,
    /// What was measured.
    pub value: String,
}

/// A test that did not go as expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// The test.
    pub test: String,
    /// What was wrong.
    pub why: String,
}

/// Plays events to fresh rules and collects what becomes of alerts.
pub(crate) struct Play {
    desk: Desk,
    next: u128,
    pub(crate) happened: Vec<Happening>,
}

impl Play {
    pub(crate) fn new(tenant: TenantId, rules: Rules, begin: Timestamp) -> Self {
        let desk = Desk::new(tenant, rules.into(), Book::default().into(), begin);
        Self { desk, next: 0, happened: Vec::new() }
    }

    pub(crate) fn observe(&mut self, event: &AuditEvent) {
        let (mut changes, next) = (Changes::default(), &mut self.next);
        self.desk.observe(event, &mut |_| number(next), &mut changes);
        self.note(changes);
    }

    pub(crate) fn advance(&mut self, to: Timestamp) {
        let (mut changes, next) = (Changes::default(), &mut self.next);
        self.desk.advance(to, &mut |_| number(next), &mut changes);
        self.note(changes);
    }

    fn note(&mut self, changes: Changes) {
        for news in changes.news {
            let (alert, became, at) = match news {
                News::Fired(alert) => (alert.clone(), Became::Fired, alert.began),
                News::Resolved(alert) => {
                    (alert.clone(), Became::Resolved, alert.ended.unwrap_or(alert.began))
                }
                News::Escalated(..) | News::Undeliverable(..) => continue,
            };
            let rule = self.desk.rules.all().find(|rule| rule.name == alert.rule);
            let own = |name: &String| rule.is_some_and(|rule| rule.labels.contains_key(name));
            let mut group = alert.labels;
            group.retain(|name, _| {
                (!BASE_LABELS.contains(&name.as_str()) || name == "overflow") && !own(name)
            });
            self.happened.push(Happening { rule: alert.rule, became, at, group, value: alert.value });
        }
    }
}

fn number(next: &mut u128) -> AlertId {
    *next += 1;
    AlertId::from_bytes(next.to_be_bytes())
}

/// Runs tests, and returns those that failed.
pub(crate) fn run(tenant: TenantId, rules: &Rules, tests: &[TestForm]) -> Vec<Failed> {
    let one =
        |test: &TestForm| check(tenant, rules, test).err().map(|why| Failed { test: test.name.clone(), why });
    tests.iter().filter_map(one).collect()
}

fn check(tenant: TenantId, rules: &Rules, test: &TestForm) -> Result<(), String> {
    let named = test.rules.iter().chain(test.expect.iter().map(|expected| &expected.rule));
    let looked_at: Vec<&str> = named.map(String::as_str).collect();
    if let Some(unknown) = looked_at.iter().find(|name| rules.find(name).is_none()) {
        return Err(format!("there is no rule `{unknown}`"));
    }
    let mut events = Vec::new();
    for (place, form) in test.events.iter().enumerate() {
        made(form, &mut events).map_err(|why| format!("event {}: {why}", place + 1))?;
    }
    events.sort_by_key(|event: &AuditEvent| event.timestamp_ms);
    let last = events.last().map_or(BEGIN, |event| Timestamp(event.timestamp_ms));
    let until = test.until.map_or(last.plus(AFTER.0), |until| BEGIN.plus(until.0));
    let mut play = Play::new(tenant, rules.clone(), BEGIN);
    events.iter().for_each(|event| play.observe(event));
    play.advance(until);
    let mut happened = play.happened;
    happened.retain(|one| looked_at.is_empty() || looked_at.contains(&one.rule.as_str()));
    let mut missing = Vec::new();
    for expected in &test.expect {
        match happened.iter().position(|one| fits(rules, expected, one)) {
            Some(place) => drop(happened.remove(place)),
            None => missing.push(expected),
        }
    }
    if missing.is_empty() && happened.is_empty() {
        return Ok(());
    }
    let missing =
        missing.iter().map(|one| format!("missing: {}", tell(&one.rule, one.state, one.at, &one.group)));
    let surplus = happened.iter().map(|one| {
        let at = Wait(one.at.since(BEGIN));
        format!("not expected: {}", tell(&one.rule, one.became, Some(at), &one.group))
    });
    Err(missing.chain(surplus).collect::<Vec<_>>().join("; "))
}

fn tell(rule: &str, became: Became, at: Option<Wait>, group: &BTreeMap<String, String>) -> String {
    let at = at.map(|at| format!(" at {at}")).unwrap_or_default();
    let group: Vec<String> = group.iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!("{rule} {}{at} {{{}}}", became.name(), group.join(", "))
}

fn fits(rules: &Rules, expected: &Expected, one: &Happening) -> bool {
    let rule = rules.all().find(|rule| rule.name == expected.rule);
    let window = rule.and_then(|rule| rule.condition.window());
    let near = window.map_or(NEAR_MS, |window| (window.length_ms() / 30).max(1));
    let right = |at: Wait| (one.at.0 - BEGIN.plus(at.0).0).abs() <= near;
    expected.rule == one.rule
        && expected.state == one.became
        && expected.at.is_none_or(right)
        && expected.group.iter().all(|(name, value)| one.group.get(name) == Some(value))
}

fn made(form: &EventForm, events: &mut Vec<AuditEvent>) -> Result<(), String> {
    let kind = if form.kind.is_empty() { "SYSTEM_EVENT" } else { &form.kind };
    let ended = if form.outcome.is_empty() { "SUCCESS" } else { &form.outcome };
    let kind = event_type(kind).ok_or_else(|| format!("`{kind}` is no event type"))?;
    let ended = outcome(ended).ok_or_else(|| format!("`{ended}` is no outcome"))?;
    for number in 0..form.repeat.max(1) {
        if events.len() >= EVENTS {
            return Err(format!("a test has at most {EVENTS} events"));
        }
        let id = EventId::from_bytes((events.len() as u128 + 1).to_be_bytes());
        events.push(AuditEvent {
            event_id: id.to_string(),
            timestamp_ms: BEGIN.plus(form.at.0).plus(form.every.0.saturating_mul(number)).0,
            event_type: kind.into(),
            outcome: ended.into(),
            action: form.action.clone(),
            principal_id: form.principal.clone(),
            session_id: form.session.clone(),
            resource: form.resource.clone(),
            source_ip: form.source_ip.clone(),
            reason: form.reason.clone(),
            policy_violations: form.policies.clone(),
            metadata: form.fields.clone().into_iter().collect(),
            risk_score: form.risk.unwrap_or_default(),
            count: form.count.into(),
            ..AuditEvent::default()
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Document;

    fn failed(text: &str) -> Vec<Failed> {
        let tenant = TenantId::from_bytes([1; 16]);
        let document = Document::read(text).unwrap();
        run(tenant, &Rules::compile(tenant, &document).unwrap(), &document.tests)
    }

    const RULE: &str =
        "[[rules]]\nname = \"r\"\ncount = 2\nwindow = \"30s\"\nevents = { actions = [\"a.b\"] }\n";

    #[test]
    fn what_is_missing_and_what_is_too_much_is_told() {
        let good = "[[tests]]\nname = \"t\"\nevents = [{ at = \"0s\", action = \"a.b\", repeat = 2, every = \"5s\" }]\n\
                    expect = [{ rule = \"r\", at = \"5s\" }, { rule = \"r\", state = \"resolved\", at = \"30s\" }]";
        assert_eq!(failed(&format!("{RULE}{good}")), []);
        let wrong = good.replace("at = \"5s\" }", "at = \"9s\" }");
        let told = failed(&format!("{RULE}{wrong}"));
        let why = &told[0].why;
        assert!(
            why.contains("missing: r fired at 9s") && why.contains("not expected: r fired at 5s"),
            "{why}"
        );
        let none = failed(&format!("{RULE}{}", good.replace("rule = \"r\"", "rule = \"q\"")));
        assert!(none[0].why.contains("no rule `q`"), "{none:?}");
    }

    #[test]
    fn made_up_events_make_sense() {
        for (event, why) in [
            ("{ at = \"0s\", action = \"a.b\", outcome = \"maybe\" }", "maybe"),
            ("{ at = \"0s\", action = \"a.b\", type = \"nothing\" }", "nothing"),
            ("{ at = \"0s\", action = \"a.b\", repeat = 1000000 }", "at most"),
        ] {
            let told = failed(&format!("{RULE}[[tests]]\nname = \"t\"\nevents = [{event}]"));
            assert!(told[0].why.contains(why), "{told:?}");
        }
    }
}
