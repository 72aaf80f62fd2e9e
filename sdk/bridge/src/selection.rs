use std::collections::BTreeMap;

use rmcp::model::Tool;
use tracing::warn;

/// Which of a server's tools are offered, and by which names.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Put before each name, so that tools of several servers do not meet.
    pub prefix: String,
    /// The server's own names of the tools to offer; empty for all.
    pub include: Vec<String>,
}

impl Selection {
    /// Returns the server's name of each tool, by the name that it is offered by.
    pub(crate) fn apply(&self, tools: &[Tool]) -> BTreeMap<String, String> {
        let mut offered = BTreeMap::new();
        for tool in tools {
            if !self.include.is_empty() && !self.include.iter().any(|name| *name == tool.name) {
                continue;
            }
            let name = format!("{}{}", self.prefix, tool.name);
            if is_contract_name(&name) {
                offered.insert(name, tool.name.to_string());
            } else {
                warn!(name, "a tool whose name no contract can have is not offered");
            }
        }
        offered
    }

    /// Returns a name of the include list that is not among the tools.
    pub(crate) fn missing(&self, tools: &[Tool]) -> Option<&str> {
        self.include.iter().map(String::as_str).find(|name| tools.iter().all(|tool| tool.name != *name))
    }
}

/// Tells whether a name is of the form `[a-zA-Z_][a-zA-Z0-9_-]{0,63}` (ADM).
fn is_contract_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    name.len() <= 64
        && bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn tools(names: &[&str]) -> Vec<Tool> {
        names.iter().map(|name| Tool::new((*name).to_owned(), "", Arc::default())).collect()
    }

    #[test]
    fn names_are_prefixed_included_and_checked() {
        let tools = tools(&["log", "show", "a.b", "9"]);
        let offered = |prefix: &str, include: &[&str]| {
            let include = include.iter().map(|name| (*name).to_owned()).collect();
            let selection = Selection { prefix: prefix.to_owned(), include };
            selection.apply(&tools).into_keys().collect::<Vec<_>>()
        };
        assert_eq!(offered("", &[]), ["log", "show"]);
        assert_eq!(offered("git_", &[]), ["git_9", "git_log", "git_show"]);
        assert_eq!(offered("git_", &["show"]), ["git_show"]);
        assert!(offered(&"x".repeat(64), &[]).is_empty());
    }
}
