use std::time::Duration;

use aesp_audit::{Filter, words};
use aesp_proto::{Clock, HoldId};
use aesp_retention::{Duty, Error, HoldScope, Limits, NewRule, Released, due, erase, release_hold};
use aesp_search::{GroupBy, Question};
use aesp_storage::AuditKeyName;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::world::{BOSS, DAY, World, is_erased};

const HOLD: HoldId = HoldId::from_bytes([7; 16]);

async fn erased(world: &World, who: usize) -> Result<usize, Error> {
    let (tenant, who, now) = (world.tenant, world.people[who], world.clock.now());
    world
        .run(move |tx| {
            Box::pin(async move { Ok(erase(tx, tenant, who, "asked for it", (BOSS, now)).await?.keys.len()) })
        })
        .await
}

#[tokio::test]
async fn a_person_is_erased_and_nobody_else() {
    let world = World::new().await;
    world.record(10).await;
    world.build().await;
    let of = |who: usize| Filter { principals: vec![world.people[who]], ..Filter::default() };
    let before = world.verified().await;
    assert_eq!(erased(&world, 0).await.unwrap(), 1);

    let gone = world.events(of(0)).await;
    assert!(gone.len() == 10 && gone.iter().all(is_erased), "{gone:?}");
    assert!(gone[0].metadata["aesp.sealed"].contains("erasure of a person"));
    assert!(!world.events(of(1)).await.iter().any(is_erased));
    assert_eq!(world.events(Filter::default()).await.iter().filter(|event| is_erased(event)).count(), 10);
    let report = world.verified().await;
    assert_eq!((report.events, report.trusted), (before.events, true));

    // What the index knows of it goes, too: its rows don't lead to what was erased, and count no tools of it.
    assert_eq!(world.sweep().await, 10);
    let tools = Question {
        tenant: world.tenant,
        start: None,
        end: None,
        filter: of(0),
        by: vec![GroupBy::Tool],
        cursor: String::new(),
    };
    let counted = world.index.statistics(&tools).await.unwrap();
    let lines: Vec<_> =
        counted.groups.iter().map(|group| (group.tool.as_deref(), group.tally.events)).collect();
    assert_eq!(lines, [(Some(""), 10)]);
    assert_eq!(world.events(Filter { words: words("canary"), ..Filter::default() }).await.len(), 10);

    let report = world.destroyed().await;
    assert_eq!(report.len(), 1);
    assert!(matches!(report[0].key, AuditKeyName::Subject(subject) if subject.principal == world.people[0]));
    assert_eq!((report[0].row.by, report[0].row.events), (Some(BOSS), 10));
    assert!(report[0].row.swept_at.is_some() && report[0].row.reason == "asked for it");

    // What is recorded afterwards is readable again, and can be erased again.
    assert!(matches!(erased(&world, 0).await, Err(Error::NothingToErase)));
    world.record(1).await;
    assert!(!is_erased(world.events(of(0)).await.last().unwrap()));
    assert_eq!(erased(&world, 0).await.unwrap(), 1);
    assert!(world.events(of(0)).await.iter().all(is_erased));
    assert_eq!(world.sweep().await, 1);
}

#[tokio::test]
async fn a_hold_beats_an_erasure_until_it_is_released() {
    let world = World::new().await;
    world.record(1).await;
    world.hold(HOLD, HoldScope { principal: Some(world.people[0]), ..HoldScope::default() }).await.unwrap();
    assert!(matches!(erased(&world, 0).await, Err(Error::Held(hold)) if hold == HOLD));
    assert_eq!(erased(&world, 1).await.unwrap(), 1, "it holds nobody else");
    let release = |of_platform| {
        let (tenant, at) = (world.tenant, world.clock.now());
        world.run(move |tx| {
            let released = Released { at, by: BOSS, reason: "over".into() };
            Box::pin(async move { release_hold(tx, tenant, HOLD, released, of_platform).await })
        })
    };
    assert!(!release(false).await.unwrap().is_active());
    assert!(matches!(release(true).await, Err(Error::NoHold)));
    assert_eq!(erased(&world, 0).await.unwrap(), 1);
}

/// Waits until the duty has brought it about.
async fn until(what: &str, world: &World, keys: usize) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let destroyed = world.destroyed().await;
        if destroyed.len() == keys && destroyed.iter().all(|one| one.row.swept_at.is_some()) {
            return;
        }
        assert!(Instant::now() < deadline, "{what}: {destroyed:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn the_duty_destroys_what_is_due_and_nothing_that_is_held() {
    let world = World::new().await;
    let calls = NewRule {
        name: "calls".into(),
        event_types: vec!["TOOL_INVOCATION".into()],
        days: 5,
        ..NewRule::default()
    };
    world.set(vec![calls], Some(400)).await.unwrap();
    world.record(8).await;
    world.build().await;
    world.clock.advance(DAY * 3);
    world.record(1).await;
    let closing = CancellationToken::new();
    let duty = Duty::new(world.wiring(Limits::default()));
    duty.start(closing.clone());
    // Five days after the end of the first day.
    world.clock.advance(DAY * 3);
    duty.wake();
    until("the first day's calls go", &world, 1).await;
    let all = world.events(Filter::default()).await;
    let gone: Vec<_> = all.iter().filter(|event| is_erased(event)).collect();
    assert_eq!(gone.len(), 16);
    assert!(gone.iter().all(|event| event.action == "tool.invoke"));
    assert!(gone[0].metadata["aesp.sealed"].contains("class calls, 5 days"));
    assert_eq!(all.iter().filter(|event| event.action == "audit.key_destroyed").count(), 1);
    assert_eq!(world.destroyed().await[0].row.events, 16);
    assert!(world.verified().await.trusted);

    // The second day's calls are due, but a hold covers one who made some of them.
    world.hold(HOLD, HoldScope { principal: Some(world.people[1]), ..HoldScope::default() }).await.unwrap();
    world.clock.advance(DAY * 3);
    let (tenant, now) = (world.tenant, world.clock.now());
    let look = world.run(move |tx| Box::pin(async move { due(tx, tenant, &Limits::default(), now).await }));
    let (waits, held) = look.await.unwrap();
    assert!(waits.is_empty() && held.contains(&HOLD));
    duty.wake();
    let (tenant, at) = (world.tenant, world.clock.now());
    let released = world.run(move |tx| {
        let released = Released { at, by: BOSS, reason: "over".into() };
        Box::pin(async move { release_hold(tx, tenant, HOLD, released, false).await })
    });
    released.await.unwrap();
    duty.wake();
    until("the held day's calls go", &world, 2).await;
    // What no rule fits stays for 400 days after its month.
    let rest = world.events(Filter { actions: vec!["runtime.connect".into()], ..Filter::default() }).await;
    assert!(rest.len() == 9 && !rest.iter().any(is_erased));
    closing.cancel();
}

#[tokio::test]
async fn without_rules_everything_is_kept_unless_the_platform_says_otherwise() {
    let world = World::new().await;
    world.record(1).await;
    world.clock.advance(DAY * 4_000);
    let (tenant, now) = (world.tenant, world.clock.now());
    let look =
        |limits: Limits| world.run(move |tx| Box::pin(async move { due(tx, tenant, &limits, now).await }));
    assert!(look(Limits::default()).await.unwrap().0.is_empty());
    let said = Limits { default_days: 365, ..Limits::default() };
    assert_eq!(look(said).await.unwrap().0.len(), 1);
    let most = Limits { maximum_days: 3_000, ..Limits::default() };
    assert_eq!(look(most).await.unwrap().0.len(), 1);
}
