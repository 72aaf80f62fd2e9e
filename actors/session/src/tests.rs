use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use aesp_audit::Recorder;
use aesp_cluster::{Held, Ownership, Shard};
use aesp_proto::{
    Entropy, ErrorCode, Incarnation, ManualClock, PrincipalId, SessionId, ShardId, TenantId, Timestamp,
    v1::SessionStatus,
};
use aesp_storage::{Store, shard_of};
use aesp_supervision::Supervisor;
use aesp_tenant::{NewTenant, Quotas, Snapshot, Tenants};
use futures::FutureExt as _;
use prometheus::Registry;

use crate::{
    Begin, Context, Depth, Error, Metrics, NewSession, Options, Origin, Outcome, OutcomeRow, OutcomeState,
    Payload, Running, Scope, SessionInfo, Sessions, Settled,
    end::Ending,
    read_outcome, resolve,
    rows::{Due, Status},
    write_intent, write_outcome,
};

const ALICE: PrincipalId = PrincipalId::from_bytes([1; 16]);
const MALLORY: PrincipalId = PrincipalId::from_bytes([2; 16]);
const START: Timestamp = Timestamp(1_000_000);

/// A node with one tenant.
struct Node {
    store: Store,
    clock: Arc<ManualClock>,
    tenants: Tenants,
    sessions: Sessions,
    shards: Ownership,
    tenant: TenantId,
}

impl Node {
    async fn new() -> Self {
        let store = Store::for_tests();
        let quotas = Quotas { sessions: 5, ..Quotas::default() };
        let id = TenantId::from_bytes([7; 16]);
        let run = store.run(move |tx| {
            Box::pin(async move {
                let (name, display_name) = ("acme".into(), String::new());
                let new = NewTenant { id, name, display_name, quotas, metadata: BTreeMap::new() };
                aesp_tenant::create(tx, new, START).await
            })
        });
        run.await.unwrap();
        Self::on(store, Arc::new(ManualClock::new(START))).await
    }

    /// Starts a node on a store that there is, as after a restart.
    async fn on(store: Store, clock: Arc<ManualClock>) -> Self {
        let registry = Registry::new();
        let supervision = aesp_supervision::Metrics::new(&registry).unwrap();
        let supervisor = Supervisor::root("test", supervision).await.unwrap();
        let entropy = Entropy::from_system();
        let started =
            Recorder::start(store.clone(), clock.clone(), entropy.clone(), Default::default()).await;
        let (recorder, _duty) = started.unwrap();
        let claim = store.run(|tx| Box::pin(async move { tx.claim_shards(1).await }));
        let shards = Ownership::all(Incarnation(1), &claim.await.unwrap());
        let wiring = aesp_tenant::Wiring {
            store: store.clone(),
            shards: shards.clone(),
            living: Arc::new(|| BTreeSet::from([Incarnation(1)])),
            supervisor: supervisor.clone(),
            metrics: aesp_tenant::Metrics::new(&registry).unwrap(),
        };
        let tenants = Tenants::start(wiring).await.unwrap();
        let metrics = Metrics::new(&registry).unwrap();
        let context = Context {
            store: store.clone(),
            recorder,
            tenants: tenants.clone(),
            clock: clock.clone(),
            entropy,
            shards: shards.clone(),
            supervisor,
            metrics,
        };
        let options = Options { sweep_every: Duration::from_millis(10), ..Options::default() };
        let sessions = Sessions::start(context, options).await.unwrap();
        Self { store, clock, tenants, sessions, shards, tenant: TenantId::from_bytes([7; 16]) }
    }

    async fn snapshot(&self) -> Snapshot {
        let tenant = self.tenant;
        self.store.run(move |tx| Box::pin(Snapshot::load(tx, tenant))).await.unwrap()
    }

    async fn try_create(&self, ttl_seconds: u64) -> Result<SessionInfo, Error> {
        let ttl = Some(Duration::from_secs(ttl_seconds));
        let new = NewSession { principal: ALICE, suggested: None, metadata: BTreeMap::new(), ttl };
        self.sessions.create(&self.snapshot().await, new, Origin::default()).await
    }

    async fn create(&self, ttl_seconds: u64) -> SessionId {
        self.try_create(ttl_seconds).await.unwrap().id
    }

