//! What a sink may do wrong: each is named in its report, nothing is lost, and the order is kept.

use aesp_sinks::{Config, Kind};

use crate::{
    fixture::{TENANT, World, sink, until, until_cause},
    raw::{Deed, Raw},
    webhook::all_ids,
};

fn hook(world: &World, port: u16) -> Config {
    let mut config = sink(Kind::Webhook, format!("http://127.0.0.1:{port}/"));
    config.secret = Some(world.secret("secret").parse().unwrap());
    config.timeout_ms = 500;
    config
}

fn good() -> Deed {
    Deed::status("200 OK", "", "")
}

/// Lets a sink do wrong, hears of it, lets it do right, and sees that everything came in order.
async fn wronged(deed: Deed, cause: &str) -> String {
    let world = World::new().await;
    let raw = Raw::start(Vec::new(), deed).await;
    let running = world.start(&[hook(&world, raw.port)], &[TENANT]).await;
    let sent = world.grow(&running, TENANT, 5).await;
    let why = until_cause(&running, cause).await;
    assert!(!why.contains("secret"), "{why}");
    raw.mend(good());
    until_cause(&running, "").await;
    let ids = all_ids(&raw);
    // Behind them may be the events that tell of the trouble.
    assert_eq!(ids[..5], sent);
    why
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_to_another_host_is_not_followed() {
    let elsewhere = Raw::start(Vec::new(), good()).await;
    let location = format!("location: http://127.0.0.1:{}/\r\n", elsewhere.port);
    let why = wronged(Deed::status("307 Temporary Redirect", &location, ""), "redirected").await;
    assert!(why.contains("307"), "{why}");
    assert!(elsewhere.asked().is_empty(), "events went to another host");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_is_silent_is_slow() {
    let why = wronged(Deed::Hang, "slow").await;
    assert!(why.contains("500 ms"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_is_none() {
    wronged(Deed::Cut("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{".into()), "unreachable").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn something_else_than_http_is_told() {
    wronged(Deed::Cut("SSH-2.0-OpenSSH_9.2\r\n".into()), "unreachable").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_sink_is_busy_and_its_own_words_are_shown() {
    let why = wronged(Deed::status("507 Insufficient Storage", "", "disk\u{7} full"), "busy").await;
    assert_eq!(why, "HTTP status 507: disk  full");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_does_not_know_the_host_refuses_it() {
    wronged(Deed::status("401 Unauthorized", "", "who are you"), "refused").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_answer_is_not_read_to_its_end() {
    let body = "x".repeat(5 << 20);
    let why = wronged(Deed::status("200 OK", "", &body), "garbled").await;
    assert!(why.contains("more than 4194304 bytes"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_is_away_is_waited_for() {
    let world = World::new().await;
    let port = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().port()
    };
    let running = world.start(&[hook(&world, port)], &[TENANT]).await;
    world.grow(&running, TENANT, 3).await;
    let why = until_cause(&running, "unreachable").await;
    assert!(why.contains("refused"), "{why}");
    let report = running.sinks.own_report("soc").unwrap();
    assert!(report.pending >= 3 && report.taken == 0, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_event_that_is_refused_is_put_aside_and_the_others_come() {
    let world = World::new().await;
    let refuse = || Deed::status("400 Bad Request", "", "no such field");
    // The first with the two others; then the first alone.
    let raw = Raw::start(vec![refuse(), refuse()], good()).await;
    let mut config = hook(&world, raw.port);
    config.batch_events = 3;
    config.batch_ms = 1_000;
    let running = world.start(&[config], &[TENANT]).await;
    let sent = world.grow(&running, TENANT, 3).await;
    until("a dead letter is there", async || {
        !running.sinks.dead_letters("soc", TENANT, None, 10).await.unwrap().is_empty()
    })
    .await;
    let dead = running.sinks.dead_letters("soc", TENANT, None, 10).await.unwrap();
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].event.to_string(), sent[0]);
    assert_eq!(dead[0].why, "HTTP status 400: no such field");
    until("the others come", async || running.sinks.own_report("soc").unwrap().taken >= 2).await;
    // The sink is mended: what was put aside goes.
    let retried = running.sinks.retry("soc", TENANT).await.unwrap();
    assert_eq!((retried.delivered, retried.refused, retried.more), (1, 0, false));
    assert!(running.sinks.dead_letters("soc", TENANT, None, 10).await.unwrap().is_empty());
    assert!(running.sinks.retry("none", TENANT).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_not_there_holds_up_the_sink_and_not_the_node() {
    let world = World::new().await;
    let raw = Raw::start(Vec::new(), good()).await;
    let mut config = hook(&world, raw.port);
    let path = world.folder.path().join("later");
    config.secret = Some(format!("file:{}", path.display()).parse().unwrap());
    let running = world.start(&[config], &[TENANT]).await;
    let sent = world.grow(&running, TENANT, 2).await;
    let why = until_cause(&running, "refused").await;
    assert!(why.contains("No such file"), "{why}");
    assert!(raw.asked().is_empty());
    std::fs::write(path, "secret").unwrap();
    until_cause(&running, "").await;
    assert_eq!(all_ids(&raw)[..2], sent);
}
