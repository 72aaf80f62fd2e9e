use std::{collections::HashSet, sync::Arc, time::Duration};

use aesp_proto::{
    ConnectionId, DispatchId, ErrorCode, SessionId,
    v1::{
        AnnounceRuntime, CapabilityUpdate, ContractDraft, Credits, DispatchReport, Draining, FulfillStatus,
        Heartbeat, RegisterTools, RegisterToolsResponse, ToolResult, host_frame::Frame as Host,
        runtime_frame::Frame,
    },
};
use bytes::Bytes;
use tokio::time::Instant;

use super::{Effect, Event, Farewell, Limits, PROBE, Phase, State};
use crate::{
    Failure, Lost, LostReason, Options, Update,
    testing::{
        FakeDirectory, announcement, chunk, dispatch, dispatch_id, fulfil, lease, peer, result, tenant,
    },
};

pub(super) fn limits() -> Limits {
    Options { queue_calls: 64, tenant_queue_calls: 32, ..Options::default() }.limits()
}

/// A connection that has announced itself and fulfils `git_log`.
pub(super) fn serving(directory: &Arc<FakeDirectory>, credits: u32, now: Instant) -> State<u64> {
    let mut state = fresh(directory, now);
    state.step(now, Event::Frame(Frame::Announce(announcement(credits))));
    state.step(now, Event::Admitted(Ok(())));
    state.step(now, Event::Frame(Frame::Fulfill(fulfil(&["git_log"]))));
    assert_eq!(state.phase(), Phase::Serving);
    state
}

fn fresh(directory: &Arc<FakeDirectory>, now: Instant) -> State<u64> {
    State::new(ConnectionId::from_bytes([1; 16]), peer(), directory.clone(), lease(), limits(), now)
}

fn closed_with(effects: &[Effect<u64>]) -> Option<ErrorCode> {
    effects.iter().find_map(|effect| match effect {
        Effect::Close(error) => Some(error.code()),
        _ => None,
    })
}

fn frames(effects: Vec<Effect<u64>>) -> Vec<Host> {
    effects
        .into_iter()
        .filter_map(|effect| match effect {
            Effect::Send(frame) => Some(frame),
            _ => None,
        })
        .collect()
}

fn ends(effects: Vec<Effect<u64>>) -> Vec<(DispatchId, Update)> {
    effects
        .into_iter()
        .filter_map(|effect| match effect {
            Effect::End { dispatch, update, .. } => Some((dispatch, update)),
            _ => None,
        })
        .collect()
}

fn lost(sent: bool, reason: LostReason) -> Update {
    Update::Lost(Lost { sent, reason, retry_after: None })
}

fn give(state: &mut State<u64>, now: Instant, n: u64, of: u8) -> Vec<Effect<u64>> {
    state.step(now, Event::Dispatch(Box::new(dispatch(n, of)), n))
}

#[test]
fn an_announcement_is_a_claim() {
    let now = Instant::now();
    let tenant_of = |n: u8| tenant(n).to_string();
    let claims: [(&str, AnnounceRuntime, ErrorCode); 7] = [
        (
            "id",
            AnnounceRuntime { runtime_id: "shell".into(), ..announcement(1) },
            ErrorCode::PermissionDenied,
        ),
        (
            "zone",
            AnnounceRuntime { security_zone: "outer".into(), ..announcement(1) },
            ErrorCode::PermissionDenied,
        ),
        (
            "tenant",
            AnnounceRuntime { tenant_id: tenant_of(9), ..announcement(1) },
            ErrorCode::TenantAccessDenied,
        ),
        ("credits", announcement(0), ErrorCode::InvalidRequest),
        ("more credits", announcement(4097), ErrorCode::InvalidRequest),
        (
            "version",
            AnnounceRuntime { protocol_version: "2.0".into(), ..announcement(1) },
            ErrorCode::InvalidRequest,
        ),
        ("level", AnnounceRuntime { compliance_level: 17, ..announcement(1) }, ErrorCode::InvalidRequest),
    ];
    for (what, claim, code) in claims {
        let mut state = fresh(&FakeDirectory::new(), now);
        let effects = state.step(now, Event::Frame(Frame::Announce(claim)));
        assert_eq!(closed_with(&effects), Some(code), "{what}");
        assert!(
            matches!(effects[..], [Effect::Note(_), Effect::Send(Host::Error(_)), Effect::Close(_)]),
            "{what}"
        );
    }
}

