use std::sync::Arc;

use aesp_proto::{ConnectionId, Entropy, SessionId, Timestamp, v1::ContractDraft};
use arc_swap::ArcSwap;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::{sync::mpsc, time::Instant};

use super::*;
use crate::{
    actor::Message,
    testing::{dispatch, peer, tenant},
};

struct Idle;

impl Actor for Idle {
    type Msg = Message;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Message>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

async fn link(n: u8, credits: u32) -> Arc<Link> {
    let (actor, _) = Actor::spawn(None, Idle, ()).await.unwrap();
    Arc::new(Link {
        id: ConnectionId::from_bytes([n; 16]),
        actor,
        outgoing: mpsc::unbounded_channel().0,
        backlog: Arc::default(),
        load: 0.into(),
        credits: credits.into(),
        outstanding: 0.into(),
        draining: false.into(),
        leaving: false.into(),
        closed: false.into(),
        streaming: true.into(),
        connected_at: Timestamp(0),
        started: Instant::now(),
        peer: peer(),
        serving: true.into(),
        offered: false.into(),
        identity: std::sync::OnceLock::new(),
        terms: ArcSwap::from_pointee(None),
        offers: ArcSwap::default(),
    })
}

fn offer(session: Option<SessionId>, development: bool) -> Offer {
    Offer { tenant: tenant(1), name: "git_log".into(), version: "1.0.0".into(), session, development }
}

fn added(offer: Offer) -> Change {
    Change { added: vec![offer], removed: Vec::new() }
}

fn removed(offer: Offer) -> Change {
    Change { added: Vec::new(), removed: vec![offer] }
}

fn to(route: &Route) -> Option<ConnectionId> {
    match route {
        Route::To(link) => Some(link.id),
        Route::Full | Route::Nowhere => None,
    }
}

fn routed(table: &Table, call: &Dispatch) -> Route {
    table.route(call, &Entropy::from_seed(1), 2)
}

#[tokio::test]
async fn the_less_loaded_is_chosen_and_the_full_is_not() {
    let table = Table::default();
    let (idle, busy) = (link(1, 4).await, link(2, 4).await);
    for link in [&idle, &busy] {
        table.apply(link, added(offer(None, false)), &[]);
    }
    busy.load.store(3, Ordering::Relaxed);
    assert_eq!(to(&routed(&table, &dispatch(1, 1))), Some(idle.id));
    idle.load.store(5, Ordering::Relaxed);
    assert_eq!(to(&routed(&table, &dispatch(1, 1))), Some(busy.id));
    busy.load.store(6, Ordering::Relaxed);
    idle.load.store(6, Ordering::Relaxed);
    assert!(matches!(routed(&table, &dispatch(1, 1)), Route::Full));
    for link in [&idle, &busy] {
        table.apply(link, removed(offer(None, false)), &[]);
    }
    assert!(matches!(routed(&table, &dispatch(1, 1)), Route::Nowhere));
    assert!(table.tenants.is_empty(), "nothing is left of who left");
}

#[tokio::test]
async fn a_call_goes_only_where_it_belongs() {
    let table = Table::default();
    let call = dispatch(1, 1);
    let other_session = Some(SessionId::from_bytes([1; 16]));
    let (plain, foreign, own) = (link(1, 4).await, link(2, 4).await, link(3, 4).await);
    table.apply(&foreign, added(offer(other_session, true)), &[]);
    assert!(matches!(routed(&table, &call), Route::Nowhere));
    table.apply(&plain, added(offer(None, false)), &[]);
    table.apply(&own, added(offer(Some(call.session), true)), &[]);
    for _ in 0..20 {
        assert_eq!(to(&routed(&table, &call)), Some(plain.id));
        let registered = Dispatch { development: true, ..call.clone() };
        assert_eq!(to(&routed(&table, &registered)), Some(own.id));
        let elsewhere = Dispatch { tenant: tenant(2), ..call.clone() };
        assert!(matches!(routed(&table, &elsewhere), Route::Nowhere));
    }
    plain.streaming.store(false, Ordering::Relaxed);
    assert!(matches!(routed(&table, &Dispatch { streaming: true, ..call.clone() }), Route::Nowhere));
    table.sweep(&plain);
    assert!(matches!(routed(&table, &call), Route::Nowhere));
}

#[tokio::test]
async fn development_tools_are_those_of_the_session_and_leave_with_their_runtime() {
    let table = Table::default();
    let session = SessionId::from_bytes([9; 16]);
    let owner = link(1, 4).await;
    let tool = DevelopmentTool { tenant: tenant(1), session, draft: Arc::new(ContractDraft::default()) };
    table.apply(&owner, added(offer(Some(session), true)), &[tool]);
    assert_eq!(table.development_tools(tenant(1), session).len(), 1);
    assert!(table.development_tools(tenant(2), session).is_empty());
    assert!(table.development_tools(tenant(1), SessionId::from_bytes([1; 16])).is_empty());
    table.apply(&owner, removed(offer(Some(session), true)), &[]);
    assert!(table.development.is_empty());
}

#[tokio::test]
async fn nothing_is_left_of_a_connection_that_crashed() {
    let table = Table::default();
    let session = SessionId::from_bytes([9; 16]);
    let (crashed, other) = (link(1, 4).await, link(2, 4).await);
    let tool = DevelopmentTool { tenant: tenant(1), session, draft: Arc::new(ContractDraft::default()) };
    table.apply(&crashed, added(offer(None, false)), &[tool]);
    table.sweep(&crashed);
    assert!(matches!(routed(&table, &dispatch(1, 1)), Route::Nowhere));
    assert!(table.tenants.is_empty() && table.development.is_empty());
    table.apply(&other, added(offer(None, false)), &[]);
    assert_eq!(to(&routed(&table, &dispatch(1, 1))), Some(other.id));
}
