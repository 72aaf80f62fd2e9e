use std::{collections::BTreeMap, fs};

use aesp_sdk::v1::InvocationStatus;
use aesp_tests::{World, soon};
use futures::future::join_all;
use serde_json::json;

#[tokio::test]
async fn a_killed_node_forgets_nothing_that_it_answered() {
    let mut world = World::new().await.unwrap();
    let _worker = world.echo().await.unwrap();
    let session = world.session().await.unwrap();
    let calls = (0..200).map(|n| {
        let call = session.call("echo", json!({ "text": format!("{n}") }));
        let call = call.with_invocation_id(format!("call-{n}"));
        async move { call.await.unwrap() }
    });
    let answered: BTreeMap<String, String> = soon("the calls end", join_all(calls))
        .await
        .unwrap()
        .into_iter()
        .map(|result| (result.invocation_id.clone(), result.event_id.clone()))
        .collect();
    assert_eq!(answered.len(), 200);
    world.host.process().kill().await.unwrap();
    world.host.restart().await.unwrap();

    for n in [0, 1, 99, 199] {
        let id = format!("call-{n}");
        let call = session.call("echo", json!({ "text": format!("{n}") })).with_invocation_id(&id);
        let again = soon("the call is answered", call.send()).await.unwrap().unwrap();
        assert!(again.replayed, "{id} ran again");
        assert_eq!(again.outcome.unwrap(), json!({ "text": format!("{n}") }));
    }
    let known = session.invocation("call-7").await.unwrap();
    assert_eq!(known.status(), InvocationStatus::InvocationSucceeded);

    let export = world.host.folder().join("acme.jsonl");
    let log = world.acme.export().await.unwrap();
    fs::write(&export, &log).unwrap();
    let text = String::from_utf8(log).unwrap();
    for event in answered.values() {
        assert!(text.contains(event), "{event} was answered and is not in the log");
    }
    let mut verify = world.host.command();
    verify.args(["audit", "verify"]).arg(&export);
    let verified = verify.output().await.unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
}
