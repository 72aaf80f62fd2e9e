//! A rule that was found to make sense.

use std::collections::{BTreeMap, BTreeSet};

use aesp_audit_formats::Severity;
use data_encoding::HEXLOWER;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::{
    Wait,
    document::{Armed, Escalation, Kind, RuleForm},
    matching::{Field, Matcher, is_label},
    template::Template,
    window::Window,
};

/// A rule, ready for use.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) name: String,
    pub(crate) severity: Severity,
    pub(crate) events: Matcher,
    pub(crate) of: Option<Matcher>,
    pub(crate) resolve_on: Option<Matcher>,
    pub(crate) condition: Condition,
    pub(crate) group_by: Vec<Field>,
    pub(crate) hold_ms: i64,
    pub(crate) keep_ms: i64,
    pub(crate) manual_resolve: bool,
    pub(crate) max_groups: usize,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, Template>,
    pub(crate) receivers: Vec<String>,
    pub(crate) escalate: Vec<Escalation>,
    pub(crate) repeat: Option<Wait>,
    /// Differs when what was counted under one means nothing under the other.
    pub(crate) fingerprint: String,
}

/// When there is an alert.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Condition {
    Threshold { count: u64, window: Window },
    Rate { per_second: f64, window: Window },
    Ratio { ratio: f64, min_total: u64, window: Window },
    Absence { after_ms: i64, memory_ms: i64, at_once: bool },
    FirstSeen { memory_ms: i64, learn_ms: i64 },
}

impl Condition {
    pub(crate) fn window(&self) -> Option<Window> {
        match self {
            Self::Threshold { window, .. } | Self::Rate { window, .. } | Self::Ratio { window, .. } => {
                Some(*window)
            }
            Self::Absence { .. } | Self::FirstSeen { .. } => None,
        }
    }

    /// Tells whether it matters since when the rule is there.
    pub(crate) fn needs_since(&self) -> bool {
        match self {
            Self::Absence { at_once, .. } => *at_once,
            Self::FirstSeen { learn_ms, .. } => *learn_ms > 0,
            _ => false,
        }
    }
}

const NAME_CHARS: usize = 63;
const GROUPS: u32 = 500;
const SEEN_GROUPS: u32 = 10_000;
const MOST_GROUPS: u32 = 20_000;
const LONGEST: Wait = Wait::seconds(31 * 86_400);
const MEMORY: Wait = Wait::seconds(30 * 86_400);
const LONGEST_MEMORY: Wait = Wait::seconds(400 * 86_400);
/// How long the alert of something new stays, if nothing is said.
const NEW_FOR: Wait = Wait::seconds(3_600);
const MIN_TOTAL: u64 = 20;
const TEXTS: usize = 20;
const TEXT_BYTES: usize = 1_024;
const FIELDS: usize = 5;
const ESCALATIONS: usize = 5;
/// What the Host itself says of every alert.
pub(crate) const BASE_LABELS: [&str; 4] = ["alertname", "severity", "tenant", "overflow"];

/// Tells whether something may be called so.
pub(crate) fn is_name(name: &str) -> bool {
    let ordinary = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !name.is_empty() && name.len() <= NAME_CHARS && name.chars().all(ordinary)
}

