use std::collections::BTreeSet;

use aesp_proto::{
    PrincipalId, SessionId,
    v1::{AuditEvent, AuditLeaf, EventType, Outcome},
};

use crate::view;

/// The most words of one event that can be found.
const WORDS: usize = 128;
/// Bytes of a word that count; the rest of a longer one is left out.
const WORD_BYTES: usize = 64;

/// Which events are wanted. An empty list lets everything pass; of a list with several entries one must fit; all lists must.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// What sort of thing happened.
    pub kinds: Vec<EventType>,
    /// Who did it, or on whose behalf a Runtime did it.
    pub principals: Vec<PrincipalId>,
    /// Within which session.
    pub sessions: Vec<SessionId>,
    /// How it ended.
    pub outcomes: Vec<Outcome>,
    /// The operation, for example `tool.invoke`.
    pub actions: Vec<String>,
    /// What it was done to, exactly as recorded.
    pub resources: Vec<String>,
    /// The name of the tool that it was done to, in any version.
    pub tools: Vec<String>,
    /// The client's address, or the network for refusals that are counted together, exactly as recorded.
    pub source_ips: Vec<String>,
    /// What joins a client's report with the Host's records.
    pub correlation_ids: Vec<String>,
    /// The client's own name for the call.
    pub invocation_ids: Vec<String>,
    /// The policy that was violated.
    pub policies: Vec<String>,
    /// At least this risk, above 0 and up to 1.
    pub min_risk: Option<f64>,
    /// Whether it was reported from outside the Host.
    pub external: Option<bool>,
    /// Words that all stand in the resource, the reason or the values of the fields; see [`words`].
    pub words: BTreeSet<String>,
}

impl Filter {
    /// Tells whether everything passes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Tells whether something is asked that stands in the sealed part of an event.
    #[must_use]
    pub fn looks_inside(&self) -> bool {
        let lists = [
            &self.resources,
            &self.tools,
            &self.source_ips,
            &self.correlation_ids,
            &self.invocation_ids,
            &self.policies,
        ];
        lists.iter().any(|list| !list.is_empty()) || self.min_risk.is_some() || !self.words.is_empty()
    }

    /// Tells whether the open part of an event fits.
    #[must_use]
    pub fn admits_leaf(&self, leaf: &AuditLeaf) -> bool {
        let id = |wanted: &[u8; 16]| leaf.principal_id == wanted || leaf.on_behalf_of == wanted;
        (self.kinds.is_empty() || self.kinds.contains(&leaf.event_type()))
            && (self.principals.is_empty() || self.principals.iter().any(|one| id(one.as_bytes())))
            && (self.sessions.is_empty() || self.sessions.iter().any(|one| leaf.session_id == one.as_bytes()))
            && (self.outcomes.is_empty() || self.outcomes.contains(&leaf.outcome()))
            && (self.actions.is_empty() || self.actions.contains(&leaf.action))
            && self.external.is_none_or(|external| leaf.external == external)
    }

    /// Tells whether a readable event fits.
    #[must_use]
    pub fn admits(&self, event: &AuditEvent) -> bool {
        let id = |wanted: &PrincipalId, is: &str| is.parse::<PrincipalId>().is_ok_and(|is| is == *wanted);
        let by = |one: &PrincipalId| id(one, &event.principal_id) || id(one, &event.on_behalf_of);
        let within = |one: &SessionId| event.session_id.parse::<SessionId>().is_ok_and(|is| is == *one);
        (self.kinds.is_empty() || self.kinds.contains(&event.event_type()))
            && (self.principals.is_empty() || self.principals.iter().any(by))
            && (self.sessions.is_empty() || self.sessions.iter().any(within))
            && (self.outcomes.is_empty() || self.outcomes.contains(&event.outcome()))
            && (self.actions.is_empty() || self.actions.contains(&event.action))
            && self.external.is_none_or(|external| event.external == external)
            && self.admits_inside(event)
    }

    /// Tells whether the sealed part of an event, opened, fits. What can't be opened any more fits nothing that is asked of it.
    #[must_use]
    pub fn admits_inside(&self, event: &AuditEvent) -> bool {
        let one_of = |wanted: &[String], is: &str| wanted.is_empty() || wanted.iter().any(|one| one == is);
        one_of(&self.resources, &event.resource)
            && (self.tools.is_empty() || one_of(&self.tools, tool(&event.resource).unwrap_or_default()))
            && one_of(&self.source_ips, &event.source_ip)
            && one_of(&self.correlation_ids, &event.correlation_id)
            && one_of(&self.invocation_ids, &event.invocation_id)
            && (self.policies.is_empty() || event.policy_violations.iter().any(|p| self.policies.contains(p)))
            && self.min_risk.is_none_or(|least| event.risk_score >= least)
            && (self.words.is_empty() || self.words.is_subset(&words_of(event)))
    }
}

