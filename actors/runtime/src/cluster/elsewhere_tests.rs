use aesp_proto::v1::{Fulfilment, FulfilmentChange, FulfilmentTable};

use super::*;
use crate::testing::{dispatch, tenant};

const A: Incarnation = Incarnation(1);
const B: Incarnation = Incarnation(2);

fn row(runtimes: u32, load: u32) -> Fulfilment {
    Fulfilment {
        tenant_id: tenant(1).as_bytes().to_vec(),
        name: "git_log".to_owned(),
        version: "1.0.0".to_owned(),
        runtimes,
        streaming: runtimes,
        credits: runtimes * 4,
        load,
        ..Fulfilment::default()
    }
}

fn table(rows: Vec<Fulfilment>) -> Tell {
    Tell::Table(FulfilmentTable { version: 1, part: 0, last: true, rows })
}

/// Two peers that fulfil `git_log`.
fn peers(a: Fulfilment, b: Fulfilment) -> Elsewhere {
    let (elsewhere, now) = (Elsewhere::default(), Instant::now());
    for (peer, row) in [(A, a), (B, b)] {
        elsewhere.up(peer);
        assert!(!elsewhere.told(peer, table(vec![row]), now));
    }
    elsewhere
}

fn route(elsewhere: &Elsewhere, call: &Dispatch, wanted: Wanted, tried: &[Incarnation]) -> Whither {
    elsewhere.route(call, wanted, tried, &|_| 0, Instant::now(), &Entropy::from_seed(3))
}

fn to(whither: &Whither) -> Option<Incarnation> {
    match whither {
        Whither::To(place) => Some(place.node),
        Whither::Full | Whither::Nowhere => None,
    }
}

#[test]
fn the_less_loaded_peer_is_chosen_and_the_full_is_not() {
    let call = dispatch(1, 1);
    let elsewhere = peers(row(2, 3), row(1, 3));
    assert_eq!(to(&route(&elsewhere, &call, Wanted::Free, &[])), Some(A), "fewer calls a Runtime");
    assert_eq!(to(&route(&elsewhere, &call, Wanted::Free, &[A])), Some(B));
    assert!(matches!(route(&elsewhere, &call, Wanted::Free, &[A, B]), Whither::Nowhere));
    let full = peers(row(1, 4), row(1, 5));
    assert!(matches!(route(&full, &call, Wanted::Free, &[]), Whither::Full));
    assert_eq!(to(&route(&full, &call, Wanted::Waiting(8), &[])), Some(A));
    assert!(matches!(route(&full, &call, Wanted::Waiting(0), &[]), Whither::Full));
}

#[test]
fn the_nearer_peer_is_chosen_while_it_would_begin_at_once() {
    let call = dispatch(1, 1);
    let near_b = |peer: Incarnation| u8::from(peer != B);
    let chosen = |a, b, wanted| {
        let elsewhere = peers(a, b);
        to(&elsewhere.route(&call, wanted, &[], &near_b, Instant::now(), &Entropy::from_seed(3)))
    };
    assert_eq!(chosen(row(1, 0), row(1, 3), Wanted::Free), Some(B), "near, though it has more to do");
    assert_eq!(chosen(row(1, 0), row(1, 4), Wanted::Free), Some(A), "the near one is full");
    assert_eq!(chosen(row(1, 0), row(1, 4), Wanted::Waiting(8)), Some(A), "far is better than waiting");
    assert_eq!(chosen(row(1, 5), row(1, 6), Wanted::Waiting(8)), Some(B), "where one waits anyway, near");
    let leaving = Fulfilment { leaving: 1, ..row(1, 0) };
    assert_eq!(chosen(row(1, 9), leaving, Wanted::Waiting(9)), Some(A), "far is better than leaving");
}

