//! Sinks beside each other.

use aesp_proto::{EventId, TenantId};
use aesp_sinks::{Config, Kind, Severity};

use crate::{
    fixture::{TENANT, World, sink, until},
    raw::{Deed, Raw},
    webhook::all_ids,
};

fn hook(world: &World, name: &str, raw: &Raw) -> Config {
    let mut config = sink(Kind::Webhook, format!("http://127.0.0.1:{}/", raw.port));
    config.name = name.into();
    config.secret = Some(world.secret("secret").parse().unwrap());
    config
}

async fn good() -> Raw {
    Raw::start(Vec::new(), Deed::status("200 OK", "", "")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_is_blocked_delays_itself_alone_and_holds_little() {
    let world = World::new().await;
    let (open, blocked) = (good().await, Raw::start(Vec::new(), Deed::Hang).await);
    let mut stuck = hook(&world, "stuck", &blocked);
    stuck.batch_events = 10;
    let running = world.start(&[stuck, hook(&world, "open", &open)], &[TENANT]).await;
    let sent = world.grow(&running, TENANT, 1_000).await;
    until("the open one has all", async || all_ids(&open).len() >= 1_000).await;
    assert_eq!(all_ids(&open)[..1_000], sent);
    let report = running.sinks.own_report("stuck").unwrap();
    assert!(report.taken == 0 && report.pending < 100, "{report:?}");
    until("its lag grows", async || running.sinks.own_report("stuck").unwrap().lag_ms > 1_000).await;
    assert!(running.sinks.own_report("open").unwrap().lag_ms < 1_000);
    // When it is mended it gets everything, too.
    blocked.mend(Deed::status("200 OK", "", ""));
    until("the other has all", async || all_ids(&blocked).len() >= 1_000).await;
    assert_eq!(all_ids(&blocked)[..1_000], sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_let_through_what_they_name() {
    let world = World::new().await;
    let (grave, one) = (good().await, good().await);
    let other = world.tenant().await;
    let mut severe = hook(&world, "severe", &grave);
    severe.min_severity = Severity::Medium;
    let mut only = hook(&world, "only", &one);
    only.tenants = vec![other.to_string()];
    only.types = vec!["tool-invocation".into()];
    let running = world.start(&[severe, only], &[TENANT, other]).await;
    world.grow(&running, TENANT, 5).await;
    let sent = world.grow(&running, other, 5).await;
    until("the tenant's have come", async || all_ids(&one).len() >= 5).await;
    assert_eq!(all_ids(&one), sent);
    assert!(all_ids(&grave).is_empty(), "none of them is so severe");
}

/// Returns the ids as texts.
fn texts(ids: Vec<EventId>) -> Vec<String> {
    ids.iter().map(EventId::to_string).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_test_event_goes_beside_the_queue() {
    let world = World::new().await;
    let raw = good().await;
    let running = world.start(&[hook(&world, "soc", &raw)], &[]).await;
    let id = texts(world.log(TENANT, &["tool.a"]).await).remove(0);
    let event = aesp_proto::v1::AuditEvent {
        event_id: id.clone(),
        tenant_id: TenantId::PLATFORM.to_string(),
        action: "sink.test".into(),
        ..Default::default()
    };
    running.sinks.test("soc", &event).await.unwrap().unwrap();
    assert_eq!(all_ids(&raw), [id]);
    raw.mend(Deed::status("403 Forbidden", "", "not you"));
    let (cause, why) = running.sinks.test("soc", &event).await.unwrap().unwrap_err();
    assert_eq!((cause.name(), why.as_str()), ("refused", "HTTP status 403: not you"));
}