impl RuleForm {
    /// Checks the rule and prepares it for use.
    ///
    /// # Errors
    /// What makes no sense in it, and what would be right.
    pub(crate) fn compile(&self) -> Result<Rule, String> {
        if !is_name(&self.name) {
            return Err("`name` has 1 to 63 letters, digits, `-`, `_` or `.`".into());
        }
        let group_by = self.group_by.iter().map(|name| Field::parse(name)).collect::<Result<Vec<_>, _>>();
        let group_by = group_by.map_err(|why| format!("`group_by`: {why}"))?;
        let labels: BTreeSet<&str> = group_by.iter().map(|field| field.label.as_str()).collect();
        if group_by.len() > FIELDS || labels.len() < group_by.len() {
            return Err(format!("`group_by` has at most {FIELDS} different fields"));
        }
        let meant =
            |name: &str, events: &crate::Match| events.compile().map_err(|why| format!("`{name}`: {why}"));
        let optional = |name: &str, events: &Option<crate::Match>| {
            events.as_ref().map(|events| meant(name, events)).transpose()
        };
        self.check_texts(&labels)?;
        self.check_receivers()?;
        let most = if self.kind == Kind::FirstSeen { SEEN_GROUPS } else { GROUPS };
        let max_groups = if self.max_groups == 0 { most } else { self.max_groups };
        if max_groups > MOST_GROUPS {
            return Err(format!("`max_groups` is at most {MOST_GROUPS}"));
        }
        for (name, wait, longest) in [
            ("for", self.hold, LONGEST),
            ("keep_firing_for", self.keep_firing_for.unwrap_or_default(), LONGEST_MEMORY),
            ("repeat", self.repeat.unwrap_or(Wait::seconds(60)), LONGEST),
            ("learn", self.learn, LONGEST),
            ("memory", self.memory.unwrap_or_default(), LONGEST_MEMORY),
        ] {
            if wait > longest {
                return Err(format!("`{name}` is at most {longest}"));
            }
        }
        if self.repeat.is_some_and(|repeat| repeat < Wait::seconds(60)) {
            return Err("`repeat` is at least 60s".into());
        }
        let keep = match (self.kind, self.keep_firing_for) {
            (_, Some(keep)) => keep,
            (Kind::FirstSeen, None) => NEW_FOR,
            (_, None) => Wait::default(),
        };
        let template = |(name, text): (&String, &String)| {
            let known: Vec<&str> = labels.iter().copied().collect();
            Template::parse(text, &known)
                .map(|text| (name.clone(), text))
                .map_err(|why| format!("`annotations.{name}`: {why}"))
        };
        Ok(Rule {
            name: self.name.clone(),
            severity: self.severity.unwrap_or(Severity::Medium),
            events: meant("events", &self.events)?,
            of: optional("of", &self.of)?,
            resolve_on: optional("resolve_on", &self.resolve_on)?,
            condition: self.condition(&group_by)?,
            hold_ms: self.hold.ms(),
            keep_ms: keep.ms(),
            manual_resolve: self.manual_resolve,
            max_groups: max_groups as usize,
            labels: self.labels.clone(),
            annotations: self.annotations.iter().map(template).collect::<Result<_, _>>()?,
            receivers: self.receivers.clone(),
            escalate: self.escalate.clone(),
            repeat: self.repeat,
            fingerprint: self.fingerprint(),
            group_by,
        })
    }

    fn condition(&self, group_by: &[Field]) -> Result<Condition, String> {
        let only = |name: &str, given: bool, kinds: &[Kind]| {
            let wrong = given && !kinds.contains(&self.kind);
            if wrong { Err(format!("`{name}` does not go with this `kind`")) } else { Ok(()) }
        };
        only("count", self.count.is_some(), &[Kind::Threshold])?;
        only("per_second", self.per_second.is_some(), &[Kind::Rate])?;
        only("ratio", self.ratio.is_some(), &[Kind::Ratio])?;
        only("of", self.of.is_some(), &[Kind::Ratio])?;
        only("min_total", self.min_total.is_some(), &[Kind::Ratio])?;
        only("memory", self.memory.is_some(), &[Kind::Absence, Kind::FirstSeen])?;
        only("learn", !self.learn.is_zero(), &[Kind::FirstSeen])?;
        only("armed", self.armed != Armed::default(), &[Kind::Absence])?;
        only("window", self.window.is_some(), &[Kind::Threshold, Kind::Rate, Kind::Ratio, Kind::Absence])?;
        if self.kind == Kind::FirstSeen && !self.hold.is_zero() {
            return Err("`for` does not go with this `kind`: something is new only once".into());
        }
        let memory_ms = self.memory.unwrap_or(MEMORY).ms();
        let window = || {
            let asked = self.window.ok_or("`window` is missing, such as \"5m\"")?;
            if asked.is_zero() || asked > LONGEST {
                return Err(format!("`window` is above 0 and at most {LONGEST}"));
            }
            Ok(asked)
        };
        Ok(match self.kind {
            Kind::Threshold => {
                let count = self.count.filter(|count| *count > 0).ok_or("`count` is missing, or 0")?;
                Condition::Threshold { count, window: Window::new(window()?) }
            }
            Kind::Rate => {
                let per_second = self.per_second.filter(|rate| rate.is_finite() && *rate > 0.0);
                let per_second = per_second.ok_or("`per_second` is missing, or not above 0")?;
                Condition::Rate { per_second, window: Window::new(window()?) }
            }
            Kind::Ratio => {
                if self.of.is_none() {
                    return Err("`of` is missing: the events of which these are a part".into());
                }
                let ratio = self.ratio.filter(|ratio| *ratio > 0.0 && *ratio <= 1.0);
                let ratio = ratio.ok_or("`ratio` is missing, or not above 0 and up to 1")?;
                let min_total = self.min_total.unwrap_or(MIN_TOTAL).max(1);
                Condition::Ratio { ratio, min_total, window: Window::new(window()?) }
            }
            Kind::Absence => {
                let at_once = self.armed == Armed::AtOnce;
                if at_once && !group_by.is_empty() {
                    return Err("`armed = \"at_once\"` does not go with `group_by`: which groups there will be is not known".into());
                }
                let after_ms = window()?.ms();
                if memory_ms <= after_ms {
                    return Err("`memory` is longer than `window`".into());
                }
                Condition::Absence { after_ms, memory_ms, at_once }
            }
            Kind::FirstSeen => {
                if group_by.is_empty() {
                    return Err("`group_by` says what is new, such as [\"source_ip\"]".into());
                }
                Condition::FirstSeen { memory_ms, learn_ms: self.learn.ms() }
            }
        })
    }

