//! Silences: alerts of which nobody is told for some time. Pure.

use std::{collections::BTreeMap, str::FromStr};

use aesp_proto::{PrincipalId, SilenceId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::matching::is_label;

/// A time in which nobody is told of some alerts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    /// Names it.
    pub id: SilenceId,
    /// Which alerts: all must fit.
    pub matchers: Vec<LabelMatcher>,
    /// From when.
    pub from: Timestamp,
    /// Until when.
    pub until: Timestamp,
    /// Why.
    pub reason: String,
    /// Who said so.
    pub author: PrincipalId,
}

/// What a label must be, or must not be: `label=value` or `label!=value`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelMatcher {
    /// The label; one that an alert does not have is empty.
    pub label: String,
    /// Whether it must be the value, or must not.
    pub equal: bool,
    /// The value.
    pub value: String,
}

/// The text is no matcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a matcher has the form label=value or label!=value")]
pub struct NoMatcher;

impl FromStr for LabelMatcher {
    type Err = NoMatcher;

    fn from_str(text: &str) -> Result<Self, NoMatcher> {
        let (label, value) = text.split_once('=').ok_or(NoMatcher)?;
        let (label, equal) = label.strip_suffix('!').map_or((label, true), |label| (label, false));
        if !is_label(label) || value.len() > 1_024 {
            return Err(NoMatcher);
        }
        Ok(Self { label: label.to_owned(), equal, value: value.to_owned() })
    }
}

impl std::fmt::Display for LabelMatcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}{}", self.label, if self.equal { "=" } else { "!=" }, self.value)
    }
}

impl Silence {
    /// Tells whether it is about an alert with these labels.
    #[must_use]
    pub fn fits(&self, labels: &BTreeMap<String, String>) -> bool {
        let fits = |matcher: &LabelMatcher| {
            let is = labels.get(&matcher.label).map(String::as_str).unwrap_or_default();
            (is == matcher.value) == matcher.equal
        };
        self.matchers.iter().all(fits)
    }

    /// Tells whether it holds.
    #[must_use]
    pub fn holds(&self, now: Timestamp) -> bool {
        self.from <= now && now < self.until
    }
}

/// Returns until when nobody is told of an alert with these labels, if that is so now.
pub(crate) fn silenced_until<'a>(
    silences: impl IntoIterator<Item = &'a Silence>,
    labels: &BTreeMap<String, String>,
    now: Timestamp,
) -> Option<Timestamp> {
    let fit = silences.into_iter().filter(|silence| silence.holds(now) && silence.fits(labels));
    fit.map(|silence| silence.until).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silence_is_about_what_all_of_its_matchers_fit() {
        let labels =
            BTreeMap::from([("alertname".to_owned(), "a".to_owned()), ("tool".to_owned(), "x=y".to_owned())]);
        let fits = |matchers: &[&str]| {
            let matchers = matchers.iter().map(|text| text.parse().unwrap()).collect();
            let (from, until) = (Timestamp(10), Timestamp(20));
            let (id, author) = (SilenceId::from_bytes([1; 16]), PrincipalId::from_bytes([1; 16]));
            let silence = Silence { id, matchers, from, until, reason: String::new(), author };
            assert_eq!(silenced_until([&silence], &labels, Timestamp(9)), None);
            assert_eq!(silenced_until([&silence], &labels, Timestamp(20)), None);
            let until = silenced_until([&silence], &labels, Timestamp(19));
            assert_eq!(until.is_some(), silence.fits(&labels));
            silence.fits(&labels)
        };
        assert!(fits(&["alertname=a", "tool=x=y"]) && fits(&["tool!=b"]) && fits(&["node="]));
        assert!(!fits(&["alertname=a", "tool=b"]) && !fits(&["alertname!=a"]) && !fits(&["node!="]));
    }

    #[test]
    fn matchers_are_written_as_they_are_read() {
        for text in ["a=b", "a!=b", "a=", "a=b=c"] {
            assert_eq!(text.parse::<LabelMatcher>().unwrap().to_string(), text);
        }
        for text in ["", "a", "=b", "a b=c", "1=2"] {
            assert_eq!(text.parse::<LabelMatcher>(), Err(NoMatcher), "{text}");
        }
    }
}
