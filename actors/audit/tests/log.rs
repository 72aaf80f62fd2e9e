//! The log as its users meet it: durable changes, exports that verify, failures that stay alone.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also outside of its function")]

use std::{sync::Arc, time::Duration};

use aesp_audit::{
    Details, Error, Event, Export, Filter, Options, Origin, Query, Recorder, Refused, Report, open_origins,
    query, verify, words,
};
use aesp_proto::{
    Clock, Entropy, ManualClock, TenantId, Timestamp,
    v1::{EventType, Outcome},
};
use aesp_storage::{Error as StoreError, Store, UnknownCommit};

#[derive(Debug)]
#[expect(dead_code, reason = "shown by Debug when a test fails")]
enum Failure {
    Own(usize),
    Store(StoreError),
    Audit(Error),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Audit(error)
    }
}

struct World {
    store: Store,
    clock: Arc<ManualClock>,
    entropy: Entropy,
}

impl World {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp(1_000_000)));
        Self { store: Store::for_tests(), clock, entropy: Entropy::from_seed(7) }
    }

    async fn tenant(&self) -> TenantId {
        let tenant = TenantId::random(&self.entropy);
        let created = self.store.run(move |tx| Box::pin(async move { tx.create_tenant_keys(tenant).await }));
        created.await.unwrap();
        tenant
    }

    async fn recorder(&self) -> (Recorder, aesp_audit::Duty) {
        self.recorder_on(self.store.clone(), Options::default()).await
    }

    async fn recorder_on(&self, store: Store, options: Options) -> (Recorder, aesp_audit::Duty) {
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        Recorder::start(store, clock, self.entropy.clone(), options).await.unwrap()
    }

    fn event(&self, tenant: TenantId, action: &str) -> Event {
        let mut event =
            Event::new(&self.entropy, tenant, EventType::ToolInvocation, action, Outcome::Success);
        event.details =
            Details { reason: "because".into(), source_ip: "192.0.2.1".into(), ..Details::default() };
        event
    }

    async fn export(&self, tenant: TenantId) -> Vec<u8> {
        let mut export = Export::open(&self.store, self.clock.as_ref(), tenant).await.unwrap();
        let mut out = Vec::new();
        while let Some(part) = export.next().await.unwrap() {
            out.extend_from_slice(&part);
        }
        out
    }

    async fn verified(&self, tenant: TenantId) -> Report {
        verify(self.export(tenant).await.as_slice(), &[]).unwrap()
    }

    async fn actions(&self, tenant: TenantId) -> Vec<String> {
        let page = query(&self.store, &Query { limit: 1000, ..Query::new(tenant) }).await.unwrap();
        page.events.into_iter().map(|event| event.action).collect()
    }
}

#[tokio::test]
async fn what_was_recorded_can_be_read_and_verifies() {
    let world = World::new();
    let tenant = world.tenant().await;
    let (recorder, _duty) = world.recorder().await;
    for number in 0..5 {
        recorder.append(vec![world.event(tenant, &format!("call {number}"))]).await.unwrap();
    }
    let page = query(&world.store, &Query::new(tenant)).await.unwrap();
    assert_eq!(page.events.len(), 5);
    assert_eq!((page.events[0].action.as_str(), page.events[0].reason.as_str()), ("call 0", "because"));
    let export = world.export(tenant).await;
    let report = verify(export.as_slice(), &[recorder.public_key()]).unwrap();
    assert_eq!((report.events, report.chains, report.trusted), (5, 1, true));
}

#[tokio::test]
async fn an_empty_log_verifies_too() {
    let world = World::new();
    let tenant = world.tenant().await;
    assert_eq!(world.verified(tenant).await.events, 0);
}

#[tokio::test]
async fn a_change_that_fails_or_panics_fails_alone() {
    let world = World::new();
    let tenant = world.tenant().await;
    let (recorder, _duty) = world.recorder().await;
    let mut waiting = Vec::new();
    for number in 0..40_usize {
        let event = world.event(tenant, &format!("call {number}"));
        let recorder = recorder.clone();
        waiting.push(tokio::spawn(async move {
            let change = recorder.record_for(tenant, move |tx| {
                let event = event.clone();
                Box::pin(async move {
                    tx.set_raw(&[&tenant.as_bytes()[..], &[0xFF, number as u8]].concat(), b"x")?;
                    assert!(number != 7, "the seventh");
                    if number % 5 == 3 { Err(Failure::Own(number)) } else { Ok((number, vec![event])) }
                })
            });
            change.await
        }));
    }
    for (number, task) in waiting.into_iter().enumerate() {
        match task.await.unwrap() {
            Ok(value) => assert!(value == number && number % 5 != 3 && number != 7),
            Err(Failure::Own(own)) => assert!(own == number && number % 5 == 3),
            Err(Failure::Audit(Error::Panicked(text))) => assert!(number == 7 && text == "the seventh"),
            Err(other) => panic!("{number}: {other:?}"),
        }
    }
    let kept = world.store.run(move |tx| {
        Box::pin(async move {
            let prefix = [&tenant.as_bytes()[..], &[0xFF]].concat();
            Ok::<_, StoreError>(tx.range_raw(aesp_storage::Range::prefix(&prefix)).await?.len())
        })
    });
    assert_eq!(kept.await.unwrap(), 31, "failed changes leave nothing behind");
    assert_eq!(world.verified(tenant).await.events, 31);
}

