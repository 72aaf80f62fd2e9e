use aesp_proto::Access;
use aesp_sdk::{Session, v1};
use aesp_tests::{Certificate, Contract, HOUR, Tenant, Worker, World, descriptors::every_rpc, platform};
use prost::Message;
use prost_reflect::ReflectMessage;
use serde_json::json;

use crate::owner::Owned;

/// Whether the answer shows anything of the other tenant; to a question about a name it only repeats the question.
fn shows(bytes: &[u8], secrets: &[&str]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    secrets.iter().any(|secret| text.contains(secret))
}

#[tokio::test]
async fn no_rpc_does_or_shows_anything_of_another_tenant() {
    let world = World::new().await.unwrap();
    let _worker = world.echo().await.unwrap();
    let theirs = world.session().await.unwrap();
    let call = theirs.call("echo", json!({ "text": "acme-only" })).with_invocation_id("one");
    call.await.unwrap();
    let globex = platform::create_tenant(&world.administrator, "globex").await.unwrap();
    globex.offer(Contract::new("own")).await.unwrap();
    let intruder = globex.account("boss", &["tenant-admin", "agent", "operator", "auditor"]).await.unwrap();
    let intruder = intruder.client(&world.host).unwrap();
    let principal = &world.agent.principal;
    // What no answer to the intruder may have: their names and contents. The ids are in the questions.
    let secrets = ["acme-only", "assistant", "acme Ltd"];

    let mut wrong = Vec::new();
    for rpc in every_rpc().iter().filter(|rpc| rpc.operation.access == Access::Authorized) {
        for by_name in [false, true] {
            let request = rpc.request(&mut |field| {
                Some(match field.name() {
                    "tenant_id" | "tenant_ids" | "offered_to" if by_name => "acme".into(),
                    "tenant_id" | "tenant_ids" | "offered_to" => world.acme.id().into(),
                    "session_id" => theirs.id().into(),
                    "principal_id" => principal.principal_id.clone(),
                    "invocation_id" => "one".into(),
                    "runtime_id" => "worker".into(),
                    "certificate_identity" => world.certificate.identity.clone(),
                    "confirm_name" => "acme".into(),
                    "key" => "runtime.mode".into(),
                    "value" => "DEVELOPMENT".into(),
                    "role" => "caller".into(),
                    "name" => "echo".into(),
                    "version" => "1.0.0".into(),
                    _ => return None,
                })
            });
            let asks_about_them = request.descriptor().fields().any(|field| {
                matches!(
                    field.name(),
                    "tenant_id" | "session_id" | "principal_id" | "runtime_id" | "tenant_ids"
                )
            });
            match rpc.call(&intruder, request).await {
                Ok(answer) if asks_about_them => {
                    wrong.push(format!("{} was let through: {:?}", rpc.path, answer.map(|a| a.len())));
                }
                Ok(answer) if shows(answer.as_deref().unwrap_or_default(), &secrets) => {
                    wrong.push(format!("{} shows what is theirs", rpc.path));
                }
                Ok(_) => {}
                Err(error) if shows(format!("{error:?}").as_bytes(), &secrets) => {
                    wrong.push(format!("{} shows what is theirs in its error: {error:?}", rpc.path));
                }
                Err(_) => {}
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // Nothing of theirs was harmed.
    theirs.call("echo", json!({ "text": "still here" })).await.unwrap().into_content().unwrap();
}

/// What names nothing of another's: the intruder does it for itself.
const OWN: [&str; 2] =
    ["/aesp.v1.AgentService/CreateSession", "/aesp.v1.EnterpriseAuthenticationService/ValidateToken"];

#[tokio::test]
async fn what_is_refused_to_another_tenant_succeeds_for_its_owner_and_is_recorded() {
    let owned = Owned::new().await;
    let globex = platform::create_tenant(&owned.world.administrator, "globex").await.unwrap();
    let roles = ["tenant-admin", "agent", "operator", "auditor"];
    let intruder = globex.account("boss", &roles).await.unwrap().client(&owned.world.host).unwrap();
    let mut wrong = Vec::new();
    for rpc in every_rpc().iter().filter(|rpc| rpc.operation.access == Access::Authorized) {
        let request = owned.request(&rpc.path);
        let stolen = rpc.send(&intruder, request.clone()).await;
        let refused = match &stolen {
            Err(_) => true,
            Ok(Some(answer)) if rpc.path.ends_with("/AuthorizeToolCall") => {
                let answer = v1::AuthorizeToolCallResponse::decode(answer.as_slice()).unwrap();
                answer.status() == v1::AuthorizationStatus::Denied
            }
            Ok(Some(answer)) if rpc.path.ends_with("/ValidateToken") => {
                !v1::ValidateTokenResponse::decode(answer.as_slice()).unwrap().valid
            }
            Ok(_) => OWN.contains(&rpc.path.as_str()),
        };
        if !refused {
            wrong.push(format!("{} did it for another tenant", rpc.path));
        }
        // These need a cluster; see the tests of it.
        let clusters = ["/DrainNode", "/RemoveNode", "/CreateJoinToken", "/RevokeJoinToken"];
        if clusters.iter().any(|rpc_of| rpc.path.ends_with(rpc_of)) {
            continue;
        }
        let (owner, principal) = owned.performer(&rpc.path).await;
        // A tool that runs at the agent leaves its intent; its end comes with the result.
        let local = rpc.path.ends_with("/AuthorizeToolCall");
        let action = if local { "tool.intent" } else { rpc.operation.action.as_str() };
        let before = owned.done(&principal, action).await;
        if let Err(error) = rpc.send(owner, request).await {
            wrong.push(format!("{} refused its owner: {error:?}", rpc.path));
        } else if owned.done(&principal, action).await == before {
            wrong.push(format!("{} left no event of {action}", rpc.path));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Two tenants that share a Runtime.
struct Shared {
    world: World,
    globex: Tenant,
    certificate: Certificate,
}

impl Shared {
    async fn new() -> Self {
        let world = World::new().await.unwrap();
        let globex = platform::create_tenant(&world.administrator, "globex").await.unwrap();
        globex.role("caller", &["*"]).await.unwrap();
        globex.offer(Contract::new("whose")).await.unwrap();
        world.acme.offer(Contract::new("whose")).await.unwrap();
        let certificate = platform::register(&world.host, "shared", &[&world.acme, &globex]).await.unwrap();
        Self { world, globex, certificate }
    }

    /// Starts the Runtime, which says whose a call is.
    async fn runtime(&self) -> Worker {
        let runtime = Worker::builder(&self.world.host, "shared", &self.certificate).unwrap();
        let runtime = runtime.tool("whose", async |call, _| Ok(json!({ "tenant": call.tenant_id })));
        Worker::start(runtime).await.unwrap()
    }

    /// Opens a session of the other tenant.
    async fn theirs(&self) -> Session {
        let visitor = self.globex.account("visitor", &["caller"]).await.unwrap();
        visitor.client(&self.world.host).unwrap().session(HOUR).await.unwrap()
    }
}

#[tokio::test]
async fn two_tenants_share_a_runtime_and_an_invocation_id_and_never_meet() {
    let shared = Shared::new().await;
    let _worker = shared.runtime().await;
    let (ours, theirs) = (shared.world.session().await.unwrap(), shared.theirs().await);
    for (session, tenant) in [(&ours, &shared.world.acme), (&theirs, &shared.globex)] {
        let result = session.call("whose", json!({})).with_invocation_id("same").await.unwrap();
        assert!(!result.replayed);
        assert_eq!(result.into_content().unwrap(), json!({ "tenant": tenant.id() }));
        let events = tenant.events(v1::QueryEventsRequest::default()).await.unwrap();
        assert!(events.iter().all(|event| event.tenant_id == tenant.id()));
    }
}

#[tokio::test]
async fn a_suspended_tenant_takes_no_runtime_away_from_another() {
    let shared = Shared::new().await;
    let tenant_id = shared.world.acme.id().to_owned();
    let request = v1::SuspendTenantRequest { tenant_id, reason: "unpaid".into() };
    shared.world.administrator.tenants().suspend_tenant(request).await.unwrap();
    let _worker = shared.runtime().await;
    let result = shared.theirs().await.call("whose", json!({})).await.unwrap();
    assert_eq!(result.into_content().unwrap(), json!({ "tenant": shared.globex.id() }));
}
