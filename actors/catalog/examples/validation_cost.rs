//! Measures what checking the arguments of a call costs, from raw bytes to the checked value, for a document of 1 kB:
//! `cargo run --release -p aesp-catalog --example validation_cost`.
#![expect(clippy::print_stdout, reason = "it is a command-line program")]
#![expect(clippy::unwrap_used, reason = "a measurement stops at the first surprise")]

use std::{collections::BTreeSet, hint::black_box};

use aesp_catalog::{Compiler, Contract};
use aesp_proto::v1;
use serde_json::json;
use tokio::time::Instant;

const ROUNDS: usize = 200_000;

fn main() {
    let item = json!({"type": "object", "required": ["id", "label"], "additionalProperties": false, "properties": {
        "id": {"type": "integer", "minimum": 0}, "label": {"type": "string", "maxLength": 64},
        "state": {"enum": ["open", "closed"]}, "ratio": {"type": "number"},
    }});
    let parameters = json!({"type": "object", "required": ["repo", "items"], "additionalProperties": false, "properties": {
        "repo": {"type": "string", "pattern": "^[a-z][a-z0-9-]*$"}, "dry": {"type": "boolean"},
        "items": {"type": "array", "items": item, "maxItems": 100},
    }});
    let draft = v1::ContractDraft {
        name: "measured".into(),
        version: "1.0.0".into(),
        parameters_json: parameters.to_string().into(),
        effects: v1::Effects::ReadOnly.into(),
        risk: v1::Risk::Low.into(),
        timeout_ms: 1000,
        security_classification: "INTERNAL".into(),
        ..v1::ContractDraft::default()
    };
    let contract = Contract::from_draft(&draft, BTreeSet::new()).unwrap();
    let compiled = Compiler::new().compile(&contract).unwrap();
    let items: Vec<_> = (0..14)
        .map(|id| json!({"id": id, "label": "a label of usual length", "state": "open", "ratio": 0.25}))
        .collect();
    let document = json!({"repo": "aesp-host", "dry": true, "items": items}).to_string();

    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        black_box(compiled.check_arguments(black_box(document.as_bytes())).unwrap());
        times.push(start.elapsed());
    }
    times.sort_unstable();
    println!(
        "{} bytes, parsed within limits and validated: p50 {:?}, p99 {:?} (bound: 10 µs)",
        document.len(),
        times[ROUNDS / 2],
        times[ROUNDS * 99 / 100]
    );
}
