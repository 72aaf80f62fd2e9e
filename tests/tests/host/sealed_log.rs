use std::{collections::BTreeMap, fs};

use aesp_merkle::{Checkpoint, Coordinates, Hash, leaf_hash, proof::is_consistent, root_of_path};
use aesp_sdk::{Client, Credentials, Error, ErrorCode, v1};
use aesp_tests::{Host, Tenant, Trio, World, nodes, platform, until};
use anyhow::{Context, ensure};
use data_encoding::HEXLOWER;
use serde_json::json;

use crate::support::{DENIALS, refused};

/// Returns the newest checkpoint, whose signature is checked.
async fn head(client: &Client, tenant: &Tenant) -> anyhow::Result<Checkpoint> {
    let tenant_id = tenant.id().to_owned();
    let keys = client.audit().get_log_keys(v1::GetLogKeysRequest { tenant_id: tenant_id.clone() }).await?;
    let note = client.audit().get_checkpoint(v1::GetCheckpointRequest { tenant_id }).await?.into_inner().note;
    let public: [u8; 32] =
        keys.into_inner().keys.pop().context("there is a key")?.public_key.try_into().unwrap();
    Ok(Checkpoint::open(&note, public)?)
}

async fn log_key(client: &Client, tenant: &Tenant) -> String {
    let request = v1::GetLogKeysRequest { tenant_id: tenant.id().to_owned() };
    let keys = client.audit().get_log_keys(request).await.unwrap().into_inner().keys;
    HEXLOWER.encode(&keys[0].public_key)
}

/// Adds events to the tenant's log.
async fn report(client: &Client, tenant: &Tenant, events: usize) {
    for _ in 0..events {
        let mut event = v1::AuditEvent {
            tenant_id: tenant.id().to_owned(),
            action: "door.open".into(),
            ..Default::default()
        };
        event.set_event_type(v1::EventType::SystemEvent);
        event.set_outcome(v1::Outcome::Success);
        client.audit().log_event(v1::LogEventRequest { event: Some(event) }).await.unwrap();
    }
}

fn hashes(all: &[Vec<u8>]) -> Vec<Hash> {
    all.iter().map(|hash| hash.as_slice().try_into().unwrap()).collect()
}

#[tokio::test]
async fn a_killed_home_is_followed_by_one_that_seals_on() {
    let mut trio = Trio::new().await.unwrap();
    let session = trio.session(0).await.unwrap();
    let mut seen: BTreeMap<u64, Hash> = BTreeMap::new();
    let mut origin = String::new();
    for round in 0..2 {
        for _ in 0..3 {
            report(&trio.administrator, &trio.acme, 3).await;
            let known = seen.keys().next_back().copied().unwrap_or(0);
            let newer = until("more is sealed", async || {
                let head = head(&trio.administrator, &trio.acme).await?;
                ensure!(head.size > known, "{} events are sealed", head.size);
                Ok(head)
            });
            let head = newer.await.unwrap();
            assert!(origin.is_empty() || origin == head.origin, "another log began");
            origin = head.origin;
            assert_eq!(*seen.entry(head.size).or_insert(head.root), head.root, "two roots of one size");
        }
        if round == 1 {
            break;
        }
        // The home of the tenant, which is where it is sealed, dies.
        let home = until("the tenant has a home", async || {
            let request = v1::GetTenantUsageRequest { tenant_id: trio.acme.id().to_owned() };
            let usage = trio.administrator.tenants().get_tenant_usage(request).await?.into_inner();
            usage.nodes.into_iter().find(|node| node.home).map(|node| node.name).context("nobody is it")
        });
        let home = home.await.unwrap();
        let node = trio.nodes.iter_mut().find(|node| node.name() == Some(home.as_str())).unwrap();
        node.process().kill().await.unwrap();
        until("two are left", async || {
            ensure!(nodes(&trio.administrator).await?.len() == 2);
            Ok(())
        })
        .await
        .unwrap();
    }
    drop(session);
    // From each size that anybody saw, a proof leads to the newest.
    let newest = head(&trio.administrator, &trio.acme).await.unwrap();
    for (from, root) in seen {
        let request = v1::GetConsistencyProofRequest {
            tenant_id: trio.acme.id().to_owned(),
            from_size: from,
            to_size: newest.size,
        };
        let proof = trio.administrator.audit().get_consistency_proof(request).await.unwrap().into_inner();
        assert_eq!(proof.from_root, root, "size {from}");
        assert_eq!(proof.to_root, newest.root);
        assert!(is_consistent((from, &root), (newest.size, &newest.root), &hashes(&proof.proof)));
    }
}

