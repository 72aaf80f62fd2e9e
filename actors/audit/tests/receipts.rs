//! Receipts: what the writer gives for an event verifies alone, and tells of a log that lost the event.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also outside of its function")]

use std::{collections::BTreeSet, sync::Arc};

use aesp_audit::{Details, Duty, Error, Event, Export, Options, Receipt, Recorder, Trust, look_up, verify};
use aesp_audit_receipt::{Acknowledged, Receipt as Kept};
use aesp_proto::{
    Clock, Entropy, ManualClock, TenantId, Timestamp,
    v1::{EventType, Outcome},
};
use aesp_storage::{Kind, Range, Store, row_key};
use futures::future::{join_all, try_join_all};

struct World {
    store: Store,
    clock: Arc<ManualClock>,
    entropy: Entropy,
    recorder: Recorder,
    _duty: Duty,
}

impl World {
    async fn new(seed: u64) -> Self {
        let (store, entropy) = (Store::for_tests(), Entropy::from_seed(seed));
        let clock = Arc::new(ManualClock::new(Timestamp(1_700_000_000_000)));
        let options = Options { writers: 1, ..Options::default() };
        let started =
            Recorder::start(store.clone(), Arc::clone(&clock) as Arc<dyn Clock>, entropy.clone(), options);
        let (recorder, duty) = started.await.unwrap();
        Self { store, clock, entropy, recorder, _duty: duty }
    }

    async fn tenant(&self) -> TenantId {
        let tenant = TenantId::random(&self.entropy);
        let created = self.store.run(move |tx| Box::pin(async move { tx.create_tenant_keys(tenant).await }));
        created.await.unwrap();
        tenant
    }

    fn event(&self, tenant: TenantId, action: &str) -> Event {
        let kind = EventType::ToolInvocation;
        let mut event = Event::new(&self.entropy, tenant, kind, action, Outcome::Success);
        event.details = Details { reason: "because".into(), ..Details::default() };
        event
    }

    fn shown(&self, receipt: &Receipt) -> Acknowledged {
        Kept::from(receipt.to_wire()).verify(&[self.recorder.public_key()]).unwrap()
    }

    async fn export(&self, tenant: TenantId) -> Vec<u8> {
        let mut export = Export::open(&self.store, self.clock.as_ref(), tenant).await.unwrap();
        let mut out = Vec::new();
        while let Some(part) = export.next().await.unwrap() {
            out.extend_from_slice(&part);
        }
        out
    }

    /// Tells whether the very event of the receipt is in an export made now.
    async fn has(&self, receipt: &Receipt) -> bool {
        let shown = self.shown(receipt);
        let export = self.export(shown.tenant).await;
        let trust = Trust { keys: vec![self.recorder.public_key()], ..Trust::default() };
        let found = look_up(export.as_slice(), &trust, &BTreeSet::from([shown.event])).unwrap();
        assert_eq!((found.tenant, found.keys.as_slice()), (shown.tenant, &[self.recorder.public_key()][..]));
        found.found.get(&shown.event).is_some_and(|leaves| leaves.contains(&shown.leaf_hash))
    }

    /// Clears, with a hand on the store, the last row of this kind that the tenant has.
    async fn clear_last(&self, tenant: TenantId, kind: Kind) {
        let cleared = self.store.run(move |tx| {
            Box::pin(async move {
                let last = Range::prefix(&row_key(tenant, kind, &[])).limit(1).reverse(true);
                let rows = tx.range_raw(last).await?;
                tx.clear_raw(&rows[0].0)
            })
        });
        cleared.await.unwrap();
    }
}

#[tokio::test]
async fn every_event_of_a_shared_commit_has_a_receipt_of_its_own() {
    let world = World::new(1).await;
    let tenants = [world.tenant().await, world.tenant().await, world.tenant().await];
    // Queued together, so that commits hold many events of several tenants.
    let events: Vec<Event> =
        (0..100).map(|number| world.event(tenants[number % 3], &format!("call {number}"))).collect();
    let receipts = try_join_all(events.iter().map(|event| world.recorder.append_with_receipt(event.clone())));
    let receipts = receipts.await.unwrap();
    let mut longest = 0;
    for (event, receipt) in events.iter().zip(&receipts) {
        let shown = world.shown(receipt);
        assert_eq!((shown.event, shown.tenant), (event.id, event.tenant));
        assert_eq!((shown.leaf.action.as_str(), shown.at), (event.action.as_str(), world.clock.now()));
        longest = longest.max(receipt.to_wire().path.len());
        assert!(world.has(receipt).await);
    }
    assert!(longest >= 4, "no commit was shared: the longest path has {longest} hashes");
}

#[tokio::test]
async fn a_change_gets_the_receipt_of_its_last_event_and_a_failed_one_none() {
    let world = World::new(2).await;
    let tenant = world.tenant().await;
    let record = |number: usize| {
        let events = vec![world.event(tenant, "first"), world.event(tenant, "last")];
        world.recorder.record_with_receipt(tenant, move |_| {
            let events = if number == 1 { Vec::new() } else { events.clone() };
            Box::pin(async move { if number == 2 { Err(Error::TooLarge) } else { Ok((number, events)) } })
        })
    };
    let mut outcomes = join_all((0..3).map(record)).await.into_iter();
    let (value, receipt) = outcomes.next().unwrap().unwrap();
    assert_eq!((value, world.shown(&receipt.unwrap()).leaf.action.as_str()), (0, "last"));
    assert!(matches!(outcomes.next().unwrap(), Ok((1, None))), "nothing was recorded");
    assert!(matches!(outcomes.next().unwrap(), Err(Error::TooLarge)));
}

#[tokio::test]
async fn an_acknowledged_event_that_the_log_lost_is_named_by_its_receipt() {
    let world = World::new(3).await;
    let tenant = world.tenant().await;
    let mut receipts = Vec::new();
    for number in 0..3 {
        let event = world.event(tenant, &format!("call {number}"));
        receipts.push(world.recorder.append_with_receipt(event).await.unwrap());
    }
    // The last commit goes, whole: the rest is a good log, that ends sooner.
    world.clear_last(tenant, Kind::AUDIT_EVENT).await;
    world.clear_last(tenant, Kind::AUDIT_BATCH).await;
    verify(world.export(tenant).await.as_slice(), &[world.recorder.public_key()]).unwrap();
    let kept = [world.has(&receipts[0]).await, world.has(&receipts[1]).await, world.has(&receipts[2]).await];
    assert_eq!(kept, [true, true, false]);
    // Without its batch's row an event is found missing as well, though the export does not verify.
    world.clear_last(tenant, Kind::AUDIT_EVENT).await;
    assert!(verify(world.export(tenant).await.as_slice(), &[]).is_err());
    assert!(!world.has(&receipts[1]).await && world.has(&receipts[0]).await);
}