#[test]
fn calls_of_this_node_count_before_the_peer_tells_of_them() {
    let call = dispatch(1, 1);
    let elsewhere = peers(row(1, 0), row(1, 0));
    let held: Vec<_> = (0..8).map(|_| route(&elsewhere, &call, Wanted::Free, &[])).collect();
    for node in [A, B] {
        assert_eq!(held.iter().filter(|whither| to(whither) == Some(node)).count(), 4, "{node}");
    }
    assert!(matches!(route(&elsewhere, &call, Wanted::Free, &[]), Whither::Full));
    // The peer tells of four, all of them this node's own.
    let change = FulfilmentChange { version: 2, rows: vec![row(1, 4)] };
    elsewhere.told(A, Tell::Change(change), Instant::now());
    drop(held);
    assert!(matches!(route(&elsewhere, &call, Wanted::Free, &[B]), Whither::Full), "until it tells again");
    assert_eq!(to(&route(&elsewhere, &call, Wanted::Free, &[])), Some(B));
}

#[test]
fn a_peer_that_goes_takes_its_table_along() {
    let call = dispatch(1, 1);
    let elsewhere = peers(row(1, 0), row(1, 0));
    elsewhere.down(A);
    assert_eq!(to(&route(&elsewhere, &call, Wanted::Free, &[])), Some(B));
    assert!(!elsewhere.told(A, table(vec![row(1, 0)]), Instant::now()), "nobody asks who has gone");
    elsewhere.down(B);
    assert!(matches!(route(&elsewhere, &call, Wanted::Waiting(9), &[]), Whither::Nowhere));
    elsewhere.up(A);
    assert_eq!(elsewhere.rows(), 0, "it begins anew");
}

#[test]
fn one_that_refuses_is_spared_and_one_that_leaves_comes_last() {
    let call = dispatch(1, 1);
    let elsewhere = peers(row(1, 0), row(1, 2));
    let now = Instant::now();
    let Whither::To(place) = route(&elsewhere, &call, Wanted::Free, &[]) else { panic!("there is room") };
    assert_eq!(place.node, A);
    elsewhere.avoid(&place, now);
    let entropy = Entropy::from_seed(3);
    let at = |later| to(&elsewhere.route(&call, Wanted::Free, &[], &|_| 0, now + later, &entropy));
    drop(place);
    assert_eq!((at(Duration::ZERO), at(AVOID)), (Some(B), Some(A)));

    let leaving = peers(Fulfilment { leaving: 1, ..row(1, 0) }, row(1, 9));
    assert!(matches!(route(&leaving, &call, Wanted::Free, &[]), Whither::Full));
    assert_eq!(to(&route(&leaving, &call, Wanted::Waiting(9), &[])), Some(B));
    assert_eq!(to(&route(&leaving, &call, Wanted::Waiting(9), &[B])), Some(A), "better than nowhere");
}

#[test]
fn a_call_goes_only_where_it_belongs() {
    let call = dispatch(1, 1);
    let own = Fulfilment {
        session_id: call.session.as_bytes().to_vec(),
        development: true,
        draft: Some(ContractDraft::default()),
        ..row(1, 0)
    };
    let elsewhere = peers(own, Fulfilment { streaming: 0, ..row(1, 0) });
    let asked = |call: &Dispatch| to(&route(&elsewhere, call, Wanted::Free, &[]));
    assert_eq!(asked(&call), Some(B));
    assert_eq!(asked(&Dispatch { streaming: true, ..call.clone() }), None);
    assert_eq!(asked(&Dispatch { tenant: tenant(2), ..call.clone() }), None);
    let registered = Dispatch { development: true, ..call.clone() };
    assert_eq!(asked(&registered), Some(A));
    assert_eq!(asked(&Dispatch { session: SessionId::from_bytes([1; 16]), ..registered }), None);
    assert_eq!(elsewhere.development_tools(tenant(1), call.session).len(), 1);
    assert!(elsewhere.development_tools(tenant(2), call.session).is_empty());
    assert_eq!(elsewhere.tools(tenant(1)).len(), 2);
}

#[test]
fn the_whole_table_is_asked_for_once_in_a_while() {
    let (elsewhere, now) = (peers(row(1, 0), row(1, 0)), Instant::now());
    let change = |version| Tell::Change(FulfilmentChange { version, rows: vec![row(2, 0)] });
    assert!(elsewhere.told(A, change(5), now), "versions 2 to 4 are missing");
    assert!(!elsewhere.told(A, change(6), now));
    assert!(elsewhere.told(A, change(7), now + ASK_AGAIN), "the answer was lost as well");
}
