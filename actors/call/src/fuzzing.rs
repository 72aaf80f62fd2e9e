//! What `make fuzz` feeds with requests that no client would send.

use std::{collections::BTreeSet, sync::OnceLock};

use aesp_catalog::{Compiled, Compiler, Contract};
use aesp_proto::v1;
use prost::Message;

use crate::CallRequest;

const SCHEMA: &str = r##"{"type":"object","additionalProperties":{"$ref":"#/$defs/any"},"$defs":{"any":{"anyOf":[
    {"type":"number","multipleOf":0.5},{"type":"string","maxLength":64,"pattern":"^[a-z]*$"},{"type":"array","uniqueItems":true},
    {"type":"object","propertyNames":{"maxLength":3}}]}}}"##;

/// Reads the bytes as an invocation, through the first steps of validation.
///
/// # Panics
/// If a request that was accepted breaks a rule of its form, or its arguments can't be told from others.
pub fn agent_request(bytes: &[u8]) {
    let Ok(message) = v1::InvokeRequest::decode(bytes) else { return };
    let Ok(request) = CallRequest::parse(message, "correlation") else { return };
    assert!((1..=64).contains(&request.invocation.as_str().len()));
    assert!((1..=64).contains(&request.tool.len()));
    assert!((1..=64).contains(&request.correlation_id.chars().count()));
    let Ok(arguments) = contract().check_arguments(&request.arguments) else { return };
    let canonical = serde_jcs::to_vec(&arguments).expect("accepted arguments have a canonical form");
    let again = contract().check_arguments(&canonical).expect("the canonical form is as good");
    assert_eq!(serde_jcs::to_vec(&again).expect("a canonical form"), canonical, "one digest for one meaning");
}

fn contract() -> &'static Compiled {
    static COMPILED: OnceLock<std::sync::Arc<Compiled>> = OnceLock::new();
    COMPILED.get_or_init(|| {
        let draft = v1::ContractDraft {
            name: "tool".into(),
            version: "1.0.0".into(),
            effects: v1::Effects::ReadOnly.into(),
            risk: v1::Risk::Low.into(),
            timeout_ms: 1,
            security_classification: "PUBLIC".into(),
            parameters_json: SCHEMA.into(),
            ..v1::ContractDraft::default()
        };
        let contract = Contract::from_draft(&draft, BTreeSet::new()).expect("a good contract");
        Compiler::new().compile(&contract).expect("it compiles")
    })
}

#[cfg(test)]
mod tests {
    /// The committed inputs, and everything that ever broke.
    #[test]
    fn the_corpus_does_no_harm() {
        let corpus = std::fs::read_dir("../../fuzz/corpus/agent_request").unwrap();
        let inputs: Vec<_> = corpus.map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect();
        assert!(!inputs.is_empty());
        inputs.iter().for_each(|input| super::agent_request(input));
    }
}
