use aesp_sinks::Kind;
use aws_lc_rs::hmac;
use data_encoding::BASE64;
use serde_json::Value;

use crate::{
    fixture::{TENANT, World, seconds, sink, until},
    raw::{Asked, Deed, Raw},
};

/// Returns the ids of the events of a request.
pub(crate) fn ids(asked: &Asked) -> Vec<String> {
    let body: Value = serde_json::from_slice(&asked.body).unwrap();
    let events = body["events"].as_array().unwrap();
    events.iter().map(|event| event["event_id"].as_str().unwrap().to_owned()).collect()
}

/// Returns the ids of all events, each where it came first.
pub(crate) fn all_ids(raw: &Raw) -> Vec<String> {
    let mut all = Vec::new();
    for id in raw.asked().iter().flat_map(ids) {
        if !all.contains(&id) {
            all.push(id);
        }
    }
    all
}

fn is_signed(asked: &Asked, secret: &str) -> bool {
    let (id, at) = (asked.header("webhook-id").unwrap(), asked.header("webhook-timestamp").unwrap());
    assert!((seconds() - at.parse::<i64>().unwrap()).abs() < 60, "{at}");
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()));
    context.update(format!("{id}.{at}.").as_bytes());
    context.update(&asked.body);
    asked.header("webhook-signature") == Some(&format!("v1,{}", BASE64.encode(context.sign().as_ref())))
}

#[tokio::test(flavor = "multi_thread")]
async fn events_come_signed_and_in_order_and_a_new_secret_signs_without_a_restart() {
    let world = World::new().await;
    let raw = Raw::start(Vec::new(), Deed::status("204 No Content", "", "")).await;
    let mut config = sink(Kind::Webhook, format!("http://127.0.0.1:{}/hook?a=b", raw.port));
    config.secret = Some(world.secret("first secret").parse().unwrap());
    config.batch_events = 10;
    let running = world.start(&[config], &[TENANT]).await;
    let sent = world.grow(&running, TENANT, 25).await;
    until("all have come", async || all_ids(&raw).len() >= 25).await;
    assert_eq!(all_ids(&raw), sent);
    let asked = raw.asked();
    assert!(asked.iter().all(|asked| is_signed(asked, "first secret") && ids(asked).len() <= 10));
    assert!(asked[0].head.starts_with("POST /hook?a=b HTTP/1.1"), "{}", asked[0].head);
    let event = &serde_json::from_slice::<Value>(&asked[0].body).unwrap()["events"][0];
    assert_eq!(event["event_type"], "TOOL_INVOCATION");
    assert_eq!(event["action"], "tool.0");
    assert_eq!(event["reason"], "a \"quoted\" reason]\nof two lines");

    world.secret("second secret");
    until("the new secret signs", async || {
        world.grow(&running, TENANT, 1).await;
        raw.asked().iter().any(|asked| is_signed(asked, "second secret"))
    })
    .await;
    assert_eq!(running.sinks.own_report("soc").unwrap().cause, "");
}