#[test]
fn another_certificate_is_not_the_runtime() {
    let now = Instant::now();
    let directory = FakeDirectory::new();
    directory.change(|inner| {
        inner.registration.as_mut().unwrap().certificate_identity = "spiffe://globex/git".to_owned();
    });
    let mut state = fresh(&directory, now);
    let effects = state.step(now, Event::Frame(Frame::Announce(announcement(1))));
    assert_eq!(closed_with(&effects), Some(ErrorCode::PermissionDenied));
}

#[test]
fn nothing_comes_before_the_announcement() {
    let now = Instant::now();
    let mut state = fresh(&FakeDirectory::new(), now);
    let effects = state.step(now, Event::Frame(Frame::Fulfill(fulfil(&["git_log"]))));
    assert_eq!(closed_with(&effects), Some(ErrorCode::InvalidRequest));

    let mut silent = fresh(&FakeDirectory::new(), now);
    let due = silent.next_wake().unwrap();
    assert_eq!(due, now + Duration::from_secs(10));
    assert_eq!(closed_with(&silent.step(due, Event::Tick)), Some(ErrorCode::DeadlineExceeded));
}

#[test]
fn a_claimed_tenant_is_the_only_one_served() {
    let now = Instant::now();
    let mut state = fresh(&FakeDirectory::new(), now);
    let claim = AnnounceRuntime { tenant_id: tenant(2).to_string(), ..announcement(4) };
    state.step(now, Event::Frame(Frame::Announce(claim)));
    state.step(now, Event::Admitted(Ok(())));
    state.step(now, Event::Frame(Frame::Fulfill(fulfil(&["git_log"]))));
    assert_eq!(ends(give(&mut state, now, 1, 1)), [(dispatch_id(1), lost(false, LostReason::Revoked))]);
    assert!(matches!(frames(give(&mut state, now, 2, 2))[..], [Host::Call(_)]));
}

#[test]
fn tools_are_refused_with_the_reason() {
    let now = Instant::now();
    let directory = FakeDirectory::new();
    directory.change(|inner| {
        inner.retired.insert("git_show".to_owned());
    });
    let mut state = serving(&directory, 1, now);
    let wishes = fulfil(&["git_log@1.0.0", "git_show", "rm_rf", "@"]);
    let answer = frames(state.step(now, Event::Frame(Frame::Fulfill(wishes))));
    let [Host::Fulfilled(answer)] = &answer[..] else { panic!("{answer:?}") };
    assert_eq!(answer.status(), FulfillStatus::FulfillPartialSuccess);
    assert_eq!(answer.fulfilled, ["git_log@1.0.0"]);
    let reasons: Vec<_> =
        answer.rejected.iter().map(|tool| (tool.name.as_str(), tool.reason.as_str())).collect();
    assert_eq!(
        reasons,
        [
            ("git_show", "the contract was retired"),
            ("rm_rf", "the Runtime is not registered for this contract"),
            ("@", "a tool is named \"name\" or \"name@version\""),
        ]
    );
}

#[test]
fn an_offer_without_a_version_follows_the_active_one() {
    let now = Instant::now();
    let directory = FakeDirectory::new();
    let mut state = serving(&directory, 4, now);
    give(&mut state, now, 1, 1);
    directory.change(|inner| inner.active = "2.0.0".to_owned());
    let effects = state.step(now, Event::Recheck);
    assert_eq!(ends(effects), [(dispatch_id(1), lost(true, LostReason::Revoked))]);
    let mut newer = dispatch(2, 1);
    newer.version = "2.0.0".into();
    assert!(matches!(frames(state.step(now, Event::Dispatch(Box::new(newer), 2)))[..], [Host::Call(_)]));
}

