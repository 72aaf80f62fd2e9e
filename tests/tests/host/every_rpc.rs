use aesp_proto::Access;
use aesp_sdk::{
    Client, Credentials, Error, ErrorCode,
    v1::{self, Outcome},
};
use aesp_tests::{HOUR, World, descriptors::every_rpc, until};
use prost::Message;
use prost_reflect::FieldDescriptor;

use crate::support::DENIALS;

const UNAUTHENTICATED: [ErrorCode; 3] =
    [ErrorCode::AuthenticationFailed, ErrorCode::InvalidCredentials, ErrorCode::CertificateInvalid];

/// Fills every field that names something with what exists, so that nothing but the missing right is in the way.
fn plausible(world: &World, session: &str, field: &FieldDescriptor) -> Option<String> {
    // A claim to be somebody is refused before anything is decided.
    if field.parent_message().name() == "EnterpriseSecurityContext" {
        return None;
    }
    Some(match field.name() {
        "tenant_id" => world.acme.id().to_owned(),
        "session_id" => session.to_owned(),
        "principal_id" => world.agent.principal.principal_id.clone(),
        "runtime_id" => "worker".into(),
        "version" => "1.0.0".into(),
        "invocation_id" => "one".into(),
        "role" => "caller".into(),
        "key" => "runtime.mode".into(),
        "name" => "echo".into(),
        _ => return None,
    })
}

#[tokio::test]
async fn nobody_reaches_anything_without_proof_of_who_they_are() {
    let world = World::new().await.unwrap();
    let session = world.session().await.unwrap();
    let stranger = world.host.issue("stranger").await.unwrap();
    let by_certificate =
        Client::builder(world.host.tls(Some(&stranger)).unwrap()).endpoint(world.host.endpoint());
    let strangers = [
        ("an empty token", world.host.client(Credentials::Token("".into())).unwrap()),
        ("a made-up token", world.host.client(Credentials::Token("a.b.c".into())).unwrap()),
        ("a certificate that nobody bound", by_certificate.build().unwrap()),
    ];
    let mut wrong = Vec::new();
    for rpc in every_rpc().iter().filter(|rpc| !rpc.is_public()) {
        for (who, client) in &strangers {
            let request = rpc.request(&mut |field| plausible(&world, session.id(), field));
            match rpc.call(client, request).await {
                Err(error) if UNAUTHENTICATED.contains(&error.code()) => {}
                other => wrong.push(format!("{} with {who}: {other:?}", rpc.path)),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn a_request_without_any_authorization_reaches_nothing_and_is_counted() {
    let world = World::new().await.unwrap();
    let session = world.session().await.unwrap();
    let bare = world.host.bare().await.unwrap();
    let mut wrong = Vec::new();
    for rpc in every_rpc().iter().filter(|rpc| !rpc.is_public()) {
        let request = rpc.request(&mut |field| plausible(&world, session.id(), field));
        match rpc.send_through(bare.clone(), request.encode_to_vec()).await {
            Err(error) if UNAUTHENTICATED.contains(&error.code()) && error.remediation().is_some() => {}
            other => wrong.push(format!("{}: {other:?}", rpc.path)),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // Nobody knows whose they were: they are counted in the platform's log.
    let expected = every_rpc().iter().filter(|rpc| rpc.operation.access == Access::Authorized).count() as u64;
    until("the refusals are recorded", async || {
        let query = v1::QueryEventsRequest { action: "none".into(), ..Default::default() };
        let found = world.administrator.audit().query_events(query).await?.into_inner();
        let counted: u64 = found.events.iter().map(|event| event.count.max(1)).sum();
        anyhow::ensure!(counted >= expected, "{counted} of {expected}");
        Ok(())
    })
    .await
    .unwrap();
}

/// What an account without roles hears: that it may not, or that there is no such thing for it.
fn is_refusal(error: &Error) -> bool {
    DENIALS.contains(&error.code())
        || matches!(error.code(), ErrorCode::RoleRequired | ErrorCode::SessionInvalid | ErrorCode::NotFound)
}

fn denied(answer: &[u8]) -> bool {
    let answer = v1::AuthorizeToolCallResponse::decode(answer).unwrap();
    answer.status() == v1::AuthorizationStatus::Denied && answer.error.is_some()
}

#[tokio::test]
async fn an_account_without_roles_may_nothing_and_each_refusal_is_recorded() {
    let world = World::new().await.unwrap();
    let session = world.session().await.unwrap();
    let bare = world.acme.account("bare", &[]).await.unwrap();
    let client = bare.client(&world.host).unwrap();
    let mut wrong = Vec::new();
    for rpc in every_rpc().iter().filter(|rpc| rpc.operation.access == Access::Authorized) {
        let count = async || {
            let query = v1::QueryEventsRequest {
                principal_id: bare.principal.principal_id.clone(),
                action: rpc.operation.action.clone(),
                outcome: Outcome::Denied.into(),
                ..Default::default()
            };
            world.acme.events(query).await.unwrap().iter().map(|event| event.count.max(1)).sum::<u64>()
        };
        let before = count().await;
        let request = rpc.request(&mut |field| plausible(&world, session.id(), field));
        match rpc.call(&client, request).await {
            Err(error) if is_refusal(&error) => {}
            // This one answers its refusals.
            Ok(Some(answer)) if rpc.path.ends_with("/AuthorizeToolCall") && denied(&answer) => {}
            other => wrong.push(format!("{}: {other:?}", rpc.path)),
        }
        if count().await == before {
            wrong.push(format!("{}: no denied event of {}", rpc.path, rpc.operation.action));
        }
    }
    assert!(client.session(HOUR).await.is_err());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
