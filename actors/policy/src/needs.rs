use std::ops::BitOr;

use cedar_policy::Policy;
use serde_json::Value;

/// What the conditions of policies read. What none of the candidates reads is not built for a decision: parsing a time or an
/// address for Cedar costs more than evaluating ten policies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    /// `context.now`.
    pub(crate) now: bool,
    /// `context.sourceIp`.
    pub(crate) source_ip: bool,
    /// `context.arguments`.
    pub(crate) arguments: bool,
    /// Attributes of any entity.
    pub(crate) attributes: bool,
}

/// What a policy reads, and whether it has any condition at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reads {
    pub(crate) needs: Needs,
    pub(crate) unconditional: bool,
}

impl Reads {
    /// Returns what the policy reads; everything when that is not plain to see.
    pub(crate) fn of(policy: &Policy) -> Self {
        let json = policy.to_json().ok();
        // Scopes compare entities and their ancestors, which are always there.
        let Some(conditions) = json.as_ref().and_then(|json| json.get("conditions")) else {
            return Self { needs: Needs::ALL, unconditional: false };
        };
        let unconditional = conditions.as_array().is_some_and(Vec::is_empty);
        Self { needs: Needs::of_expression(conditions), unconditional }
    }
}

impl Needs {
    /// Everything.
    pub(crate) const ALL: Self = Self { now: true, source_ip: true, arguments: true, attributes: true };

    /// Reads Cedar's JSON policy format. Source: <https://docs.cedarpolicy.com/policies/json-format.html>.
    fn of_expression(expression: &Value) -> Self {
        match expression {
            Value::Object(members) => {
                let access = members.get(".").or_else(|| members.get("has"));
                if let Some(attribute) = access.and_then(of_context) {
                    return Self::of_attribute(attribute);
                }
                let all = members.iter().map(|(key, value)| match (key.as_str(), value.as_str()) {
                    ("Var", Some("context")) => Self::ALL,
                    ("Var", _) | ("__entity", _) => Self { attributes: true, ..Self::default() },
                    _ => Self::of_expression(value),
                });
                all.fold(Self::default(), BitOr::bitor)
            }
            Value::Array(items) => items.iter().map(Self::of_expression).fold(Self::default(), BitOr::bitor),
            _ => Self::default(),
        }
    }

    fn of_attribute(name: &str) -> Self {
        match name {
            "now" => Self { now: true, ..Self::default() },
            "sourceIp" => Self { source_ip: true, ..Self::default() },
            "arguments" => Self { arguments: true, ..Self::default() },
            "depth" | "session" => Self::default(),
            "onBehalfOf" => Self { attributes: true, ..Self::default() },
            _ => Self::ALL,
        }
    }
}

/// Returns the attribute if it is one of the context itself.
fn of_context(access: &Value) -> Option<&str> {
    let context = access.get("left")?.get("Var")?.as_str()? == "context";
    access.get("attr")?.as_str().filter(|_| context)
}

impl BitOr for Needs {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self {
            now: self.now | other.now,
            source_ip: self.source_ip | other.source_ip,
            arguments: self.arguments | other.arguments,
            attributes: self.attributes | other.attributes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needs(condition: &str) -> Needs {
        let text =
            format!("forbid(principal in AESP::Role::\"x\", action, resource) when {{ {condition} }};");
        Reads::of(&text.parse().expect(condition)).needs
    }

    #[test]
    fn a_condition_is_one_even_if_it_reads_nothing() {
        let reads = |text: &str| Reads::of(&text.parse().expect(text));
        let bare = reads("permit(principal, action, resource);");
        assert_eq!(bare, Reads { needs: Needs::default(), unconditional: true });
        for text in [
            "permit(principal, action, resource) when { true };",
            "permit(principal, action, resource) unless { false };",
        ] {
            assert_eq!(reads(text), Reads { needs: Needs::default(), unconditional: false }, "{text}");
        }
    }

    #[test]
    fn what_is_read_is_needed() {
        let none = Needs::default();
        assert_eq!(needs("true"), none);
        assert_eq!(needs("context.depth > 1 || context has session"), none);
        assert_eq!(needs("context.now > datetime(\"2026-01-01\")"), Needs { now: true, ..none });
        assert_eq!(needs("context[\"n\\u{6f}w\"] == context[\"n\\u{6f}w\"]"), Needs { now: true, ..none });
        assert_eq!(needs("if true then context has sourceIp else false"), Needs { source_ip: true, ..none });
        assert_eq!(
            needs("[context.arguments.longs.hasTag(\"/n\")].contains(true)"),
            Needs { arguments: true, ..none }
        );
        for condition in [
            "resource.risk == \"HIGH\"",
            "principal in AESP::Role::\"r\"",
            "AESP::Tool::\"t\".development",
            "context has onBehalfOf",
        ] {
            assert_eq!(needs(condition), Needs { attributes: true, ..none }, "{condition}");
        }
        for condition in [
            "context == {}",
            "{a: context}.a.now == 1",
            "(if true then context else context).depth == 1",
            "context.other",
        ] {
            assert_eq!(needs(condition), Needs::ALL, "{condition}");
        }
    }
}