#[test]
fn a_retired_contract_stops_what_runs_and_what_waits() {
    let now = Instant::now();
    let directory = FakeDirectory::new();
    let mut state = serving(&directory, 1, now);
    give(&mut state, now, 1, 1);
    give(&mut state, now, 2, 1);
    directory.change(|inner| {
        inner.retired.insert("git_log".to_owned());
    });
    let effects = state.step(now, Event::Recheck);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Send(Host::Cancel(_)))));
    let ended: HashSet<_> =
        ends(effects).into_iter().map(|(id, update)| (id, format!("{update:?}"))).collect();
    let (sent, waiting) = (lost(true, LostReason::Revoked), lost(false, LostReason::Revoked));
    assert_eq!(
        ended,
        HashSet::from([(dispatch_id(1), format!("{sent:?}")), (dispatch_id(2), format!("{waiting:?}"))])
    );
    assert_eq!(ends(give(&mut state, now, 3, 1)), [(dispatch_id(3), lost(false, LostReason::Revoked))]);
}

#[test]
fn a_registration_that_ends_ends_the_connection() {
    let now = Instant::now();
    let directory = FakeDirectory::new();
    let mut state = serving(&directory, 1, now);
    give(&mut state, now, 1, 1);
    directory.change(|inner| inner.registration = None);
    let effects = state.step(now, Event::Recheck);
    assert_eq!(closed_with(&effects), Some(ErrorCode::PermissionDenied));
    assert_eq!(ends(effects), [(dispatch_id(1), lost(true, LostReason::Disconnected))]);
}

#[test]
fn tools_are_registered_in_development_mode_only_and_for_one_session() {
    let now = Instant::now();
    let directory = FakeDirectory::new();
    directory.change(|inner| inner.registration.as_mut().unwrap().tenants = vec![tenant(1)]);
    let mut state = serving(&directory, 4, now);
    let draft = ContractDraft {
        name: "git_log".to_owned(),
        version: "0.1.0".to_owned(),
        parameters_json: b"{}".to_vec(),
        ..ContractDraft::default()
    };
    let session = SessionId::from_bytes([9; 16]);
    let register = |state: &mut State<u64>, session_id: String| -> RegisterToolsResponse {
        let tools = RegisterTools { tools: vec![draft.clone()], session_id, ..RegisterTools::default() };
        match frames(state.step(now, Event::Frame(Frame::Register(tools)))).pop() {
            Some(Host::Registered(answer)) => answer,
            other => panic!("{other:?}"),
        }
    };
    let strict = register(&mut state, session.to_string());
    assert_eq!(strict.status(), FulfillStatus::FulfillFailure);
    assert!(strict.rejected[0].reason.contains("STRICT"));

    directory.change(|inner| inner.development = true);
    assert_eq!(register(&mut state, String::new()).status(), FulfillStatus::FulfillFailure);
    assert_eq!(register(&mut state, session.to_string()).status(), FulfillStatus::FulfillSuccess);
    let mut call = dispatch(1, 1);
    call.version = "0.1.0".into();
    call.development = true;
    let mut elsewhere = call.clone();
    elsewhere.id = dispatch_id(2);
    elsewhere.session = SessionId::from_bytes([8; 16]);
    assert!(matches!(frames(state.step(now, Event::Dispatch(Box::new(call), 1)))[..], [Host::Call(_)]));
    let refused = ends(state.step(now, Event::Dispatch(Box::new(elsewhere), 2)));
    assert_eq!(refused, [(dispatch_id(2), lost(false, LostReason::Revoked))]);

    directory.change(|inner| inner.development = false);
    let effects = state.step(now, Event::Recheck);
    assert_eq!(ends(effects), [(dispatch_id(1), lost(true, LostReason::Revoked))], "back to STRICT");
}

