//! What is kept in the store: cursors, and who may move them.

use aesp_cluster::Ownership;
use aesp_proto::Incarnation;
use aesp_sinks::{Config, Kind, Start};

use crate::{
    fixture::{TENANT, World, sink, until},
    raw::{Deed, Raw},
    webhook::all_ids,
};

fn hook(world: &World, raw: &Raw) -> Config {
    let mut config = sink(Kind::Webhook, format!("http://127.0.0.1:{}/", raw.port));
    config.secret = Some(world.secret("secret").parse().unwrap());
    config
}

async fn good() -> Raw {
    Raw::start(Vec::new(), Deed::status("200 OK", "", "")).await
}

async fn until_taken(running: &crate::fixture::Running, count: u64) {
    until("they are settled", async || running.sinks.own_report("soc").unwrap().taken >= count).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_life_goes_on_where_the_one_before_ended() {
    let world = World::new().await;
    let raw = good().await;
    let config = hook(&world, &raw);
    let first = {
        let running = world.start(std::slice::from_ref(&config), &[TENANT]).await;
        let first = world.grow(&running, TENANT, 10).await;
        until_taken(&running, 10).await;
        first
    };
    let missed = world.log(TENANT, &["tool.x", "tool.y"]).await;
    let before = raw.asked().len();
    let running = world.start(&[config], &[TENANT]).await;
    until_taken(&running, 2).await;
    let after: Vec<_> = raw.asked()[before..].iter().flat_map(crate::webhook::ids).collect();
    assert_eq!(after, missed.iter().map(ToString::to_string).collect::<Vec<_>>(), "nothing comes twice");
    assert_eq!(all_ids(&raw)[..10], first);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_starts_now_gets_nothing_of_before() {
    let world = World::new().await;
    let raw = good().await;
    world.log(TENANT, &["tool.old"; 5]).await;
    // Times are in milliseconds: what is of the same one may come.
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    let config = Config { start: Start::Now, ..hook(&world, &raw) };
    let running = world.start(std::slice::from_ref(&config), &[TENANT]).await;
    let sent = world.grow(&running, TENANT, 3).await;
    until_taken(&running, 3).await;
    assert_eq!(all_ids(&raw), sent);
    drop(running);
    // It stays the moment of its first start.
    let late = world.tenant().await;
    let before = world.log(late, &["tool.a"]).await;
    let running = world.start(&[config], &[late]).await;
    until_taken(&running, 1).await;
    assert_eq!(all_ids(&raw)[3..], before.iter().map(ToString::to_string).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_that_was_overtaken_moves_no_cursor() {
    let world = World::new().await;
    let raw = Raw::start(Vec::new(), Deed::Hang).await;
    let old = world.start(&[hook(&world, &raw)], &[TENANT]).await;
    world.grow(&old, TENANT, 5).await;
    until("it is sending", async || !raw.asked().is_empty()).await;
    // Another node takes the shards.
    let epochs = world.store.run(|tx| Box::pin(async move { tx.claim_shards(2).await })).await;
    let epochs: Result<_, aesp_storage::Error> = epochs;
    let shards = Ownership::all(Incarnation(2), &epochs.unwrap());
    raw.mend(Deed::status("200 OK", "", ""));
    let new = world.start(&[hook(&world, &raw)], &[]).await;
    new.sinks.news(TENANT, shards.fence(TENANT.as_bytes()).unwrap());
    until_taken(&new, 5).await;
    until("the old one has given up", async || old.sinks.own_report("soc").unwrap().pending == 0).await;
    assert_eq!(old.sinks.own_report("soc").unwrap().taken, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn how_sinks_fare_is_told_by_every_node() {
    let world = World::new().await;
    let raw = good().await;
    let running = world.start(&[hook(&world, &raw)], &[TENANT]).await;
    world.grow(&running, TENANT, 1).await;
    until_taken(&running, 1).await;
    let (row, reports) = running.sinks.reports("soc").await.unwrap();
    assert_eq!(row.name, "soc");
    assert_eq!((reports.len(), reports[0].0, reports[0].1.taken), (1, Incarnation(1), 1));
    let unknown = running.sinks.reports("none").await.unwrap_err();
    assert_eq!(unknown.to_string(), "no audit sink is called none");
}