    fn check_texts(&self, groups: &BTreeSet<&str>) -> Result<(), String> {
        let texts = self.labels.iter().map(|text| ("labels", text));
        for (what, (name, text)) in texts.chain(self.annotations.iter().map(|text| ("annotations", text))) {
            if !is_label(name) {
                return Err(format!("`{what}.{name}` is no name of letters, digits and `_`"));
            }
            if text.len() > TEXT_BYTES {
                return Err(format!("`{what}.{name}` has more than {TEXT_BYTES} bytes"));
            }
        }
        if let Some(taken) = self
            .labels
            .keys()
            .find(|name| BASE_LABELS.contains(&name.as_str()) || groups.contains(name.as_str()))
        {
            return Err(format!("`labels.{taken}` is said by the Host itself"));
        }
        if let Some(taken) = groups.iter().find(|name| BASE_LABELS.contains(*name)) {
            return Err(format!("`group_by`: `{taken}` is said by the Host itself"));
        }
        if self.labels.len() > TEXTS || self.annotations.len() > TEXTS {
            return Err(format!("there are more than {TEXTS} labels or annotations"));
        }
        if self.description.len() > 4 * TEXT_BYTES {
            return Err(format!("`description` has more than {} bytes", 4 * TEXT_BYTES));
        }
        Ok(())
    }

    fn check_receivers(&self) -> Result<(), String> {
        let mut before = Wait::default();
        if self.escalate.len() > ESCALATIONS {
            return Err(format!("`escalate` has at most {ESCALATIONS} steps"));
        }
        for step in &self.escalate {
            if step.after <= before || step.after > LONGEST || step.receivers.is_empty() {
                return Err(format!(
                    "`escalate`: each step comes after the one before, within {LONGEST}, and has receivers"
                ));
            }
            before = step.after;
        }
        Ok(())
    }

    /// Returns what is different when what was counted so far means nothing any more.
    fn fingerprint(&self) -> String {
        #[derive(Serialize)]
        struct Counted<'a>(
            Kind,
            &'a crate::Match,
            &'a Option<crate::Match>,
            Option<Wait>,
            &'a [String],
            Armed,
            Wait,
        );
        let Self { kind, events, of, window, group_by, armed, learn, .. } = self;
        let counted = Counted(*kind, events, of, *window, group_by, *armed, *learn);
        let text = serde_json::to_vec(&counted).expect("numbers, texts and lists");
        HEXLOWER.encode(&Sha256::digest(text)[..8])
    }
}
