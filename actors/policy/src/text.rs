use std::{str::FromStr, sync::Arc};

use cedar_policy::{PolicyId, PolicySet, ValidationMode};

use crate::{complexity, index::Entry, schema::vocabulary};

/// The longest text of a policy, and the most Cedar policies in it.
const MAX_TEXT_BYTES: usize = 32 * 1024;
const MAX_POLICIES: usize = 100;

/// Returns every reason why the text is not a valid set of policies; empty when it is one.
#[must_use]
pub fn validate(text: &str) -> Vec<String> {
    match parse(&Arc::from("policy"), text) {
        Ok(set) => faults(&set),
        Err(errors) => errors,
    }
}

/// Parses and validates.
pub(crate) fn compile(source: &Arc<str>, text: &str) -> Result<Vec<Entry>, Vec<String>> {
    let set = parse(source, text)?;
    let faults = faults(&set);
    if faults.is_empty() { Ok(entries(source, &set)) } else { Err(faults) }
}

/// Parses a text that was validated against this very schema before.
pub(crate) fn recompile(source: &Arc<str>, text: &str) -> Result<Vec<Entry>, Vec<String>> {
    parse(source, text).map(|set| entries(source, &set))
}

fn parse(source: &str, text: &str) -> Result<PolicySet, Vec<String>> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(vec![format!("the text is longer than {MAX_TEXT_BYTES} bytes")]);
    }
    complexity::check(text).map_err(|fault| vec![fault])?;
    let parsed = PolicySet::from_str(text)
        .map_err(|errors| errors.iter().map(|error| error.to_string()).collect::<Vec<_>>())?;
    if parsed.templates().next().is_some() {
        return Err(vec!["templates (?principal, ?resource) are not supported".into()]);
    }
    let count = parsed.num_of_policies();
    if count == 0 || count > MAX_POLICIES {
        return Err(vec![format!("a text holds 1 to {MAX_POLICIES} policies, this one {count}")]);
    }
    let named = parsed.policies().map(|policy| {
        let number = policy.id().to_string().trim_start_matches("policy").to_owned();
        policy.new_id(PolicyId::new(format!("{source}#{number}")))
    });
    PolicySet::from_policies(named).map_err(|error| vec![error.to_string()])
}

/// Validates strictly. Warnings count: a policy that can never apply protects nobody.
fn faults(set: &PolicySet) -> Vec<String> {
    let result = vocabulary().validator.validate(set, ValidationMode::Strict);
    let errors = result.validation_errors().map(ToString::to_string);
    errors.chain(result.validation_warnings().map(ToString::to_string)).collect()
}

fn entries(source: &Arc<str>, set: &PolicySet) -> Vec<Entry> {
    set.policies().map(|policy| Entry::new(policy.clone(), source.clone())).collect()
}
