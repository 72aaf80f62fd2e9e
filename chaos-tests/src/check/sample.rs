//! Evidence of a faultless run, for tests of the checkers to spoil.

use aesp_sdk::ErrorCode;

use super::{Index, Violation};
use crate::{
    audit_log::Record,
    crowding::Limits,
    effects::Effect,
    evidence::{Asked, Evidence, Repeat, Verified},
    history::{Call, CallKey, Change, End, History, Revocation},
    tools::Tool,
};

pub(super) fn key(invocation: &str) -> CallKey {
    CallKey { session: "ses_1".into(), invocation: invocation.into() }
}

pub(super) fn answered(event: &str) -> End {
    End::Answered { event: event.into(), failure: None, faithful: true }
}

pub(super) fn call(invocation: &str, tool: Tool, asked_ms: u64, end: End) -> Call {
    let ended_ms = asked_ms + 5;
    Call { key: key(invocation), tool, begun_ms: asked_ms, asked_ms, ended_ms, attempts: 1, end }
}

pub(super) fn record(event: &str, action: &str, invocation: &str, writer: &str) -> Record {
    Record {
        event: event.into(),
        action: action.into(),
        succeeded: true,
        reason: String::new(),
        key: key(invocation),
        writer: writer.into(),
    }
}

pub(super) fn effect(tool: Tool, invocation: &str, dispatch: &str) -> Effect {
    Effect { tool, key: key(invocation), dispatch: dispatch.into() }
}

/// Three answered calls, one refused after the revocation that returned at 100 ms, one role created.
pub(super) fn faultless() -> Evidence {
    let calls = vec![
        call("c1", Tool::Pay, 10, answered("evt_1")),
        call("c2", Tool::Put, 20, answered("evt_2")),
        call("c3", Tool::Pay, 30, answered("evt_3")),
        call("c4", Tool::Look, 120, End::Refused(ErrorCode::AuthorizationDenied)),
    ];
    let repeat = |invocation: &str, event: &str| Repeat {
        key: key(invocation),
        heard: Asked::Answer { event: event.into(), replayed: true, faithful: true },
    };
    Evidence {
        history: History {
            calls,
            changes: vec![Change { role: "chaos-1".into(), exists: true, at_ms: 40 }],
            revocations: vec![Revocation {
                principal: "prn_1".into(),
                session: "ses_1".into(),
                returned_ms: 100,
            }],
            ..History::default()
        },
        effects: vec![
            effect(Tool::Pay, "c1", "dsp_1"),
            effect(Tool::Put, "c2", "dsp_2"),
            effect(Tool::Put, "c2", "dsp_3"),
            effect(Tool::Pay, "c3", "dsp_4"),
        ],
        records: vec![
            record("evt_i", "tool.intent", "c1", "wri_1"),
            record("evt_1", "tool.invoke", "c1", "wri_1"),
            record("evt_2", "tool.invoke", "c2", "wri_1"),
            record("evt_3", "tool.invoke", "c3", "wri_2"),
            record("evt_a", "tool.answer", "c3", "wri_1"),
        ],
        verified: Verified::Good { events: 5 },
        repeats: vec![repeat("c1", "evt_1"), repeat("c2", "evt_2"), repeat("c3", "evt_3")],
        roles: Some(["chaos-1".to_owned()].into()),
        limits: Limits { sessions: 1, calls_in_flight: 1, calls_per_second: 1 },
        visits: Vec::new(),
    }
}

/// Runs one checker.
pub(super) fn run(check: fn(&Evidence, &Index<'_>) -> Vec<Violation>, evidence: &Evidence) -> Vec<Violation> {
    check(evidence, &Index::new(evidence))
}

#[test]
fn a_faultless_run_violates_nothing() {
    assert_eq!(super::all(&faultless()), []);
}
