use std::sync::Arc;

use aesp_audit::{Event, Filter, Options, Query, Recorder, words};
use aesp_cluster::{Fence, Ownership};
use aesp_proto::{
    Clock, Entropy, Incarnation, ManualClock, PrincipalId, SessionId, TenantId, Timestamp,
    v1::{AuditEvent, EventType, Outcome},
};
use aesp_search::{Index, Metrics, Step};
use aesp_storage::Store;

pub(crate) const SEGMENT: usize = 16;
pub(crate) const START: i64 = 1_700_000_000_000;

pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) entropy: Entropy,
    pub(crate) tenant: TenantId,
    pub(crate) index: Index,
    pub(crate) fence: Fence,
    pub(crate) recorder: Recorder,
    pub(crate) principals: [PrincipalId; 3],
    pub(crate) session: SessionId,
    _duty: aesp_audit::Duty,
}

/// Opens the index with small segments.
pub(crate) fn opened(store: &Store) -> Index {
    Index::new(store.clone(), Metrics::unregistered().unwrap()).in_segments_of(SEGMENT)
}

impl World {
    pub(crate) async fn new() -> Self {
        let store = Store::for_tests();
        let clock = Arc::new(ManualClock::new(Timestamp(START)));
        let entropy = Entropy::from_seed(5);
        let tenant = TenantId::random(&entropy);
        let created = store.run(move |tx| Box::pin(async move { tx.create_tenant_keys(tenant).await }));
        created.await.unwrap();
        let epochs = store.run(|tx| Box::pin(async move { tx.claim_shards(1).await })).await.unwrap();
        let fence = Ownership::all(Incarnation(1), &epochs).fence(tenant.as_bytes()).unwrap();
        let at = Arc::clone(&clock) as Arc<dyn Clock>;
        let (recorder, duty) =
            Recorder::start(store.clone(), at, entropy.clone(), Options::default()).await.unwrap();
        let index = opened(&store);
        let principals = [(); 3].map(|()| PrincipalId::random(&entropy));
        let session = SessionId::random(&entropy);
        Self { store, clock, entropy, tenant, index, fence, recorder, principals, session, _duty: duty }
    }

    /// Records `count` events, a minute and a half apart, in commits of one to three, with something of everything.
    pub(crate) async fn record(&self, count: u32) {
        let mut number = 0;
        while number < count {
            let many = (number % 3 + 1).min(count - number);
            self.recorder.append((number..number + many).map(|n| self.event(n)).collect()).await.unwrap();
            number += many;
            self.clock.advance(std::time::Duration::from_secs(90));
        }
    }

    fn event(&self, n: u32) -> Event {
        let kinds = [EventType::ToolInvocation, EventType::Authorization, EventType::DataAccess];
        let outcomes = [Outcome::Success, Outcome::Success, Outcome::Denied, Outcome::Failure];
        let kind = kinds[n as usize % kinds.len()];
        let action = ["tool.invoke", "role.create", "session.read"][n as usize / 2 % 3];
        let mut event =
            Event::new(&self.entropy, self.tenant, kind, action, outcomes[n as usize % outcomes.len()]);
        event.principal = (!n.is_multiple_of(5)).then(|| self.principals[n as usize % 3]);
        event.on_behalf_of = n.is_multiple_of(7).then(|| self.principals[0]);
        event.session = n.is_multiple_of(2).then_some(self.session);
        event.external = n.is_multiple_of(11);
        event.count = if n.is_multiple_of(13) { 40 } else { 1 };
        let details = &mut event.details;
        details.resource =
            if n.is_multiple_of(2) { format!("tool:t{}@1.0.0", n % 4) } else { format!("tenant:{n}") };
        details.source_ip = format!("192.0.2.{}", n % 6);
        details.reason = format!("Number {n}, because");
        details.correlation_id = format!("c{n}");
        details.invocation_id = format!("i{}", n / 2);
        details.risk_score = f64::from(n % 10) / 10.0;
        if n.is_multiple_of(9) {
            details.policy_violations = vec!["no-nights".into()];
        }
        details.fields = vec![("node".into(), format!("node-{}", n % 3))];
        event
    }

    /// Builds the index as far as it goes; returns its segments.
    pub(crate) async fn build(&self) -> u64 {
        while self.index.advance(self.tenant, self.fence).await.unwrap() == Step::More {}
        self.index.status(self.tenant).await.unwrap().0.segments
    }

    pub(crate) fn query(&self) -> Query {
        Query { limit: 7, ..Query::new(self.tenant) }
    }

    /// Returns all events that the log itself says fit.
    pub(crate) async fn in_log(&self, query: &Query) -> Vec<AuditEvent> {
        let (mut query, mut out) = (query.clone(), Vec::new());
        loop {
            let page = aesp_audit::query(&self.store, &query).await.unwrap();
            out.extend(page.events);
            query.cursor = page.next_cursor;
            if query.cursor.is_empty() {
                return out;
            }
        }
    }

    /// Returns all events that a search finds, page by page.
    pub(crate) async fn found(&self, query: &Query) -> Vec<AuditEvent> {
        let (mut query, mut out) = (query.clone(), Vec::new());
        loop {
            let page = self.index.search(&query).await.unwrap().page;
            assert!(page.events.len() <= query.page_events());
            out.extend(page.events);
            query.cursor = page.next_cursor;
            if query.cursor.is_empty() {
                return out;
            }
        }
    }

    /// Filters of every sort.
    pub(crate) fn filters(&self) -> Vec<Filter> {
        let none = Filter::default;
        let text = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        vec![
            none(),
            Filter { kinds: vec![EventType::DataAccess, EventType::Authorization], ..none() },
            Filter { principals: vec![self.principals[0]], ..none() },
            Filter { principals: self.principals.to_vec(), outcomes: vec![Outcome::Denied], ..none() },
            Filter { sessions: vec![self.session], actions: text(&["role.create"]), ..none() },
            Filter { actions: text(&["tool.invoke", "session.read"]), external: Some(true), ..none() },
            Filter { external: Some(false), ..none() },
            Filter { resources: text(&["tenant:3", "tool:t2@1.0.0"]), ..none() },
            Filter { tools: text(&["t0", "t9"]), ..none() },
            Filter { source_ips: text(&["192.0.2.4"]), ..none() },
            Filter { correlation_ids: text(&["c33", "c1", "c99999"]), ..none() },
            Filter { invocation_ids: text(&["i12"]), ..none() },
            Filter { policies: text(&["no-nights"]), min_risk: Some(0.45), ..none() },
            Filter { min_risk: Some(0.9), ..none() },
            Filter { words: words("because NUMBER 42"), ..none() },
            Filter { words: words("node 2"), tools: text(&["t2"]), ..none() },
            Filter { words: words("never said"), ..none() },
        ]
    }
}
