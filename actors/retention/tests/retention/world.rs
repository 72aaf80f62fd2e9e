use std::{sync::Arc, time::Duration};

use aesp_audit::{Event, Export, Filter, Options, Query, Recorder, Report, query, verify};
use aesp_cluster::{Fence, Ownership};
use aesp_proto::{
    Clock, Entropy, HoldId, Incarnation, ManualClock, PrincipalId, TenantId, Timestamp,
    v1::{AuditEvent, EventType, Outcome},
};
use aesp_retention::{
    Destruction, Error, Hold, HoldScope, Limits, Metrics, NewHold, NewPolicy, NewRule, Progress, Wiring,
    destructions, place_hold, set_policy, sweep,
};
use aesp_search::{Index, Step};
use aesp_storage::{Store, Transaction};
use futures::future::BoxFuture;

pub(crate) const SEGMENT: usize = 16;
/// 2023-11-14.
pub(crate) const START: i64 = 1_700_000_000_000;
pub(crate) const DAY: Duration = Duration::from_secs(86_400);
pub(crate) const BOSS: PrincipalId = PrincipalId::from_bytes([9; 16]);

pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) entropy: Entropy,
    pub(crate) tenant: TenantId,
    pub(crate) index: Index,
    pub(crate) ownership: Ownership,
    pub(crate) fence: Fence,
    pub(crate) recorder: Recorder,
    pub(crate) people: [PrincipalId; 2],
    _duty: aesp_audit::Duty,
}

impl World {
    pub(crate) async fn new() -> Self {
        let store = Store::for_tests();
        let clock = Arc::new(ManualClock::new(Timestamp(START)));
        let entropy = Entropy::from_seed(11);
        let tenant = TenantId::random(&entropy);
        let created = store.run(move |tx| Box::pin(async move { tx.create_tenant_keys(tenant).await }));
        created.await.unwrap();
        let epochs = store.run(|tx| Box::pin(async move { tx.claim_shards(1).await })).await.unwrap();
        let ownership = Ownership::all(Incarnation(1), &epochs);
        let fence = ownership.fence(tenant.as_bytes()).unwrap();
        let at = Arc::clone(&clock) as Arc<dyn Clock>;
        let (recorder, duty) =
            Recorder::start(store.clone(), at, entropy.clone(), Options::default()).await.unwrap();
        let metrics = aesp_search::Metrics::unregistered().unwrap();
        let index = Index::new(store.clone(), metrics).in_segments_of(SEGMENT);
        let people = [1, 2].map(|n| PrincipalId::from_bytes([n; 16]));
        Self { store, clock, entropy, tenant, index, ownership, fence, recorder, people, _duty: duty }
    }

    pub(crate) async fn run<T, F>(&self, body: F) -> Result<T, Error>
    where
        T: Send,
        F: for<'t> Fn(&'t Transaction) -> BoxFuture<'t, Result<T, Error>> + Send + Sync,
    {
        self.store.run(body).await
    }

    /// Records calls of both people, one each, and something of nobody.
    pub(crate) async fn record(&self, times: usize) {
        for number in 0..times {
            let mut events: Vec<Event> = self.people.iter().map(|who| self.call(*who, number)).collect();
            let kind = EventType::SystemEvent;
            let mut event = Event::new(&self.entropy, self.tenant, kind, "runtime.connect", Outcome::Success);
            event.details.reason = format!("number {number}");
            events.push(event);
            self.recorder.append(events).await.unwrap();
        }
    }

    fn call(&self, who: PrincipalId, number: usize) -> Event {
        let kind = EventType::ToolInvocation;
        let mut event = Event::new(&self.entropy, self.tenant, kind, "tool.invoke", Outcome::Success);
        event.principal = Some(who);
        event.details.resource = format!("tool:t{}@1.0.0", number % 2);
        event.details.reason = "canary".into();
        event
    }

    pub(crate) async fn build(&self) {
        while self.index.advance(self.tenant, self.fence).await.unwrap() == Step::More {}
    }

    pub(crate) async fn set(&self, rules: Vec<NewRule>, standard_days: Option<u32>) -> Result<u64, Error> {
        let (tenant, now) = (self.tenant, self.clock.now());
        let new = NewPolicy { rules, standard_days };
        self.run(move |tx| {
            let new = new.clone();
            Box::pin(async move {
                Ok(set_policy(tx, tenant, &new, &Limits::default(), 0, (BOSS, now)).await?.version)
            })
        })
        .await
    }

    pub(crate) async fn hold(&self, id: HoldId, scope: HoldScope) -> Result<Hold, Error> {
        let (tenant, at) = (self.tenant, self.clock.now());
        self.run(move |tx| {
            let new = NewHold { scope, reason: "case 7".into(), at, by: BOSS, of_platform: false };
            Box::pin(async move { place_hold(tx, tenant, id, new).await })
        })
        .await
    }

    /// Goes through the log until nothing is asked for; returns how many events were found.
    pub(crate) async fn sweep(&self) -> u64 {
        let (tenant, mut found) = (self.tenant, 0);
        let now = self.clock.now();
        while let Progress::More(more) =
            self.run(move |tx| Box::pin(async move { sweep(tx, tenant, now).await })).await.unwrap()
        {
            found += more;
        }
        found
    }

    pub(crate) async fn destroyed(&self) -> Vec<Destruction> {
        let tenant = self.tenant;
        self.run(move |tx| Box::pin(async move { destructions(tx, tenant, None, 100).await })).await.unwrap()
    }

    pub(crate) async fn events(&self, filter: Filter) -> Vec<AuditEvent> {
        let asked = Query { limit: 1_000, filter, ..Query::new(self.tenant) };
        let page = query(&self.store, &asked).await.unwrap();
        let found = self.index.search(&asked).await.unwrap().page;
        assert_eq!(found.events, page.events, "the index says what the log says");
        page.events
    }

    pub(crate) async fn verified(&self) -> Report {
        let mut export = Export::open(&self.store, self.clock.as_ref(), self.tenant).await.unwrap();
        let mut out = Vec::new();
        while let Some(part) = export.next().await.unwrap() {
            out.extend_from_slice(&part);
        }
        verify(out.as_slice(), &[self.recorder.public_key()]).unwrap()
    }

    pub(crate) fn wiring(&self, limits: Limits) -> Wiring {
        Wiring {
            store: self.store.clone(),
            ownership: self.ownership.clone(),
            recorder: self.recorder.clone(),
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            entropy: self.entropy.clone(),
            metrics: Metrics::unregistered().unwrap(),
            limits,
            archive: None,
        }
    }
}

/// Whether the sensitive part of an event was erased.
pub(crate) fn is_erased(event: &AuditEvent) -> bool {
    let told = event.metadata.get("aesp.sealed").is_some_and(|why| why.starts_with("erased: "));
    assert_eq!(told, event.metadata.contains_key("aesp.erased_at_ms"));
    assert!(!told || (event.reason.is_empty() && event.resource.is_empty()));
    told
}