#[test]
fn a_result_ends_its_call_once_and_is_counted_when_it_comes_again() {
    let now = Instant::now();
    let mut state = serving(&FakeDirectory::new(), 1, now);
    give(&mut state, now, 1, 1);
    let good = result(dispatch_id(1), b"1");
    let first = state.step(now, Event::Frame(Frame::Result(good.clone())));
    assert_eq!(ends(first), [(dispatch_id(1), Update::Result(good.clone()))]);
    let again = state.step(now, Event::Frame(Frame::Result(good)));
    assert!(matches!(again[..], [Effect::Count(super::Count::Duplicate)]));
    let unknown = state.step(now, Event::Frame(Frame::Result(result(dispatch_id(5), b"1"))));
    assert!(matches!(unknown[..], [Effect::Late(..)]));
}

#[test]
fn results_that_cannot_be_used_fail_with_the_reason() {
    let now = Instant::now();
    let mut state = serving(&FakeDirectory::new(), 8, now);
    let large = result(dispatch_id(0), &vec![b'1'; (1 << 20) + 1]);
    let mut no_status = result(dispatch_id(1), b"1");
    no_status.result.as_mut().unwrap().status = 99;
    let empty = ToolResult { result: None, ..result(dispatch_id(2), b"") };
    let expected = [Failure::TooLarge { limit_bytes: 1 << 20 }, Failure::Malformed, Failure::Malformed];
    for (n, (wrong, failure)) in (0..).zip([large, no_status, empty].into_iter().zip(expected)) {
        give(&mut state, now, n, 1);
        let effects = state.step(now, Event::Frame(Frame::Result(wrong)));
        assert_eq!(ends(effects), [(dispatch_id(n), Update::Failed(failure))]);
    }
    assert_eq!(state.calls().outstanding(), 0, "each returned its credit");
}

#[test]
fn chunks_come_in_order_or_the_stream_fails() {
    let now = Instant::now();
    let mut state = serving(&FakeDirectory::new(), 8, now);
    for n in 1..=3 {
        let mut call = dispatch(n, 1);
        call.streaming = n != 3;
        state.step(now, Event::Dispatch(Box::new(call), n));
    }
    let mut chunked = |n: u64, number, is_final| {
        state.step(now, Event::Frame(Frame::Chunk(chunk(dispatch_id(n), number, is_final))))
    };
    assert!(matches!(chunked(1, 0, false)[..], [Effect::Chunk(..)]));
    let last = ends(chunked(1, 1, true));
    assert_eq!(last, [(dispatch_id(1), Update::Chunk(chunk(dispatch_id(1), 1, true)))]);
    let gap = ends(chunked(2, 1, false));
    assert_eq!(gap, [(dispatch_id(2), Update::Failed(Failure::ChunkOrder { expected: 0, got: 1 }))]);
    assert!(ends(chunked(2, 0, false)).is_empty(), "what follows is of no use");
    assert_eq!(ends(chunked(3, 0, false)), [(dispatch_id(3), Update::Failed(Failure::NotStreaming))]);
    assert_eq!(
        state.calls().outstanding(),
        2,
        "failed streams keep their credit until the runtime ends them"
    );
    state.step(now, Event::Frame(Frame::Result(result(dispatch_id(2), b"1"))));
    assert_eq!(state.calls().outstanding(), 1);
}

