use std::{fs, path::Path, sync::Arc};

use aesp_merkle::leaf_hash;
use aesp_sdk::{Client, Credentials, PublicKey, Receipt, v1};
use aesp_storage::{FileKeyProvider, Kind, LmdbOptions, Range, Store, row_key};
use aesp_tests::{Tenant, Trio, World, on_foundationdb, soon};
use data_encoding::HEXLOWER;
use serde_json::{Value, json};
use tokio::process::Command;

/// Returns the first log key and the keys that sign batches.
async fn keys(tenant: &Tenant, administrator: &Client) -> (String, Vec<PublicKey>) {
    let request = v1::GetLogKeysRequest { tenant_id: tenant.id().to_owned() };
    let answer = administrator.audit().get_log_keys(request).await.unwrap().into_inner();
    let batch = answer.batch_keys.iter().map(|key| PublicKey(key.public_key.as_slice().try_into().unwrap()));
    (HEXLOWER.encode(&answer.keys[0].public_key), batch.collect())
}

/// Runs a command; returns its answer, or nothing and what it said instead.
async fn run(mut command: Command, args: &[&str]) -> (Option<Value>, String) {
    let output = command.args(["--output", "json"]).args(args).output().await.unwrap();
    let answer = serde_json::from_slice(&output.stdout).ok().filter(|_| output.status.success());
    (answer, String::from_utf8_lossy(&output.stderr).into_owned())
}

fn keep(file: &Path, receipts: &[&Receipt]) {
    let lines: String = receipts.iter().map(|receipt| receipt.to_line().unwrap() + "\n").collect();
    fs::write(file, lines).unwrap();
}

#[tokio::test]
async fn what_a_killed_owner_answered_is_in_the_log_of_the_others() {
    let mut trio = Trio::new().await.unwrap();
    let _workers = trio.workers(|runtime| runtime.tool("echo", async |_, args| Ok(args))).await.unwrap();
    // Two agents: one at the owner, one whose calls another node forwards to it.
    let near = trio.session(0).await.unwrap();
    let far = trio.through(1, &near).await.unwrap();
    let mut receipts = Vec::new();
    for (session, id) in [(&near, "near"), (&far, "far")] {
        let call = session.call("echo", json!({ "text": id })).with_invocation_id(id);
        let result = soon("the call is answered", call.send()).await.unwrap().unwrap();
        receipts.push((result.event_id.clone(), result.receipt.expect("every answer has one")));
    }
    trio.nodes[0].process().kill().await.unwrap();

    let rest: Vec<_> = trio.nodes[1..].iter().collect();
    let key = Credentials::ApiKey(trio.site.administrator_key().into());
    let administrator = trio.site.client(&rest, key).unwrap();
    let acme = trio.acme.through(administrator.clone());
    let (log_key, batch_keys) = keys(&acme, &administrator).await;
    for (event, receipt) in &receipts {
        let shown = receipt.verify(&batch_keys).unwrap();
        assert_eq!(shown.event.to_string(), *event);
        assert_eq!(
            (shown.leaf.action.as_str(), shown.tenant.to_string().as_str()),
            ("tool.invoke", acme.id())
        );
    }
    let folder = trio.site.folder();
    let (export, kept) = (folder.join("acme.jsonl"), folder.join("kept.jsonl"));
    fs::write(&export, acme.export().await.unwrap()).unwrap();
    keep(&kept, &[&receipts[0].1, &receipts[1].1]);
    let [export, kept] = [export.to_str().unwrap(), kept.to_str().unwrap()];
    let verify = ["audit", "verify-receipt", kept, "--export", export, "--log-key", &log_key];
    let (report, errors) = run(trio.nodes[1].command(), &verify).await;
    let report = report.unwrap_or_else(|| panic!("{errors}"));
    assert_eq!((&report["trusted"], &report["in_log"]), (&json!(true), &json!(true)));
    assert_eq!(report["receipts"][1]["event_id"], json!(receipts[1].0));

    // A repeat is answered by who owns the session now, with the receipt of what it records itself.
    let again = trio.through(1, &near).await.unwrap();
    let call = again.call("echo", json!({ "text": "near" })).with_invocation_id("near");
    let again = soon("the call is answered", call.send()).await.unwrap().unwrap();
    assert!(again.replayed && again.event_id == receipts[0].0);
    let shown = again.receipt.unwrap().verify(&batch_keys).unwrap();
    assert_eq!(shown.leaf.action, "tool.answer");
}