/// Returns the tool that a resource names: `tool:NAME@VERSION`, or `tool:NAME` of a call that did not find it.
#[must_use]
pub fn tool(resource: &str) -> Option<&str> {
    let named = resource.strip_prefix("tool:")?;
    Some(named.split_once('@').map_or(named, |(name, _)| name)).filter(|name| !name.is_empty())
}

/// Returns the words of a text: runs of letters and digits in lower case, without what is beyond 64 bytes of each.
#[must_use]
pub fn words(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    collect(text, &mut found);
    found
}

/// Returns the words by which an event can be found: those of its resource, its reason and the values of its fields, at most
/// 128 in all.
#[must_use]
pub fn words_of(event: &AuditEvent) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    collect(&event.resource, &mut found);
    collect(&event.reason, &mut found);
    // In the order of their names, so that the same event has the same words each time.
    let mut fields: Vec<_> = event.metadata.iter().filter(|(name, _)| !view::made_by_view(name)).collect();
    fields.sort();
    for (_, value) in fields {
        collect(value, &mut found);
    }
    found
}

fn collect(text: &str, found: &mut BTreeSet<String>) {
    for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        if found.len() >= WORDS {
            return;
        }
        let word = word.to_lowercase();
        found.insert(word[..word.floor_char_boundary(WORD_BYTES)].to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(words: &[&str]) -> BTreeSet<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn words_are_lower_case_bounded_and_of_values_only() {
        assert_eq!(words("Über-Größe: a_b 42!"), set(&["über", "größe", "a", "b", "42"]));
        let mut event = AuditEvent { reason: "too MANY".into(), ..AuditEvent::default() };
        event.metadata.insert("name".into(), "value".into());
        event.metadata.insert("arguments_digest".into(), "00ff".into());
        assert_eq!(words_of(&event), set(&["too", "many", "value"]));
        event.reason = (0..1_000).map(|n| format!("w{n} ")).collect();
        assert_eq!(words_of(&event).len(), WORDS);
        assert!(words(&"ü".repeat(1_000)).iter().all(|word| word.len() <= WORD_BYTES));
    }

    #[test]
    fn tools_are_named_without_their_version() {
        assert_eq!(tool("tool:git_log@1.0.0"), Some("git_log"));
        assert_eq!(tool("tool:git_log"), Some("git_log"));
        assert_eq!((tool("tool:@1"), tool("session:x")), (None, None));
    }

    #[test]
    fn a_readable_event_fits_as_its_leaf_does() {
        let (who, other) = (PrincipalId::from_bytes([1; 16]), PrincipalId::from_bytes([2; 16]));
        let session = SessionId::from_bytes([3; 16]);
        let event = AuditEvent {
            event_type: EventType::ToolInvocation.into(),
            outcome: Outcome::Denied.into(),
            action: "tool.invoke".into(),
            principal_id: who.to_string(),
            session_id: session.to_string(),
            ..AuditEvent::default()
        };
        let leaf = AuditLeaf {
            event_type: event.event_type,
            outcome: event.outcome,
            action: event.action.clone(),
            principal_id: who.as_bytes().to_vec(),
            session_id: session.as_bytes().to_vec(),
            ..AuditLeaf::default()
        };
        let none = Filter::default;
        for (filter, fits) in [
            (none(), true),
            (Filter { kinds: vec![EventType::ToolInvocation], ..none() }, true),
            (Filter { kinds: vec![EventType::Authentication], ..none() }, false),
            (Filter { principals: vec![other, who], ..none() }, true),
            (Filter { principals: vec![other], ..none() }, false),
            (Filter { sessions: vec![session], ..none() }, true),
            (Filter { sessions: vec![SessionId::from_bytes([4; 16])], ..none() }, false),
            (Filter { outcomes: vec![Outcome::Success], ..none() }, false),
            (Filter { actions: vec!["tool.invoke".into()], ..none() }, true),
            (Filter { external: Some(true), ..none() }, false),
        ] {
            assert_eq!((filter.admits(&event), filter.admits_leaf(&leaf)), (fits, fits), "{filter:?}");
        }
        assert!(!Filter { words: words("echo"), ..none() }.admits(&event));
    }

    #[test]
    fn all_that_is_asked_must_fit() {
        let event = AuditEvent {
            resource: "tool:echo@1.0.0".into(),
            source_ip: "192.0.2.1".into(),
            risk_score: 0.5,
            policy_violations: vec!["p1".into()],
            ..AuditEvent::default()
        };
        let mut filter = Filter { tools: vec!["x".into(), "echo".into()], ..Filter::default() };
        assert!(filter.looks_inside() && filter.admits_inside(&event));
        filter.min_risk = Some(0.5);
        filter.policies = vec!["p1".into()];
        filter.words = words("Echo tool");
        assert!(filter.admits_inside(&event));
        filter.source_ips = vec!["192.0.2.2".into()];
        assert!(!filter.admits_inside(&event));
        // What can't be opened is not found by what was in it.
        assert!(
            !Filter { tools: vec!["echo".into()], ..Filter::default() }.admits_inside(&AuditEvent::default())
        );
    }
}