#[test]
fn an_overdue_call_is_cancelled_and_reported() {
    let now = Instant::now();
    let mut state = serving(&FakeDirectory::new(), 1, now);
    for n in 1..=2 {
        let mut call = dispatch(n, 1);
        call.deadline = now + Duration::from_secs(n);
        state.step(now, Event::Dispatch(Box::new(call), n));
    }
    assert_eq!(state.next_wake(), Some(now + Duration::from_secs(1)));
    let effects = state.step(now + Duration::from_secs(2), Event::Tick);
    assert_eq!(effects.iter().filter(|effect| matches!(effect, Effect::Send(Host::Cancel(_)))).count(), 1);
    let (sent, waiting) =
        (lost(true, LostReason::DeadlineExceeded), lost(false, LostReason::DeadlineExceeded));
    assert_eq!(ends(effects), [(dispatch_id(1), sent), (dispatch_id(2), waiting)]);
    let late = state.step(now, Event::Frame(Frame::Result(result(dispatch_id(1), b"1"))));
    assert!(matches!(late[..], [Effect::Late(..)]), "its result may settle the call");
}

#[test]
fn a_draining_runtime_gets_nothing_new_and_finishes_what_it_has() {
    let now = Instant::now();
    let mut state = serving(&FakeDirectory::new(), 1, now);
    give(&mut state, now, 1, 1);
    give(&mut state, now, 2, 1);
    let effects = state.step(now, Event::Frame(Frame::Draining(Draining::default())));
    assert_eq!(ends(effects), [(dispatch_id(2), lost(false, LostReason::Draining))]);
    assert_eq!(ends(give(&mut state, now, 3, 1)), [(dispatch_id(3), lost(false, LostReason::Draining))]);
    let done = state.step(now, Event::Frame(Frame::Result(result(dispatch_id(1), b"1"))));
    assert!(matches!(ends(done)[..], [(_, Update::Result(_))]));

    let effects = state.step(now, Event::Drain(farewell(true)));
    assert!(matches!(frames(effects)[..], [Host::GoAway(_)]));
    let until = now + Duration::from_secs(2);
    assert_eq!(closed_with(&state.step(until, Event::Tick)), Some(ErrorCode::ServiceUnavailable));
}

fn farewell(serve: bool) -> Farewell {
    Farewell { reason: "shutdown".to_owned(), grace: Duration::from_secs(2), serve }
}

#[test]
fn one_that_is_asked_to_leave_serves_until_it_drains_or_half_the_grace_is_over() {
    let now = Instant::now();
    let second = Duration::from_secs(1);
    let mut state = serving(&FakeDirectory::new(), 1, now);
    give(&mut state, now, 1, 1);
    assert!(matches!(frames(state.step(now, Event::Drain(farewell(true))))[..], [Host::GoAway(_)]));
    assert!(state.is_leaving() && state.phase() == Phase::Serving);
    assert!(ends(give(&mut state, now, 2, 1)).is_empty(), "it may wait for a credit still");
    assert_eq!(state.next_wake(), Some(now + second));
    let half = state.step(now + second, Event::Tick);
    assert!(half.iter().any(|effect| matches!(effect, Effect::Offers(_))));
    assert_eq!(ends(half), [(dispatch_id(2), lost(false, LostReason::Draining))]);
    let done = state.step(now + second, Event::Frame(Frame::Result(result(dispatch_id(1), b"1"))));
    assert!(matches!(ends(done)[..], [(_, Update::Result(_))]), "what it has is finished");
    assert_eq!(closed_with(&state.step(now + second * 2, Event::Tick)), Some(ErrorCode::ServiceUnavailable));

    let mut older = serving(&FakeDirectory::new(), 1, now);
    let effects = older.step(now, Event::Drain(farewell(false)));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Offers(_))), "it gets nothing more");
    assert_eq!(ends(give(&mut older, now, 1, 1)), [(dispatch_id(1), lost(false, LostReason::Draining))]);
}

