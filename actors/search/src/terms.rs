//! What an event can be found by, and what a search looks for. A term is one letter for the sort and the value behind it.

use std::{collections::HashMap, fmt::Write as _};

use aesp_audit::{Filter, tool, words_of};
use aesp_proto::v1::{AuditEvent, AuditLeaf};
use aesp_storage::TenantKeys;
use data_encoding::HEXLOWER;

use crate::bucket::Term;

const RISK_BANDS: f64 = 10.0;

/// Makes the terms of events, and remembers those of a segment: the same ones come again and again.
#[derive(Default)]
pub(crate) struct Terms {
    known: HashMap<String, Term>,
    text: String,
}

impl Terms {
    /// Calls `each` with every term of the event; with some of them twice.
    pub(crate) fn of(
        &mut self,
        keys: &TenantKeys,
        leaf: &AuditLeaf,
        event: &AuditEvent,
        mut each: impl FnMut(Term),
    ) {
        let mut put = |sort: char, value: &str| {
            if !value.is_empty() {
                each(self.term(keys, sort, value));
            }
        };
        put('t', &leaf.event_type.to_string());
        put('o', &leaf.outcome.to_string());
        put('a', &leaf.action);
        put('p', &HEXLOWER.encode(&leaf.principal_id));
        put('p', &HEXLOWER.encode(&leaf.on_behalf_of));
        put('s', &HEXLOWER.encode(&leaf.session_id));
        if leaf.external {
            put('e', "1");
        }
        put('r', &event.resource);
        put('f', tool(&event.resource).unwrap_or_default());
        put('i', &event.source_ip);
        put('c', &event.correlation_id);
        put('v', &event.invocation_id);
        event.policy_violations.iter().for_each(|policy| put('x', policy));
        if let Some(band) = band(event.risk_score) {
            put('k', &band.to_string());
        }
        words_of(event).iter().for_each(|word| put('w', word));
    }

    fn term(&mut self, keys: &TenantKeys, sort: char, value: &str) -> Term {
        self.text.clear();
        self.text.push(sort);
        self.text.push_str(value);
        if let Some(term) = self.known.get(&self.text) {
            return *term;
        }
        let term = Term::new(keys, &self.text);
        self.known.insert(self.text.clone(), term);
        term
    }
}

/// Returns which tenth of the risks a risk is in; none for no risk.
fn band(risk: f64) -> Option<u8> {
    // NaN is no risk.
    if risk > 0.0 { Some((risk.min(1.0) * RISK_BANDS).floor() as u8) } else { None }
}

/// Returns what a search looks for: an event must have one term of each list. What is most likely rare comes first. Empty if the
/// index can't help.
pub(crate) fn wanted(keys: &TenantKeys, filter: &Filter) -> Vec<Vec<Term>> {
    let mut out = Vec::new();
    let mut any_of = |sort: char, values: &mut dyn Iterator<Item = String>| {
        let mut text = String::new();
        let mut terms = Vec::new();
        for value in values {
            text.clear();
            // Writing into a string does not fail.
            let _ = write!(text, "{sort}{value}");
            terms.push(Term::new(keys, &text));
        }
        if !terms.is_empty() {
            out.push(terms);
        }
    };
    let mut texts = |sort: char, values: &[String]| any_of(sort, &mut values.iter().cloned());
    texts('v', &filter.invocation_ids);
    texts('c', &filter.correlation_ids);
    any_of('s', &mut filter.sessions.iter().map(|id| HEXLOWER.encode(id.as_bytes())));
    let mut texts = |sort: char, values: &[String]| any_of(sort, &mut values.iter().cloned());
    texts('i', &filter.source_ips);
    texts('r', &filter.resources);
    texts('x', &filter.policies);
    for word in &filter.words {
        any_of('w', &mut std::iter::once(word.clone()));
    }
    any_of('p', &mut filter.principals.iter().map(|id| HEXLOWER.encode(id.as_bytes())));
    if let Some(least) = filter.min_risk.and_then(band) {
        any_of('k', &mut (least..=RISK_BANDS as u8).map(|band| band.to_string()));
    }
    let mut texts = |sort: char, values: &[String]| any_of(sort, &mut values.iter().cloned());
    texts('f', &filter.tools);
    texts('a', &filter.actions);
    any_of('t', &mut filter.kinds.iter().map(|kind| i32::from(*kind).to_string()));
    any_of('o', &mut filter.outcomes.iter().map(|outcome| i32::from(*outcome).to_string()));
    if filter.external == Some(true) {
        any_of('e', &mut std::iter::once("1".to_owned()));
    }
    out
}
