//! What `make fuzz` feeds with documents that nobody chose.

use aesp_proto::v1;

use crate::{Compiler, Contract, Error, Import, import_adm, import_mcp};

/// Reads an ADM manifest.
///
/// # Panics
/// If what it became is not a contract.
pub fn adm(json: &[u8]) {
    imported(import_adm(json, "1.0.0"));
}

/// Reads a tool list of an MCP server.
///
/// # Panics
/// If what it became is not a contract.
pub fn mcp(json: &[u8]) {
    imported(import_mcp(json, "1.0.0", "peer_"));
}

/// Reads a schema and, behind a line feed, a document to be checked against it.
///
/// # Panics
/// If a schema that was accepted can't be used, or the two ways to check a document disagree.
pub fn schema(input: &[u8]) {
    let at = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let (schema, document) = (&input[..at], input.get(at + 1..).unwrap_or_default());
    let draft = v1::ContractDraft {
        name: "tool".into(),
        version: "1.0.0".into(),
        effects: v1::Effects::ReadOnly.into(),
        risk: v1::Risk::Low.into(),
        timeout_ms: 1,
        security_classification: "PUBLIC".into(),
        parameters_json: br#"{"type":"object"}"#.to_vec(),
        return_type_json: schema.to_vec(),
        ..v1::ContractDraft::default()
    };
    if let Ok(contract) = Contract::from_draft(&draft, Default::default()) {
        usable(&contract, document);
    }
}

fn imported(import: Result<Import, Error>) {
    for draft in import.map(|import| import.drafts).unwrap_or_default() {
        let contract = Contract::from_draft(&draft, Default::default()).expect("drafts are valid contracts");
        usable(&contract, br#"{"a":[1,"x",null]}"#);
    }
}

fn usable(contract: &Contract, document: &[u8]) {
    let compiled = Compiler::new().compile(contract).expect("a contract compiles");
    for checked in [compiled.check_arguments(document), compiled.check_result(document)] {
        if let Err(Error::Violations { violations, .. }) = checked {
            assert!(!violations.is_empty(), "a refusal says what is wrong");
        }
    }
}

#[cfg(test)]
mod tests {
    type Target = (&'static str, fn(&[u8]));

    /// The committed inputs, and everything that ever broke.
    #[test]
    fn the_corpora_do_no_harm() {
        let targets: [Target; 3] =
            [("import_adm", super::adm), ("import_mcp", super::mcp), ("schema", super::schema)];
        for (name, target) in targets {
            let corpus = std::fs::read_dir(format!("../../fuzz/corpus/{name}")).unwrap();
            let inputs: Vec<_> = corpus.map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect();
            assert!(!inputs.is_empty());
            inputs.iter().for_each(|input| target(input));
        }
    }
}