#[test]
fn nothing_is_sent_on_an_old_permit_or_without_a_lease() {
    let now = Instant::now();
    let directory = FakeDirectory::new();
    let mut state = serving(&directory, 1, now);
    give(&mut state, now, 1, 1);
    give(&mut state, now, 2, 1);
    directory.change(|inner| inner.rights.tenant.0 = 1);
    assert_eq!(ends(give(&mut state, now, 3, 1)), [(dispatch_id(3), lost(false, LostReason::Stale))]);
    let done = state.step(now, Event::Frame(Frame::Result(result(dispatch_id(1), b"1"))));
    let waited = (dispatch_id(2), lost(false, LostReason::Stale));
    assert!(ends(done).contains(&waited), "what waited is looked at when its turn comes");
    let mut renewed = dispatch(4, 1);
    renewed.rights.tenant.0 = 2;
    let sent = frames(state.step(now, Event::Dispatch(Box::new(renewed), 4)));
    assert!(matches!(sent[..], [Host::Call(_)]), "a permit may be newer than what this node knows");

    let left = Arc::new(std::sync::atomic::AtomicU64::new(1));
    let lease = Arc::clone(&left);
    let lease: crate::RemainingLease =
        Arc::new(move || Duration::from_secs(lease.load(std::sync::atomic::Ordering::SeqCst)));
    let id = ConnectionId::from_bytes([1; 16]);
    let mut state = State::new(id, peer(), FakeDirectory::new(), lease, limits(), now);
    state.step(now, Event::Frame(Frame::Announce(announcement(1))));
    state.step(now, Event::Admitted(Ok(())));
    state.step(now, Event::Frame(Frame::Fulfill(fulfil(&["git_log"]))));
    give(&mut state, now, 1, 1);
    give(&mut state, now, 2, 1);
    left.store(0, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(ends(give(&mut state, now, 3, 1)), [(dispatch_id(3), lost(false, LostReason::NoLease))]);
    let done = state.step(now, Event::Frame(Frame::Result(result(dispatch_id(1), b"1"))));
    assert!(ends(done).contains(&(dispatch_id(2), lost(false, LostReason::NoLease))));
}

#[test]
fn silence_is_asked_about_and_then_given_up() {
    let now = Instant::now();
    let mut state = serving(&FakeDirectory::new(), 1, now);
    give(&mut state, now, 1, 1);
    let second = Duration::from_secs(1);
    for asked in 1..=2 {
        assert_eq!(state.next_wake(), Some(now + second * 5 * asked));
        let asking = frames(state.step(now + second * 5 * asked, Event::Tick));
        assert!(matches!(asking[..], [Host::Heartbeat(_)]), "{asking:?}");
    }
    let effects = state.step(now + second * 15, Event::Tick);
    assert_eq!(closed_with(&effects), Some(ErrorCode::DeadlineExceeded));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Open(id) if *id == dispatch_id(1))));
}

#[test]
fn heartbeats_are_answered_but_not_their_answers() {
    let now = Instant::now();
    let mut state = serving(&FakeDirectory::new(), 1, now);
    let beat = Heartbeat { sequence: 3, sent_at_ms: 17 };
    assert_eq!(frames(state.step(now, Event::Frame(Frame::Heartbeat(beat)))), [Host::Heartbeat(beat)]);
    let answer = Heartbeat { sequence: PROBE | 1, sent_at_ms: 0 };
    assert!(state.step(now, Event::Frame(Frame::Heartbeat(answer))).is_empty());
}

#[test]
fn a_flood_of_garbage_closes_the_connection() {
    let now = Instant::now();
    let mut state = serving(&FakeDirectory::new(), 1, now);
    let rubbish = [
        Event::Garbage,
        Event::Frame(Frame::Credits(Credits { add: 0 })),
        Event::Frame(Frame::Announce(announcement(1))),
        Event::Frame(Frame::Result(ToolResult { dispatch_id: vec![1, 2], ..ToolResult::default() })),
        Event::Frame(Frame::Report(DispatchReport { seen: vec![vec![0; 17]], ..DispatchReport::default() })),
    ];
    let kinds = rubbish.len();
    for event in rubbish {
        assert_eq!(closed_with(&state.step(now, event)), None, "one is told and forgiven");
    }
    let closed = (kinds..1000).find(|_| closed_with(&state.step(now, Event::Garbage)).is_some());
    assert_eq!(closed, Some(99), "a hundred are not");
    assert!(state.step(now, Event::Garbage).is_empty());
}