#[tokio::test]
async fn a_thousand_at_once_of_ten_tenants_keep_their_order() {
    let world = World::new();
    let (recorder, _duty) = world.recorder().await;
    let mut tenants = Vec::new();
    for _ in 0..10 {
        tenants.push(world.tenant().await);
    }
    let tasks: Vec<_> = (0..1_000)
        .map(|number| {
            let event = world.event(tenants[number % 10], &format!("{:03}", number / 10));
            let recorder = recorder.clone();
            tokio::spawn(async move { recorder.append(vec![event]).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    for tenant in tenants {
        let actions = world.actions(tenant).await;
        assert_eq!(actions.len(), 100);
        assert!(actions.is_sorted(), "in the order of arrival");
        assert_eq!(world.verified(tenant).await.events, 100);
    }
}

#[tokio::test]
async fn a_crash_and_a_restart_leave_a_log_that_verifies() {
    let world = World::new();
    let tenant = world.tenant().await;
    let (recorder, duty) = world.recorder().await;
    recorder.append(vec![world.event(tenant, "before")]).await.unwrap();
    duty.kill();
    let (recorder, duty) = world.recorder().await;
    recorder.append(vec![world.event(tenant, "after")]).await.unwrap();
    duty.stop().await.unwrap();
    assert!(matches!(recorder.append(vec![world.event(tenant, "late")]).await, Err(Error::Stopped)));
    let report = world.verified(tenant).await;
    assert_eq!((report.events, report.chains), (2, 2));
}

#[tokio::test]
async fn a_caller_that_goes_away_does_not_take_its_event_back() {
    let world = World::new();
    let tenant = world.tenant().await;
    let (recorder, duty) = world.recorder().await;
    let mut gone = Box::pin(recorder.append(vec![world.event(tenant, "gone")]));
    assert!(futures::poll!(&mut gone).is_pending());
    drop(gone);
    duty.stop().await.unwrap();
    assert_eq!(world.actions(tenant).await, ["gone"]);
}

#[tokio::test(start_paused = true)]
async fn an_outage_fails_everything_at_once_and_ends_by_itself() {
    let world = World::new();
    let tenant = world.tenant().await;
    let (store, _engine, faults) = world.store.with_faults();
    let (recorder, _duty) = world.recorder_on(store, Options::default()).await;
    recorder.append(vec![world.event(tenant, "before")]).await.unwrap();
    faults.fail(Some(StoreError::unavailable("unplugged")));
    let failed = recorder.append(vec![world.event(tenant, "during")]).await;
    assert!(matches!(failed, Err(Error::NotCommitted { cause: StoreError::Unavailable(_) })), "{failed:?}");
    let failed = recorder.append(vec![world.event(tenant, "during")]).await;
    assert!(matches!(failed, Err(Error::Parked { .. })), "{failed:?}");
    faults.fail(None);
    tokio::time::advance(Duration::from_secs(2)).await;
    recorder.append(vec![world.event(tenant, "after")]).await.unwrap();
    assert_eq!(world.actions(tenant).await, ["before", "after"]);
    assert_eq!(world.verified(tenant).await.chains, 2);
}

#[tokio::test]
async fn conflicts_and_unknown_commits_neither_double_nor_lose() {
    let world = World::new();
    let tenant = world.tenant().await;
    let (store, _engine, faults) = world.store.with_faults();
    let (recorder, _duty) = world.recorder_on(store, Options::default()).await;
    for (number, end) in [UnknownCommit::Applied, UnknownCommit::NotApplied].into_iter().enumerate() {
        faults.unknown(end);
        recorder.append(vec![world.event(tenant, &format!("unknown {number}"))]).await.unwrap();
    }
    faults.conflict(3);
    recorder.append(vec![world.event(tenant, "conflict")]).await.unwrap();
    assert_eq!(world.actions(tenant).await, ["unknown 0", "unknown 1", "conflict"]);
    let report = world.verified(tenant).await;
    assert_eq!((report.events, report.chains), (3, 1));
}

#[tokio::test]
async fn a_full_queue_refuses_at_once() {
    let world = World::new();
    let tenant = world.tenant().await;
    let (store, _engine, faults) = world.store.with_faults();
    let options = Options { queue_units: 3, tenant_units: 2, batch_units: 1, ..Options::default() };
    let (recorder, duty) = world.recorder_on(store, options).await;
    faults.stall(true);
    let mut waiting = Vec::new();
    let mut refused = 0;
    for number in 0..10 {
        let mut append = Box::pin({
            let (recorder, event) = (recorder.clone(), world.event(tenant, &number.to_string()));
            async move { recorder.append(vec![event]).await }
        });
        match futures::poll!(&mut append) {
            std::task::Poll::Ready(Err(Error::Overloaded { .. })) => refused += 1,
            std::task::Poll::Ready(other) => panic!("{other:?}"),
            std::task::Poll::Pending => waiting.push(append),
        }
    }
    assert_eq!((refused, waiting.len()), (8, 2));
    faults.stall(false);
    for append in waiting {
        append.await.unwrap();
    }
    duty.stop().await.unwrap();
    assert_eq!(world.actions(tenant).await, ["0", "1"]);
}

#[tokio::test]
async fn destroyed_keys_empty_the_details_and_leave_the_chain_whole() {
    let world = World::new();
    let tenant = world.tenant().await;
    let (recorder, _duty) = world.recorder().await;
    recorder.append(vec![world.event(tenant, "before")]).await.unwrap();
    let destroyed = world.store.run(move |tx| Box::pin(async move { tx.destroy_tenant_keys(tenant).await }));
    destroyed.await.unwrap();
    let sealed = recorder.append(vec![world.event(tenant, "with details")]).await;
    assert!(matches!(sealed, Err(Error::Store(StoreError::KeyDestroyed { .. }))), "{sealed:?}");
    let mut bare = world.event(tenant, "tenant.delete");
    bare.details = Details::default();
    recorder.append(vec![bare]).await.unwrap();
    let page = query(&world.store, &Query::new(tenant)).await.unwrap();
    assert_eq!(page.events.len(), 2);
    assert!(page.events[0].reason.is_empty() && page.events[0].metadata.contains_key("aesp.sealed"));
    assert_eq!(world.verified(tenant).await.events, 2);
}

#[tokio::test]
async fn strangers_are_counted_exactly() {
    let world = World::new();
    let tenant = world.tenant().await;
    let (recorder, duty) = world.recorder().await;
    for number in 0..1_000 {
        recorder.observe_refused(Refused {
            source_ip: Some(format!("192.0.2.{}", number % 250).parse().unwrap()),
            action: "authentication.login".into(),
            reason: "unknown key".into(),
            tenant: (number % 4 == 0).then_some(tenant),
        });
    }
    duty.stop().await.unwrap();
    let mut counts = Vec::new();
    for tenant in [tenant, TenantId::PLATFORM] {
        let page = query(&world.store, &Query::new(tenant)).await.unwrap();
        assert!(page.events.iter().all(|event| event.source_ip == "192.0.2.0/24"));
        counts.push(page.events.iter().map(|event| event.count.max(1)).sum::<u64>());
    }
    assert_eq!(counts, [250, 750]);
}

#[tokio::test]
async fn queries_filter_page_and_seek() {
    let world = World::new();
    let tenant = world.tenant().await;
    let (recorder, _duty) = world.recorder().await;
    let principal = aesp_proto::PrincipalId::random(&world.entropy);
    for number in 0..200_i64 {
        world.clock.set(Timestamp(number * 10_000));
        let mut event = world.event(tenant, if number % 2 == 0 { "even" } else { "odd" });
        event.principal = (number % 10 == 0).then_some(principal);
        recorder.append(vec![event]).await.unwrap();
    }
    let times = async |query: Query| {
        let (mut query, mut out) = (query, Vec::new());
        loop {
            let page = aesp_audit::query(&world.store, &query).await.unwrap();
            out.extend(page.events.iter().map(|event| event.timestamp_ms / 10_000));
            if page.next_cursor.is_empty() {
                return out;
            }
            query.cursor = page.next_cursor;
        }
    };
    let between = Query {
        start: Some(Timestamp(500_000)),
        end: Some(Timestamp(600_000)),
        limit: 3,
        ..Query::new(tenant)
    };
    assert_eq!(times(between.clone()).await, (50..60).collect::<Vec<_>>());
    let backwards = Query { newest_first: true, ..between.clone() };
    assert_eq!(times(backwards.clone()).await, (50..60).rev().collect::<Vec<_>>());
    let only = |filter: Filter| Query { filter, ..between.clone() };
    let odd = Filter { actions: vec!["odd".into()], ..Filter::default() };
    assert_eq!(times(only(odd.clone())).await, [51, 53, 55, 57, 59]);
    assert_eq!(times(only(Filter { words: words("BECAUSE"), ..odd.clone() })).await, [51, 53, 55, 57, 59]);
    assert_eq!(times(only(Filter { words: words("because not"), ..odd })).await, [0_i64; 0]);
    let principals = vec![principal];
    assert_eq!(times(only(Filter { principals, ..Filter::default() })).await, [50]);
    let outcomes = vec![Outcome::Denied];
    assert_eq!(times(only(Filter { outcomes, ..Filter::default() })).await, [0_i64; 0]);
    let source_ips = vec!["192.0.2.9".into(), "192.0.2.1".into()];
    assert_eq!(times(only(Filter { source_ips, ..Filter::default() })).await, (50..60).collect::<Vec<_>>());

    let cursor = query(&world.store, &between).await.unwrap().next_cursor;
    for (query_of, cursor) in [(backwards, cursor), (between.clone(), "AAAA".into()), (between, "?".into())] {
        let refused = query(&world.store, &Query { cursor, ..query_of }).await;
        assert!(matches!(refused, Err(Error::InvalidCursor)));
    }
}

#[tokio::test]
async fn time_never_goes_backwards_within_a_writer() {
    let world = World::new();
    let tenant = world.tenant().await;
    let (recorder, _duty) = world.recorder().await;
    recorder.append(vec![world.event(tenant, "a")]).await.unwrap();
    world.clock.set(Timestamp(5));
    recorder.append(vec![world.event(tenant, "b")]).await.unwrap();
    let page = query(&world.store, &Query::new(tenant)).await.unwrap();
    assert_eq!(page.events[1].timestamp_ms, 1_000_000);
    world.verified(tenant).await;
}

#[tokio::test]
async fn a_restored_store_goes_on_in_a_new_origin_that_verifies_with_the_old() {
    let world = World::new();
    let (tenant, gone) = (world.tenant().await, world.tenant().await);
    let (recorder, duty) = world.recorder().await;
    recorder.append(vec![world.event(tenant, "before")]).await.unwrap();
    recorder.append(vec![world.event(gone, "before")]).await.unwrap();
    duty.stop().await.unwrap();
    let head = world.export(tenant).await;
    let head: serde_json::Value =
        serde_json::from_slice(head.trim_ascii_end().rsplit(|byte| *byte == b'\n').next().unwrap()).unwrap();
    let head =
        head["chains"].as_object().unwrap().values().next().unwrap()["head"].as_str().unwrap().to_owned();

    let log_epoch = world.store.run(move |tx| {
        Box::pin(async move {
            tx.destroy_tenant_keys(gone).await?;
            tx.raise_log_epoch(77).await
        })
    });
    let origin = Origin { log_epoch: log_epoch.await.unwrap(), told: vec![("version".into(), "9".into())] };
    for opened in [3, 0] {
        let clock = Arc::clone(&world.clock) as Arc<dyn Clock>;
        let count = open_origins(&world.store, clock, &world.entropy, &origin).await.unwrap();
        assert_eq!(count, opened, "the platform's and the tenants', once");
    }
    let (recorder, _duty) = world.recorder().await;
    recorder.append(vec![world.event(tenant, "after")]).await.unwrap();

    assert_eq!(world.actions(tenant).await, ["before", "store.restored", "after"]);
    assert_eq!(world.actions(gone).await, ["before", "store.restored"]);
    let report = world.verified(tenant).await;
    assert_eq!((report.events, report.chains), (3, 3));
    assert_eq!(world.verified(gone).await.events, 2);
    let page = query(&world.store, &Query::new(tenant)).await.unwrap();
    let told = &page.events[1].metadata;
    assert_eq!((told["version"].as_str(), told["log_epoch"].as_str()), ("9", "77"));
    let named = data_encoding::HEXLOWER.decode(told["last_head"].as_bytes()).unwrap();
    assert_eq!(data_encoding::BASE64.encode(&named), head, "the head that the last trailer before names");
    assert!(told["last_commit"].starts_with("00000001"), "of the old epoch");
}
