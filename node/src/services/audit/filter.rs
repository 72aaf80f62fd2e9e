//! What clients ask for, as the search takes it.

use std::str::FromStr;

use aesp_audit::{Filter, Query, words};
use aesp_proto::{
    Error, Timestamp,
    v1::{AuditFilter, EventType, Outcome, QueryEventsRequest},
};

/// Entries of a list, and words of a text.
const ENTRIES: usize = 100;
const WORDS: usize = 32;
/// Bytes of an entry or text.
const TEXT_BYTES: usize = 4_096;

/// Reads a filter.
///
/// # Errors
/// What is malformed, unknown or too much: a filter that is only half understood would show what nobody asked for.
pub(super) fn filter(asked: Option<&AuditFilter>) -> Result<Filter, Error> {
    let Some(asked) = asked else { return Ok(Filter::default()) };
    let words = words(bounded(&asked.text)?);
    if words.len() > WORDS || (words.is_empty() && !asked.text.is_empty()) {
        return Err(Error::invalid("filter.text must have at least one word and at most 32"));
    }
    if !(0.0..=1.0).contains(&asked.min_risk) {
        return Err(Error::invalid("filter.min_risk is between 0 and 1"));
    }
    Ok(Filter {
        kinds: kinds(&asked.event_types)?,
        principals: ids(&asked.principal_ids)?,
        sessions: ids(&asked.session_ids)?,
        outcomes: outcomes(&asked.outcomes)?,
        actions: texts(&asked.actions)?,
        resources: texts(&asked.resources)?,
        tools: texts(&asked.tools)?,
        source_ips: texts(&asked.source_ips)?,
        correlation_ids: texts(&asked.correlation_ids)?,
        invocation_ids: texts(&asked.invocation_ids)?,
        policies: texts(&asked.policies)?,
        min_risk: Some(asked.min_risk).filter(|risk| *risk > 0.0),
        external: asked.external,
        words,
    })
}

/// Reads the filter of a query: what its own fields say is asked in addition to its filter, so a field and a list that both ask
/// for another value find nothing; then the list has only what both ask for.
pub(super) fn of_query(asked: &QueryEventsRequest) -> Result<Filter, Error> {
    let mut filter = filter(asked.filter.as_ref())?;
    narrow(&mut filter.kinds, kinds(&asked.event_types)?)?;
    narrow(&mut filter.principals, ids(&single(&asked.principal_id))?)?;
    narrow(&mut filter.sessions, ids(&single(&asked.session_id))?)?;
    narrow(&mut filter.actions, texts(&single(&asked.action))?)?;
    if asked.outcome != 0 {
        narrow(&mut filter.outcomes, outcomes(&[asked.outcome])?)?;
    }
    Ok(filter)
}

/// Sets the times and the filter of a query.
pub(super) fn in_time(query: Query, start_ms: i64, end_ms: i64) -> Query {
    let time = |at: i64| (at != 0).then_some(Timestamp(at));
    Query { start: time(start_ms), end: time(end_ms), ..query }
}

fn single(text: &str) -> Vec<String> {
    if text.is_empty() { Vec::new() } else { vec![text.to_owned()] }
}

fn narrow<T: PartialEq>(list: &mut Vec<T>, by: Vec<T>) -> Result<(), Error> {
    if by.is_empty() {
        return Ok(());
    }
    if list.is_empty() {
        *list = by;
        return Ok(());
    }
    list.retain(|one| by.contains(one));
    if list.is_empty() {
        // An empty list would let everything pass.
        return Err(Error::invalid("a field of the request and its filter ask for different values"));
    }
    Ok(())
}

fn entries<T, U>(list: &[T], read: impl Fn(&T) -> Result<U, Error>) -> Result<Vec<U>, Error> {
    if list.len() > ENTRIES {
        return Err(Error::invalid("a list of the filter has more than 100 entries"));
    }
    list.iter().map(read).collect()
}

fn bounded(text: &str) -> Result<&str, Error> {
    if text.len() > TEXT_BYTES { Err(Error::invalid("a text of the filter is too long")) } else { Ok(text) }
}

fn texts(list: &[String]) -> Result<Vec<String>, Error> {
    entries(list, |text| match bounded(text)? {
        "" => Err(Error::invalid("an entry of the filter is empty")),
        text => Ok(text.to_owned()),
    })
}

fn ids<T: FromStr>(list: &[String]) -> Result<Vec<T>, Error> {
    entries(list, |text| crate::services::parse(text))
}

fn kinds(list: &[i32]) -> Result<Vec<EventType>, Error> {
    entries(list, |kind| match EventType::try_from(*kind) {
        Ok(EventType::Unspecified) | Err(_) => Err(Error::invalid("the filter names an unknown type")),
        Ok(kind) => Ok(kind),
    })
}

fn outcomes(list: &[i32]) -> Result<Vec<Outcome>, Error> {
    entries(list, |outcome| match Outcome::try_from(*outcome) {
        Ok(Outcome::Unspecified) | Err(_) => Err(Error::invalid("the filter names an unknown outcome")),
        Ok(outcome) => Ok(outcome),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_only_half_understood_is_refused() {
        let none = AuditFilter::default;
        let bad = [
            AuditFilter { event_types: vec![99], ..none() },
            AuditFilter { event_types: vec![0], ..none() },
            AuditFilter { outcomes: vec![9], ..none() },
            AuditFilter { principal_ids: vec!["nobody".into()], ..none() },
            AuditFilter { tools: vec![String::new()], ..none() },
            AuditFilter { tools: vec!["t".into(); ENTRIES + 1], ..none() },
            AuditFilter { text: "?!".into(), ..none() },
            AuditFilter { text: "x".repeat(TEXT_BYTES + 1), ..none() },
            AuditFilter { min_risk: f64::NAN, ..none() },
            AuditFilter { min_risk: 1.5, ..none() },
        ];
        for asked in bad {
            assert!(filter(Some(&asked)).is_err(), "{asked:?}");
        }
        assert_eq!(filter(Some(&none())).unwrap(), Filter::default());
    }

    #[test]
    fn fields_and_lists_of_a_query_must_agree() {
        let mut asked = QueryEventsRequest { action: "a".into(), ..QueryEventsRequest::default() };
        asked.filter = Some(AuditFilter { actions: vec!["a".into(), "b".into()], ..AuditFilter::default() });
        assert_eq!(of_query(&asked).unwrap().actions, ["a"]);
        asked.action = "c".into();
        assert!(of_query(&asked).is_err(), "it would find everything");
        asked.action.clear();
        assert_eq!(of_query(&asked).unwrap().actions, ["a", "b"]);
    }
}