#[test]
fn withdrawn_tools_leave_at_once() {
    let now = Instant::now();
    let mut state = serving(&FakeDirectory::new(), 2, now);
    let update =
        CapabilityUpdate { withdrawn_tools: vec!["git_log".to_owned()], ..CapabilityUpdate::default() };
    let effects = state.step(now, Event::Frame(Frame::CapabilityUpdate(update)));
    assert!(
        matches!(&effects[..], [Effect::Offers(change)] if change.removed.len() == 4 && change.added.is_empty())
    );
    assert_eq!(ends(give(&mut state, now, 1, 1)), [(dispatch_id(1), lost(false, LostReason::Revoked))]);
}

#[test]
fn an_update_holds_from_its_time_on() {
    let now = Instant::now();
    let mut state = serving(&FakeDirectory::new(), 2, now);
    let update =
        CapabilityUpdate { withdrawn_tools: vec!["git_log".to_owned()], ..CapabilityUpdate::default() };
    let at = now + Duration::from_secs(3);
    assert!(state.step(now, Event::Planned(at, update)).is_empty(), "it holds already");
    assert!(ends(give(&mut state, now, 1, 1)).is_empty(), "the tool has left before its time");
    assert!(state.next_wake().is_some_and(|wake| wake <= at), "nobody wakes it");
    let effects = state.step(at, Event::Tick);
    let left =
        effects.iter().any(|effect| matches!(effect, Effect::Offers(change) if !change.removed.is_empty()));
    assert!(left, "{effects:?}");
    assert_eq!(ends(give(&mut state, at, 2, 1)), [(dispatch_id(2), lost(false, LostReason::Revoked))]);
}

#[test]
fn planned_updates_are_bounded() {
    let now = Instant::now();
    let mut state = serving(&FakeDirectory::new(), 2, now);
    let plan = |state: &mut State<u64>| {
        let at = now + Duration::from_secs(60);
        state.step(now, Event::Planned(at, CapabilityUpdate::default()))
    };
    let refused = (0..65).any(|_| {
        plan(&mut state).iter().any(|effect| matches!(effect, Effect::Count(super::Count::Violation)))
    });
    assert!(refused, "any number of updates may wait");
}

#[test]
fn a_full_queue_refuses_with_the_time_to_wait() {
    let now = Instant::now();
    let mut state = serving(&FakeDirectory::new(), 1, now);
    for n in 0..33 {
        assert!(ends(give(&mut state, now, n, 1)).is_empty());
    }
    let refused = ends(give(&mut state, now, 99, 1));
    let [(_, Update::Lost(Lost { sent: false, reason: LostReason::Overloaded, retry_after: Some(_) }))] =
        refused[..]
    else {
        panic!("{refused:?}")
    };
    assert!(ends(give(&mut state, now, 100, 2)).is_empty(), "another tenant has places of its own");
}

#[test]
fn a_call_says_what_the_runtime_needs() {
    let now = Instant::now();
    let mut state = serving(&FakeDirectory::new(), 1, now);
    let mut call = dispatch(1, 3);
    call.deadline = now + Duration::from_millis(1500);
    call.depth = 2;
    call.args = Bytes::from_static(b"{\"max_count\":3}");
    let sent = frames(state.step(now, Event::Dispatch(Box::new(call), 1)));
    let [Host::Call(frame)] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!(frame.dispatch_id, dispatch_id(1).as_bytes());
    assert_eq!((frame.deadline_ms, frame.depth), (1500, 2));
    assert_eq!(frame.tenant_id, tenant(3).to_string());
    let function = frame.call.as_ref().unwrap();
    assert_eq!((function.name.as_str(), function.version.as_str()), ("git_log", "1.0.0"));
    assert_eq!(&function.args_json[..], b"{\"max_count\":3}");
}