    async fn begin(&self, session: SessionId, invocation: &str, digest: u8) -> Result<Begin, Error> {
        self.sessions.begin(self.tenant, session, ALICE, invocation, [digest; 32], Depth::Outermost).await
    }

    async fn run(&self, session: SessionId, invocation: &str) -> Running {
        match self.begin(session, invocation, 1).await.unwrap() {
            Begin::New(running) => running,
            Begin::Join(_) => panic!("somebody runs it"),
        }
    }

    /// Changes what this node may do with the session's shard.
    fn hold(&self, session: SessionId, held: Held) -> ShardId {
        let shard = shard_of(session.as_bytes());
        let mut shards = self.shards.shards().to_vec();
        shards[usize::from(shard.0)].held = held;
        self.shards.replace(shards.into());
        shard
    }

    async fn in_use(&self) -> u32 {
        self.tenants.usage(self.tenant).await.unwrap().sessions
    }

    async fn status(&self, session: SessionId) -> Option<SessionStatus> {
        self.sessions.find(self.tenant, session).await.unwrap().map(|info| info.status)
    }

    /// Counts the records of one action.
    async fn recorded(&self, action: &str) -> usize {
        let query = aesp_audit::Query::new(self.tenant);
        let page = aesp_audit::query(&self.store, &query).await.unwrap();
        page.events.iter().filter(|event| event.action == action).count()
    }
}