#[tokio::test]
async fn receipts_are_kept_and_checked_on_the_command_line() {
    let world = World::new().await.unwrap();
    let _worker = world.echo().await.unwrap();
    let session = world.session().await.unwrap();
    let kept = world.host.folder().join("kept.jsonl");
    let kept = kept.to_str().unwrap();
    for text in ["one", "two"] {
        let mut command = world.host.command();
        command.env("AESP_API_KEY", &world.agent.api_key);
        let arguments = json!({ "text": text }).to_string();
        let call = ["call", "echo", "--session", session.id(), "--args", &arguments, "--receipt", kept];
        let (answer, errors) = run(command, &call).await;
        assert_eq!(answer.unwrap_or_else(|| panic!("{errors}"))["result"], json!({ "text": text }));
    }
    let (log_key, batch_keys) = keys(&world.acme, &world.administrator).await;
    let verify = async |args: &[&str]| {
        let mut command = world.host.command();
        command.env("AESP_API_KEY", world.host.administrator_key());
        run(command, &[&["audit", "verify-receipt", kept], args].concat()).await
    };
    let batch_key = HEXLOWER.encode(&batch_keys[0].0);
    let (report, errors) = verify(&["--key", &batch_key]).await;
    let report = report.unwrap_or_else(|| panic!("{errors}"));
    assert_eq!((&report["trusted"], &report["in_log"]), (&json!(true), &json!(false)));
    // The log key has been followed by another since: it still leads to what certifies and signs now.
    world.administrator.audit().rotate_log_key(v1::RotateLogKeyRequest {}).await.unwrap();
    let (report, errors) = verify(&["--online", "--log-key", &log_key]).await;
    let report = report.unwrap_or_else(|| panic!("{errors}"));
    assert_eq!((&report["trusted"], &report["in_log"]), (&json!(true), &json!(true)));
    assert_eq!(report["receipts"].as_array().unwrap().len(), 2);
    let stranger = "ab".repeat(32);
    for (args, why) in [
        (vec![], "does not bring the key"),
        (vec!["--key", &stranger], "none of those that are trusted"),
        (vec!["--online", "--log-key", &stranger], "none of those that are trusted"),
        (vec!["--export", kept], "does not verify"),
    ] {
        let (report, errors) = verify(&args).await;
        assert!(report.is_none() && errors.contains(why), "{args:?}: {errors}");
    }
    let text = fs::read_to_string(kept).unwrap();
    fs::write(kept, text.replacen("CAES", "CAUS", 1)).unwrap();
    let (report, errors) = verify(&["--key", &batch_key]).await;
    assert!(report.is_none() && errors.contains("line 1"), "{errors}");
}

#[tokio::test]
async fn what_was_taken_from_the_store_before_it_was_sealed_is_named() {
    if on_foundationdb() {
        eprintln!("skipped: the hand on the store is one on LMDB's files");
        return;
    }
    // Nothing is sealed before the node is killed: else the checkpoint would show it.
    let mut world = World::new().await.unwrap();
    let _worker = world.echo().await.unwrap();
    let session = world.session().await.unwrap();
    let result = session.call("echo", json!({ "text": "gone" })).await.unwrap();
    let receipt = result.receipt.unwrap();
    world.host.process().kill().await.unwrap();

    let hash = leaf_hash(receipt.leaf());
    let (tenant, _) = receipt.told().unwrap();
    let data = world.host.folder().join("data");
    let key = Arc::new(FileKeyProvider::open(&data.join("master.key")).unwrap());
    let store = Store::lmdb(&data.join("store"), LmdbOptions::default(), key).await.unwrap();
    store.initialise().await.unwrap();
    let cut = store.run(move |tx| {
        Box::pin(async move {
            // The events and batches from this one on, and all that was sealed: a log that never was longer, nor sealed.
            let rows = tx.range_raw(Range::prefix(&row_key(tenant, Kind::AUDIT_EVENT, &[]))).await?;
            let first = rows.iter().position(|(_, leaf)| leaf_hash(leaf) == hash).unwrap();
            let from = &rows[first].0[18..32];
            for kind in [Kind::AUDIT_EVENT, Kind::AUDIT_BATCH] {
                let prefix = row_key(tenant, kind, &[]);
                let end = Range::prefix(&prefix).end;
                tx.clear_range_raw(&[prefix.as_slice(), from].concat(), &end)?;
            }
            for kind in
                [Kind::LOG_STATE, Kind::LOG_TILE, Kind::LOG_BUNDLE, Kind::LOG_CHECKPOINT, Kind::LOG_LEAF]
            {
                let range = Range::prefix(&row_key(tenant, kind, &[]));
                tx.clear_range_raw(&range.start, &range.end)?;
            }
            Ok::<_, aesp_storage::Error>(())
        })
    });
    cut.await.unwrap();
    drop(store);
    world.host.restart().await.unwrap();

    let folder = world.host.folder();
    let (export, kept) = (folder.join("acme.jsonl"), folder.join("kept.jsonl"));
    fs::write(&export, world.acme.export().await.unwrap()).unwrap();
    keep(&kept, &[&receipt]);
    let [export, kept] = [export.to_str().unwrap(), kept.to_str().unwrap()];
    let (whole, errors) = run(world.host.command(), &["audit", "verify", export]).await;
    assert!(whole.is_some(), "the export alone shows nothing wrong: {errors}");
    let (report, errors) =
        run(world.host.command(), &["audit", "verify-receipt", kept, "--export", export]).await;
    assert!(report.is_none(), "the loss was not found");
    let lost = format!("the log has lost an event that was acknowledged: {}", result.event_id);
    assert!(errors.contains(&lost), "{errors}");
}
