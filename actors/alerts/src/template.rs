//! Texts with places for values. Pure.

use std::collections::BTreeMap;

/// A text such as `{value} failed logins from {source_ip}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Value(String),
}

/// What can be filled in beside the labels of the group.
pub(crate) const VALUES: [&str; 4] = ["rule", "severity", "tenant", "value"];
/// Bytes of a text with its values.
const FILLED_BYTES: usize = 2_048;

impl Template {
    /// Reads a text; `{{` and `}}` stand for braces.
    ///
    /// # Errors
    /// Which value is not known, or that a brace is left open.
    pub(crate) fn parse(text: &str, groups: &[&str]) -> Result<Self, String> {
        let (mut pieces, mut plain) = (Vec::new(), String::new());
        let mut rest = text.chars().peekable();
        while let Some(c) = rest.next() {
            match c {
                '{' | '}' if rest.peek() == Some(&c) => {
                    rest.next();
                    plain.push(c);
                }
                '{' => {
                    let mut name = String::new();
                    loop {
                        match rest.next() {
                            Some('}') => break,
                            Some(c) => name.push(c),
                            None => return Err("a `{` is never closed; write `{{` for a brace".into()),
                        }
                    }
                    if !VALUES.contains(&name.as_str()) && !groups.contains(&name.as_str()) {
                        let known = [&VALUES[..], groups].concat().join(", ");
                        return Err(format!("`{{{name}}}` is none of {known}"));
                    }
                    pieces.push(Piece::Text(std::mem::take(&mut plain)));
                    pieces.push(Piece::Value(name));
                }
                '}' => return Err("a `}` without a `{`; write `}}` for a brace".into()),
                c => plain.push(c),
            }
        }
        pieces.push(Piece::Text(plain));
        pieces.retain(|piece| *piece != Piece::Text(String::new()));
        Ok(Self(pieces))
    }

    /// Fills the values in.
    pub(crate) fn fill(&self, values: &BTreeMap<String, String>) -> String {
        let mut out = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Value(name) => out.push_str(values.get(name).map(String::as_str).unwrap_or_default()),
            }
        }
        out.truncate(out.floor_char_boundary(FILLED_BYTES));
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(text: &str, values: &[(&str, &str)]) -> String {
        let values = values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Template::parse(text, &["source_ip"]).unwrap().fill(&values)
    }

    #[test]
    fn values_stand_where_their_names_were() {
        assert_eq!(fill("{value} from {source_ip}", &[("value", "7"), ("source_ip", "::1")]), "7 from ::1");
        assert_eq!(fill("{{{value}}}", &[("value", "{source_ip}")]), "{{source_ip}}");
        assert_eq!(fill("{value}", &[]), "");
        assert_eq!(
            fill(&"ä{value}".repeat(1_000), &[("value", "x")]).chars().filter(|c| *c == 'x').count(),
            682
        );
    }

    #[test]
    fn mistakes_are_found_before_they_matter() {
        for (text, why) in [("{color}", "source_ip"), ("{value", "never closed"), ("value}", "without")] {
            let error = Template::parse(text, &["source_ip"]).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