/// Waits until the condition holds.
macro_rules! eventually {
    ($condition:expr) => {
        tokio::time::timeout(Duration::from_secs(20), async {
            while !$condition {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await
        .expect(stringify!($condition))
    };
}

mod clock;

#[tokio::test]
async fn a_session_is_its_principals_and_its_tenants_only() {
    let node = Node::new().await;
    let session = node.create(60).await;
    let stranger = node.sessions.begin(node.tenant, session, MALLORY, "a", [1; 32], Depth::Outermost).await;
    assert_eq!(stranger.unwrap_err().code(), ErrorCode::SessionInvalid);
    let elsewhere = TenantId::from_bytes([8; 16]);
    assert!(node.sessions.get(elsewhere, session, Depth::Outermost).await.is_err());
    assert!(node.sessions.begin(elsewhere, session, ALICE, "a", [1; 32], Depth::Outermost).await.is_err());
    assert_eq!(node.sessions.get(node.tenant, session, Depth::Outermost).await.unwrap().principal, ALICE);
    node.run(session, "a").await.finish();
}

#[tokio::test]
async fn the_same_call_is_joined_and_another_under_its_id_is_refused() {
    let node = Node::new().await;
    let session = node.create(60).await;
    let running = node.run(session, "a").await;
    assert!(matches!(node.begin(session, "a", 2).await, Err(Error::OtherArguments)));
    let Begin::Join(joined) = node.begin(session, "a", 1).await.unwrap() else { panic!("runs twice") };
    let ended = tokio::spawn(joined.ended());
    assert_eq!(node.sessions.get(node.tenant, session, Depth::Outermost).await.unwrap().calls_in_flight, 1);
    let cancelled = running.cancellation();
    running.finish();
    tokio::time::timeout(Duration::from_secs(5), ended).await.expect("is told").unwrap();
    assert!(!cancelled.is_cancelled());
    node.run(session, "a").await.finish();
}

#[tokio::test]
async fn a_caller_who_leaves_before_the_answer_leaves_no_running_call_behind() {
    let node = Node::new().await;
    let session = node.create(60).await;
    node.run(session, "warm").await.finish();
    // Before the actor has seen the request, and after it has answered into the void.
    for yields in [0, 100] {
        let mut begin = Box::pin(node.begin(session, "a", 1));
        assert!(futures::poll!(&mut begin).is_pending(), "the actor answered at once");
        for _ in 0..yields {
            tokio::task::yield_now().await;
        }
        drop(begin);
        eventually!(matches!(node.begin(session, "a", 1).await, Ok(Begin::New(_))));
    }
    eventually!(
        node.sessions.get(node.tenant, session, Depth::Outermost).await.unwrap().calls_in_flight == 0
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_callers_one_runs_an_invocation_id() {
    let node = Arc::new(Node::new().await);
    let session = node.create(60).await;
    for round in 0..20 {
        let tasks: Vec<_> = (0..32)
            .map(|_| {
                let node = node.clone();
                tokio::spawn(async move { node.begin(session, &format!("call-{round}"), 1).await.unwrap() })
            })
            .collect();
        let mut begun = Vec::new();
        for task in tasks {
            begun.push(task.await.unwrap());
        }
        assert_eq!(begun.iter().filter(|begin| matches!(begin, Begin::New(_))).count(), 1);
    }
}

#[tokio::test]
async fn a_destroy_waits_for_calls_unless_it_is_forced() {
    let node = Node::new().await;
    let session = node.create(60).await;
    let running = node.run(session, "a").await;
    let refused = node.sessions.destroy(node.tenant, session, false, Origin::default()).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::StateConflict);
    assert!(!running.cancellation().is_cancelled());
    assert_eq!(node.sessions.destroy(node.tenant, session, true, Origin::default()).await.unwrap(), 1);
    tokio::time::timeout(Duration::from_secs(5), running.cancellation().cancelled())
        .await
        .expect("cancelled");
    assert!(node.begin(session, "b", 1).await.is_err());
    assert!(node.sessions.get(node.tenant, session, Depth::Outermost).await.is_err());
    assert_eq!(node.status(session).await, Some(SessionStatus::Destroyed));
    assert_eq!((node.recorded("session.create").await, node.recorded("session.destroy").await), (1, 1));
    assert_eq!(node.in_use().await, 0);
    let twice = node.sessions.destroy(node.tenant, session, true, Origin::default()).await;
    assert!(matches!(twice, Err(Error::Invalid)));
    assert_eq!(node.in_use().await, 0);
}

#[tokio::test]
async fn one_call_can_be_cancelled() {
    let node = Node::new().await;
    let session = node.create(60).await;
    let (first, second) = (node.run(session, "a").await, node.run(session, "b").await);
    assert!(node.sessions.cancel(node.tenant, session, "a").await.unwrap());
    assert!(first.cancellation().is_cancelled() && !second.cancellation().is_cancelled());
    first.finish();
    eventually!(!node.sessions.cancel(node.tenant, session, "a").await.unwrap());
}

#[tokio::test]
async fn an_expired_session_refuses_at_once_and_its_place_is_freed() {
    let node = Node::new().await;
    let session = node.create(60).await;
    let running = node.run(session, "a").await;
    node.clock.advance(Duration::from_secs(60));
    assert!(node.begin(session, "b", 1).await.is_err());
    assert!(node.sessions.get(node.tenant, session, Depth::Outermost).await.is_err());
    assert!(node.sessions.renew(node.tenant, session, Origin::default()).await.is_err());
    tokio::time::timeout(Duration::from_secs(5), running.cancellation().cancelled())
        .await
        .expect("cancelled");
    eventually!(node.recorded("session.expire").await == 1);
    assert_eq!(node.status(session).await, Some(SessionStatus::Expired));
    eventually!(node.in_use().await == 0);
}

#[tokio::test]
async fn a_renewed_session_lives_its_time_again_but_not_beyond_the_longest() {
    let node = Node::new().await;
    let tenant = node.tenant;
    let set = node.store.run(move |tx| {
        let key = "sessions.max_lifetime_seconds";
        Box::pin(async move { aesp_tenant::config_set(tx, tenant, key, "100", 0, (ALICE, START, "")).await })
    });
    set.await.unwrap();
    let session = node.create(60).await;
    node.run(session, "a").await.finish();
    node.clock.advance(Duration::from_secs(30));
    let renewed = node.sessions.renew(tenant, session, Origin::default()).await.unwrap();
    assert_eq!(renewed.expires_at, START.plus(Duration::from_secs(90)));
    node.clock.advance(Duration::from_secs(40));
    // Past its first expiry; the actor in memory knows of the renewal.
    node.run(session, "b").await.finish();
    let renewed = node.sessions.renew(tenant, session, Origin::default()).await.unwrap();
    assert_eq!(renewed.expires_at, START.plus(Duration::from_secs(100)));
    node.clock.advance(Duration::from_secs(30));
    assert!(node.sessions.renew(tenant, session, Origin::default()).await.is_err());
    assert_eq!(node.recorded("session.renew").await, 2);
}

#[tokio::test]
async fn an_idle_session_leaves_memory_and_comes_back() {
    let node = Node::new().await;
    let session = node.create(3_600).await;
    let busy = node.create(3_600).await;
    node.run(session, "a").await.finish();
    let running = node.run(busy, "a").await;
    assert_eq!(node.sessions.0.live.len(), 2);
    node.clock.advance(Duration::from_secs(61));
    eventually!(node.sessions.0.live.len() == 1);
    assert!(node.sessions.0.live.cell((node.tenant, busy)).is_some(), "a running call keeps its session");
    node.run(session, "a").await.finish();
    drop(running);
}

#[tokio::test]
async fn a_session_that_is_not_there_costs_no_memory() {
    let node = Node::new().await;
    for seed in 0..100 {
        let nobodys = SessionId::random(&Entropy::from_seed(seed));
        assert!(node.sessions.get(node.tenant, nobodys, Depth::Outermost).await.is_err());
    }
    assert_eq!(node.sessions.0.live.len(), 0);
}

#[tokio::test]
async fn the_quota_counts_what_a_restarted_node_finds() {
    let node = Node::new().await;
    for _ in 0..4 {
        node.create(3_600).await;
    }
    let ended = node.create(3_600).await;
    assert!(matches!(node.try_create(60).await, Err(Error::Tenant(_))));
    node.sessions.destroy(node.tenant, ended, false, Origin::default()).await.unwrap();

    let node = Node::on(node.store.clone(), node.clock.clone()).await;
    let fifth = node.create(60).await;
    let refused = node.try_create(60).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::QuotaExceeded);
    assert_eq!(node.in_use().await, 5);
    node.sessions.destroy(node.tenant, fifth, false, Origin::default()).await.unwrap();
    node.create(60).await;
}

#[tokio::test]
async fn an_older_owner_of_the_shard_can_write_nothing() {
    let old = Node::new().await;
    let session = old.create(3_600).await;
    let running = old.run(session, "a").await;
    let new = Node::on(old.store.clone(), old.clock.clone()).await;
    assert!(old.try_create(60).await.is_err());
    assert!(old.sessions.renew(old.tenant, session, Origin::default()).await.is_err());
    assert!(old.sessions.destroy(old.tenant, session, true, Origin::default()).await.is_err());
    let (tenant, fence) = (old.tenant, running.fence());
    let write = old
        .store
        .run(move |tx| Box::pin(async move { write_outcome(tx, fence, tenant, session, &row("a")).await }));
    assert!(matches!(write.await, Err(Error::Store(aesp_storage::Error::Fenced { .. }))));
    new.run(session, "a").await.finish();
    // The refused end left the session as it was.
    assert_eq!(new.status(session).await, Some(SessionStatus::Active));
}

#[tokio::test]
async fn ending_a_principals_sessions_cancels_and_spares_the_others() {
    let node = Node::new().await;
    let session = node.create(3_600).await;
    let running = node.run(session, "a").await;
    let new = NewSession { principal: MALLORY, suggested: None, metadata: BTreeMap::new(), ttl: None };
    let others = node.sessions.create(&node.snapshot().await, new, Origin::default()).await.unwrap().id;
    let scope = Scope::Principal(node.tenant, ALICE);
    assert_eq!(node.sessions.end_all(scope, "revoked", Origin::default()).await.unwrap(), 1);
    assert!(node.begin(session, "b", 1).await.is_err());
    tokio::time::timeout(Duration::from_secs(5), running.cancellation().cancelled())
        .await
        .expect("cancelled");
    assert_eq!(node.status(others).await, Some(SessionStatus::Active));
    let (listed, next) = node.sessions.list(node.tenant, Some(MALLORY), None, 10).await.unwrap();
    assert_eq!((listed.len(), listed[0].id, next), (1, others, None));
    assert_eq!(node.sessions.end_all(Scope::Tenant(node.tenant), "", Origin::default()).await.unwrap(), 1);
    assert_eq!(node.in_use().await, 0);
}

#[tokio::test]
async fn a_suggested_id_is_taken_once_and_rights_that_changed_start_nothing() {
    let node = Node::new().await;
    let snapshot = node.snapshot().await;
    let suggested = Some(SessionId::from_bytes([5; 16]));
    let new = NewSession { principal: ALICE, suggested, metadata: BTreeMap::new(), ttl: None };
    let first = node.sessions.create(&snapshot, new.clone(), Origin::default()).await.unwrap();
    let second = node.sessions.create(&snapshot, new.clone(), Origin::default()).await.unwrap();
    assert!(Some(first.id) == suggested && Some(second.id) != suggested);
    let tenant = node.tenant;
    node.store.run(move |tx| Box::pin(aesp_tenant::suspend(tx, tenant, ""))).await.unwrap();
    let stale = node.sessions.create(&snapshot, new, Origin::default()).await;
    assert!(matches!(stale, Err(Error::RightsChanged)));
    assert_eq!(node.in_use().await, 2, "the refused one left its place");
    assert!(node.try_create(0).await.is_err());
}

fn row(invocation: &str) -> OutcomeRow {
    OutcomeRow {
        invocation: invocation.into(),
        tool: "tool".into(),
        version: "1.0.0".into(),
        arguments_digest: [1; 32],
        state: OutcomeState::Intended,
        dispatch: None,
        permitted_until: None,
        written_at: START,
        keep_until: START,
    }
}

#[tokio::test]
async fn an_outcome_goes_from_intent_to_an_end_once_and_is_purged_a_day_after_its_session() {
    let node = Node::new().await;
    let session = node.create(3_600).await;
    let running = node.run(session, "a").await;
    let (tenant, fence) = (node.tenant, running.fence());
    let intend = || {
        node.store.run(move |tx| {
            Box::pin(async move { write_intent(tx, fence, tenant, session, &row("a"), true).await })
        })
    };
    assert_eq!(intend().await.unwrap(), None);
    let settle = || {
        node.store.run(move |tx| {
            let outcome = Outcome { settled: Settled::Succeeded, ..Outcome::default() };
            Box::pin(async move { resolve(tx, fence, (tenant, session), "a", outcome, START).await })
        })
    };
    assert!(matches!(settle().await.unwrap().state, OutcomeState::Resolved(_)));
    assert!(matches!(settle().await, Err(Error::NotOpen)));
    let stands = intend().await.unwrap().expect("an outcome stands in the way");
    assert!(matches!(stands.state, OutcomeState::Resolved(_)));
    let payload = Payload::of(vec![b'x'; 300_000].into());
    let recorded = OutcomeRow {
        state: OutcomeState::Recorded(Outcome { settled: Settled::Succeeded, payload, event: None }),
        ..row("b")
    };
    let written = recorded.clone();
    let write = node.store.run(move |tx| {
        let written = written.clone();
        Box::pin(async move { write_outcome(tx, fence, tenant, session, &written).await })
    });
    write.await.unwrap();
    let read = || node.store.run(move |tx| Box::pin(read_outcome(tx, tenant, session, "b")));
    assert_eq!(read().await.unwrap(), Some(recorded));
    running.finish();
    node.sessions.destroy(tenant, session, true, Origin::default()).await.unwrap();
    node.clock.advance(Duration::from_secs(24 * 3_600 - 1));
    assert!(read().await.unwrap().is_some());
    node.clock.advance(Duration::from_secs(1));
    eventually!(node.status(session).await.is_none());
    assert_eq!(read().await.unwrap(), None);
    assert!(node.sessions.due(tenant, &Due::PURGES, None, 10).await.unwrap().is_empty());
}

#[test]
fn an_answer_above_a_mebibyte_is_kept_as_its_digest() {
    assert!(Payload::of(vec![0; 1 << 20].into()).kept().is_some());
    assert!(matches!(
        Payload::of(vec![0; (1 << 20) + 1].into()),
        Payload::Digest { size_bytes: 1_048_577, .. }
    ));
}

/// Prints what beginning and finishing a call costs; run optimised and with `--no-capture`.
#[tokio::test]
async fn a_call_begins_and_finishes_within_microseconds() {
    let node = Node::new().await;
    let session = node.create(3_600).await;
    const CALLS: u32 = 20_000;
    let start = tokio::time::Instant::now();
    for _ in 0..CALLS {
        node.run(session, "a").await.finish();
    }
    let each = start.elapsed() / CALLS;
    println!("begin and finish: {each:?}");
    let bound = Duration::from_micros(if cfg!(debug_assertions) { 500 } else { 20 });
    assert!(each < bound, "{each:?}");
}

#[tokio::test]
async fn a_lost_shard_cancels_its_calls_and_begins_nothing() {
    let node = Node::new().await;
    let session = node.create(60).await;
    let running = node.run(session, "a").await;
    let shard = node.hold(session, Held::No);
    node.sessions.lose(&[shard]);
    let cancelled = running.cancellation();
    tokio::time::timeout(Duration::from_secs(5), cancelled.cancelled()).await.expect("is cancelled");
    let refused = node.begin(session, "b", 1).await.unwrap_err();
    assert!(matches!(refused, Error::Elsewhere(_)), "{refused:?}");
    assert!(refused.is_retryable());

    // Back again, the session is activated from its row.
    node.hold(session, Held::Yes);
    node.sessions.arrive();
    node.run(session, "b").await.finish();
}

#[tokio::test]
async fn a_hand_over_waits_for_running_calls_and_refuses_new_ones() {
    let node = Arc::new(Node::new().await);
    let session = node.create(60).await;
    let running = node.run(session, "a").await;
    let shard = node.hold(session, Held::Leaving);
    assert!(matches!(node.begin(session, "b", 1).await, Err(Error::Elsewhere(_))));
    let leaving = node.clone();
    let over = tokio::spawn(async move { leaving.sessions.hand_over(shard, Duration::from_secs(60)).await });
    tokio::task::yield_now().await;
    assert!(!over.is_finished());
    let cancelled = running.cancellation();
    running.finish();
    tokio::time::timeout(Duration::from_secs(5), over).await.expect("ends with the last call").unwrap();
    assert!(!cancelled.is_cancelled(), "a call that ended by itself was not cancelled");
}

#[tokio::test]
async fn a_hand_over_cancels_what_outlasts_its_grace() {
    let node = Node::new().await;
    let session = node.create(60).await;
    let running = node.run(session, "a").await;
    let shard = node.hold(session, Held::Leaving);
    node.sessions.hand_over(shard, Duration::from_millis(1)).await;
    let cancelled = running.cancellation();
    tokio::time::timeout(Duration::from_secs(5), cancelled.cancelled()).await.expect("is cancelled");
}

#[tokio::test]
async fn a_node_without_shards_creates_no_session() {
    let node = Node::new().await;
    let nobody = node.shards.shards().iter().map(|shard| Shard { held: Held::No, ..*shard }).collect();
    node.shards.replace(nobody);
    assert!(matches!(node.try_create(60).await, Err(Error::Elsewhere(_))));
    assert_eq!(node.in_use().await, 0, "the place is free again");
}

#[tokio::test]
async fn a_call_within_a_running_one_is_let_in_while_its_shard_leaves() {
    let node = Arc::new(Node::new().await);
    let session = node.create(60).await;
    let outer = node.run(session, "outer").await;
    let shard = node.hold(session, Held::Leaving);
    let leaving = node.clone();
    let over = tokio::spawn(async move { leaving.sessions.hand_over(shard, Duration::from_secs(60)).await });
    assert!(matches!(node.begin(session, "other", 1).await, Err(Error::Elsewhere(_))));
    assert!(matches!(
        node.sessions.get(node.tenant, session, Depth::Outermost).await,
        Err(Error::Elsewhere(_))
    ));
    let within = async |invocation: &str| {
        node.sessions.begin(node.tenant, session, ALICE, invocation, [2; 32], Depth::Nested).await
    };
    assert_eq!(node.sessions.get(node.tenant, session, Depth::Nested).await.unwrap().id, session);
    let Begin::New(inner) = within("inner").await.unwrap() else { panic!("nobody runs it") };
    assert_eq!(inner.fence(), outer.fence());
    outer.finish();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!over.is_finished(), "the hand-over waits for the inner call, too");
    let cancelled = inner.cancellation();
    inner.finish();
    tokio::time::timeout(Duration::from_secs(5), over).await.expect("ends with the last call").unwrap();
    assert!(!cancelled.is_cancelled());
    // There is nothing any more that it could be within.
    assert!(matches!(within("late").await, Err(Error::Elsewhere(_))));
    assert!(matches!(node.sessions.get(node.tenant, session, Depth::Nested).await, Err(Error::Elsewhere(_))));
}

#[tokio::test]
async fn a_call_that_has_just_begun_is_waited_for_by_the_hand_over() {
    let node = Arc::new(Node::new().await);
    let session = node.create(60).await;
    node.run(session, "warm").await.finish();
    eventually!(
        node.sessions.get(node.tenant, session, Depth::Outermost).await.unwrap().calls_in_flight == 0
    );
    let mut begin = Box::pin(node.begin(session, "a", 1));
    assert!(futures::poll!(&mut begin).is_pending(), "the actor answered at once");
    // The actor has not seen it when the shard begins to leave.
    let shard = node.hold(session, Held::Leaving);
    let leaving = node.clone();
    let over = tokio::spawn(async move { leaving.sessions.hand_over(shard, Duration::from_secs(60)).await });
    let Begin::New(running) = begin.await.unwrap() else { panic!("nobody runs it") };
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!running.cancellation().is_cancelled(), "it was cancelled as it began");
    assert!(!over.is_finished());
    running.finish();
    tokio::time::timeout(Duration::from_secs(5), over).await.expect("ends with the call").unwrap();
}

#[tokio::test]
async fn a_shard_that_arrives_brings_sessions_of_tenants_that_nobody_here_has_heard_of() {
    let node = Node::new().await;
    let id = TenantId::from_bytes([8; 16]);
    let made = node.store.run(move |tx| {
        Box::pin(async move {
            let (name, display_name) = ("globex".into(), String::new());
            let quotas = Quotas { sessions: 5, ..Quotas::default() };
            let new = NewTenant { id, name, display_name, quotas, metadata: BTreeMap::new() };
            aesp_tenant::create(tx, new, START).await
        })
    });
    made.await.unwrap();
    // Another node has it for a while.
    let other = Node::on(node.store.clone(), node.clock.clone()).await;
    let snapshot = node.store.run(move |tx| Box::pin(Snapshot::load(tx, id))).await.unwrap();
    let ttl = Some(Duration::from_secs(60));
    let new = NewSession { principal: ALICE, suggested: None, metadata: BTreeMap::new(), ttl };
    let session = other.sessions.create(&snapshot, new, Origin::default()).await.unwrap().id;
    let theirs = other.shards.shards();
    other.shards.replace(theirs.iter().map(|shard| Shard { held: Held::No, ..*shard }).collect());
    node.shards.replace(theirs);
    node.sessions.arrive();
    node.clock.advance(Duration::from_secs(60));
    let status = async || node.sessions.find(id, session).await.unwrap().unwrap().status;
    eventually!(status().await == SessionStatus::Expired);
    let query = aesp_audit::Query::new(id);
    eventually!({
        let events = aesp_audit::query(&node.store, &query).await.unwrap().events;
        events.iter().any(|event| event.action == "session.expire")
    });
}

#[tokio::test]
async fn a_session_lives_until_its_end_returns_wherever_it_is() {
    let node = Node::new().await;
    let (session, moved) = (node.create(60).await, node.create(60).await);
    let lives = async |session| node.sessions.lives(node.tenant, session).await.unwrap();
    let running = node.run(session, "a").await;
    assert!(lives(session).await && lives(moved).await);
    node.sessions.destroy(node.tenant, session, true, Origin::default()).await.unwrap();
    assert!(!lives(session).await, "it lives though its end has returned");
    running.finish();
    // Its actor has heard nothing yet.
    let told = node.create(60).await;
    let _running = node.run(told, "a").await;
    let ending = Ending {
        status: Status::Destroyed,
        action: "session.destroy",
        reason: String::new(),
        expired_by: None,
        origin: Origin::default(),
        label: "destroyed",
    };
    node.sessions.end(node.tenant, vec![told], ending).await.unwrap();
    let heard = node.sessions.lives(node.tenant, told).now_or_never();
    assert!(!heard.expect("is in memory").unwrap(), "it lives though its end has returned");
    // Of one that is not in memory here the store knows.
    node.run(moved, "a").await.finish();
    let shard = node.hold(moved, Held::No);
    node.sessions.lose(&[shard]);
    assert!(lives(moved).await);
    // Nobody has looked yet whose time is over.
    let late = node.create(60).await;
    node.run(late, "a").await.finish();
    node.clock.advance(Duration::from_secs(60));
    let heard = node.sessions.lives(node.tenant, late).now_or_never();
    assert!(!heard.expect("is in memory").unwrap(), "it lives though its time is over");
    assert!(!lives(moved).await);
    assert!(!lives(SessionId::from_bytes([9; 16])).await, "there is none");
}