#[tokio::test]
async fn an_export_verifies_with_the_log_key_alone_and_against_the_one_before() {
    let world = World::new().await.unwrap();
    let _worker = world.echo().await.unwrap();
    let session = world.session().await.unwrap();
    session.call("echo", json!({ "text": "one" })).await.unwrap();
    let key = log_key(&world.administrator, &world.acme).await;
    let path = |name: &str| world.host.folder().join(name);
    let mut exports = Vec::new();
    for name in ["early.jsonl", "late.jsonl"] {
        let before = head(&world.administrator, &world.acme).await.map_or(0, |head| head.size);
        session.call("echo", json!({ "text": name })).await.unwrap();
        until("the call is sealed", async || {
            ensure!(head(&world.administrator, &world.acme).await?.size > before);
            Ok(())
        })
        .await
        .unwrap();
        fs::write(path(name), world.acme.export().await.unwrap()).unwrap();
        exports.push(path(name));
        // The keys are rotated in between: trust in the first one is enough.
        world.administrator.audit().rotate_log_key(v1::RotateLogKeyRequest {}).await.unwrap();
    }
    let verify = async |args: &[&str]| {
        let mut command = world.host.command();
        command.args(["--output", "json", "audit", "verify"]).args(args);
        let output = command.output().await.unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        (
            serde_json::from_slice::<serde_json::Value>(&output.stdout)
                .ok()
                .filter(|_| output.status.success()),
            errors,
        )
    };
    let [early, late] = [exports[0].to_str().unwrap(), exports[1].to_str().unwrap()];
    let (report, errors) = verify(&[late, "--log-key", &key, "--against", early]).await;
    let report = report.unwrap_or_else(|| panic!("{errors}"));
    assert_eq!((&report["trusted"], &report["checkpoints_trusted"]), (&json!(true), &json!(true)));
    assert!(report["logs"][0]["size"].as_u64().unwrap() > 5, "{report}");
    let (_, errors) = verify(&[early, "--log-key", &key, "--against", late]).await;
    assert!(errors.contains("the other export is the later one"), "{errors}");
    let (_, errors) = verify(&[late, "--log-key", &"ab".repeat(32)]).await;
    assert!(errors.contains("no log key in the header is a trusted one"), "{errors}");
    // Somebody turns one event of the export into another.
    let text = fs::read_to_string(&exports[1]).unwrap();
    let line = text.lines().position(|line| line.starts_with(r#"{"line":"event""#)).unwrap();
    let forged: Vec<String> = text
        .lines()
        .enumerate()
        .map(|(number, text)| if number == line { text.replacen("CAES", "CAUS", 1) } else { text.to_owned() })
        .collect();
    fs::write(path("forged.jsonl"), forged.join("\n") + "\n").unwrap();
    let (_, errors) = verify(&[path("forged.jsonl").to_str().unwrap(), "--log-key", &key]).await;
    assert!(errors.contains(&format!("line {}", line + 1)), "{errors}");
}

#[tokio::test]
async fn an_event_is_proven_on_the_command_line_and_by_rpc() {
    let world = World::new().await.unwrap();
    let _worker = world.echo().await.unwrap();
    let session = world.session().await.unwrap();
    let event = session.call("echo", json!({ "text": "one" })).await.unwrap().event_id;
    let request = v1::GetInclusionProofRequest {
        tenant_id: world.acme.id().to_owned(),
        event_id: event.clone(),
        ..Default::default()
    };
    let proof = until("the event is sealed", async || {
        Ok(world.administrator.audit().get_inclusion_proof(request.clone()).await?.into_inner())
    });
    let proof = proof.await.unwrap();
    let root = root_of_path(leaf_hash(&proof.leaf), proof.leaf_index, proof.size, &hashes(&proof.path));
    assert_eq!(root.unwrap().as_slice(), proof.root);

    let key = log_key(&world.administrator, &world.acme).await;
    let run = async |args: &[&str]| {
        let mut command = world.host.command();
        command.args(["--output", "json", "--tenant", world.acme.id(), "audit"]).args(args);
        command.env("AESP_API_KEY", world.host.administrator_key());
        let output = command.output().await.unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.success(), text, String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (proven, answer, errors) = run(&["prove", "--event", &event, "--log-key", &key]).await;
    assert!(proven && answer.contains("aesp/"), "{errors}");
    let (shown, answer, errors) = run(&["checkpoint", "--log-key", &key]).await;
    assert!(shown && answer.contains("aesp/"), "{errors}");
    let (shown, _, errors) = run(&["consistency", "--from", "1", "--log-key", &key]).await;
    assert!(shown, "{errors}");
    let (shown, answer, errors) = run(&["key", "status"]).await;
    assert!(shown && answer.contains("number"), "{errors}");
    let (proven, _, errors) = run(&["prove", "--event", &event, "--log-key", &"ab".repeat(32)]).await;
    assert!(!proven && errors.contains("not signed by the key that you gave"), "{errors}");
    let (proven, _, errors) = run(&["prove", "--index", "100000000"]).await;
    assert!(!proven && errors.contains("sealed events"), "{errors}");
}

/// Sends a request to the HTTPS listener; returns the status, the head and the body.
async fn get(host: &Host, path: &str, token: Option<&str>) -> (u16, String, Vec<u8>) {
    let bytes = until("there is an answer", async || host.get(path, token).await).await.unwrap();
    let end = bytes.windows(4).position(|part| part == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), head.to_lowercase(), bytes[end + 4..].to_vec())
}

#[tokio::test]
async fn tiles_go_to_those_who_may_prove_and_make_up_the_signed_tree() {
    let world = World::new().await.unwrap();
    let login = v1::AuthenticateServiceAccountRequest { api_key: world.host.administrator_key().to_owned() };
    let token = world.administrator.authentication().authenticate_service_account(login).await.unwrap();
    let token = token.into_inner().access_token;
    let base = format!("/audit/{}", world.acme.id());
    report(&world.administrator, &world.acme, 300).await;
    let note = until("the tile is full", async || {
        let (status, head, body) = get(&world.host, &format!("{base}/checkpoint"), Some(&token)).await;
        ensure!(status == 200 && head.contains("text/plain") && head.contains("no-store"), "{head}");
        let note = String::from_utf8(body)?;
        ensure!(Checkpoint::glance(&note).context("is a checkpoint")?.size > 300);
        Ok(note)
    });
    let sealed = Checkpoint::glance(&note.await.unwrap()).unwrap();
    let mut leaves = Vec::new();
    for (index, width) in [(0, 256), (1, sealed.size as usize - 256)] {
        let path = Coordinates { level: 0, index }.path(width);
        let (status, head, tile) = get(&world.host, &format!("{base}/{path}"), Some(&token)).await;
        assert_eq!((status, tile.len()), (200, width * 32), "{head}");
        assert_eq!(head.contains("immutable"), width == 256, "{head}");
        let entries = path.replace("tile/0/", "tile/entries/");
        let (status, _, mut entries) = get(&world.host, &format!("{base}/{entries}"), Some(&token)).await;
        assert_eq!(status, 200);
        let first = leaves.len();
        while let Some((length, rest)) = entries.split_first_chunk() {
            let (leaf, rest) = rest.split_at(u16::from_be_bytes(*length).into());
            leaves.push(leaf_hash(leaf));
            entries = rest.to_vec();
        }
        assert_eq!(leaves[first..].as_flattened(), tile);
    }
    assert_eq!(aesp_merkle::Tree::new(leaves).root(), sealed.root);
    for path in ["tile/0/999", "tile/0/0", "tile/entries/000.p/256", "nothing", "tile/9/000"] {
        let (status, _, body) = get(&world.host, &format!("{base}/{path}"), Some(&token)).await;
        assert_eq!(status, 404, "{path}: {}", String::from_utf8_lossy(&body));
    }
    // Strangers, those without the right, and another tenant's auditor see nothing.
    let plain = world.acme.account("plain", &["agent"]).await.unwrap();
    let globex = platform::create_tenant(&world.administrator, "globex").await.unwrap();
    let auditor = globex.account("auditor", &["auditor"]).await.unwrap();
    let mut refusals = vec![(None, 401), (Some("a.b.c".to_owned()), 401)];
    for (account, status) in [(&plain, 403), (&auditor, 403)] {
        let login = v1::AuthenticateServiceAccountRequest { api_key: account.api_key.clone() };
        let client = world.host.client(Credentials::ApiKey(account.api_key.as_str().into())).unwrap();
        let answer = client.authentication().authenticate_service_account(login).await.unwrap();
        refusals.push((Some(answer.into_inner().access_token), status));
    }
    for (token, expected) in refusals {
        for path in ["checkpoint", "tile/0/000", "tile/entries/000"] {
            let (status, _, body) = get(&world.host, &format!("{base}/{path}"), token.as_deref()).await;
            assert_eq!(status, expected, "{path}: {}", String::from_utf8_lossy(&body));
        }
    }
    let request = v1::GetCheckpointRequest { tenant_id: world.acme.id().to_owned() };
    let asked = plain.client(&world.host).unwrap().audit().get_checkpoint(request).await;
    refused(asked.map_err(|status| Error::from_status(&status)), &DENIALS);
    let rotated =
        auditor.client(&world.host).unwrap().audit().rotate_log_key(v1::RotateLogKeyRequest {}).await;
    refused(
        rotated.map_err(|status| Error::from_status(&status)),
        &[ErrorCode::TenantAccessDenied, ErrorCode::PermissionDenied, ErrorCode::AuthorizationDenied],
    );
}
