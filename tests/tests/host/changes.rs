use aesp_sdk::{
    Client, Credentials, Error, ErrorCode,
    v1::{self, Outcome},
};
use aesp_tests::{Contract, World, platform};

use crate::support::refused;

async fn events(world: &World, action: &str, outcome: Outcome) -> usize {
    let query =
        v1::QueryEventsRequest { action: action.into(), outcome: outcome.into(), ..Default::default() };
    world.acme.events(query).await.unwrap().len()
}

async fn owner(world: &World) -> Client {
    world.acme.account("owner", &["tenant-admin"]).await.unwrap().client(&world.host).unwrap()
}

fn heard<T>(answer: Result<tonic::Response<T>, tonic::Status>) -> Result<T, Error> {
    answer.map(tonic::Response::into_inner).map_err(|status| Error::from_status(&status))
}

#[tokio::test]
async fn a_change_that_fails_leaves_one_failure() {
    let world = World::new().await.unwrap();
    let owner = owner(&world).await;
    let tenant_id = world.acme.id().to_owned();
    let role = v1::Role { name: "caller".into(), ..Default::default() };
    let request = v1::CreateRoleRequest { tenant_id: tenant_id.clone(), role: Some(role) };
    assert!(owner.authorization().create_role(request).await.is_err(), "a role was made twice");
    assert_eq!(events(&world, "role.create", Outcome::Failure).await, 1);
    let request = v1::CreateRoleRequest { tenant_id: tenant_id.clone(), role: None };
    assert!(owner.authorization().create_role(request).await.is_err());
    assert_eq!(events(&world, "role.create", Outcome::Failure).await, 2);

    let request = v1::DeletePolicyRequest { tenant_id: tenant_id.clone(), policy_id: "no id".into() };
    assert!(owner.policies().delete_policy(request).await.is_err());
    assert_eq!(events(&world, "policy.delete", Outcome::Failure).await, 1);
    let draft = v1::ContractDraft { parameters_json: "no JSON".into(), ..Contract::new("broken").0 };
    let request = v1::CreateContractRequest { tenant_id: tenant_id.clone(), draft: Some(draft) };
    assert!(owner.catalog().create_contract(request).await.is_err());
    assert_eq!(events(&world, "contract.create", Outcome::Failure).await, 1);
    let request = v1::RevokeRoleRequest {
        tenant_id,
        principal_id: world.agent.principal.principal_id.clone(),
        role: "auditor".into(),
    };
    refused(heard(owner.authorization().revoke_role(request).await), &[ErrorCode::NotFound]);
    assert_eq!(events(&world, "role.revoke", Outcome::Failure).await, 1);
    assert_eq!(events(&world, "role.revoke", Outcome::Success).await, 0, "nothing was revoked");
}

#[tokio::test]
async fn what_is_refused_after_the_grant_is_on_record() {
    let world = World::new().await.unwrap();
    let owner = owner(&world).await;
    let globex = platform::create_tenant(&world.administrator, "globex").await.unwrap();
    for named in [globex.id(), "globex", "nobody"] {
        let before = events(&world, "contract.create", Outcome::Denied).await;
        let draft = v1::ContractDraft { offered_to: vec![named.into()], ..Contract::new("gift").0 };
        let request = v1::CreateContractRequest { tenant_id: world.acme.id().into(), draft: Some(draft) };
        refused(heard(owner.catalog().create_contract(request).await), &[ErrorCode::TenantAccessDenied]);
        assert_eq!(events(&world, "contract.create", Outcome::Denied).await, before + 1, "{named}");
    }

    let theirs = globex.account("visitor", &["agent"]).await.unwrap();
    let login = v1::AuthenticateServiceAccountRequest { api_key: theirs.api_key };
    let tokens = owner.authentication().authenticate_service_account(login).await.unwrap().into_inner();
    for token in [&tokens.access_token, &tokens.refresh_token] {
        let before = events(&world, "authentication.revoke", Outcome::Denied).await;
        let request = v1::RevokeTokenRequest { token: token.clone(), principal_id: String::new() };
        refused(heard(owner.authentication().revoke_token(request).await), &[ErrorCode::TenantAccessDenied]);
        assert_eq!(events(&world, "authentication.revoke", Outcome::Denied).await, before + 1);
    }
    let visitor = world.host.client(Credentials::Token(tokens.access_token.as_str().into())).unwrap();
    visitor.session(aesp_tests::HOUR).await.expect("the token works still");
}

#[tokio::test]
async fn a_question_is_decided_with_its_arguments_and_circumstances() {
    let world = World::new().await.unwrap();
    let amount = serde_json::json!({ "type": "object", "properties": { "amount": { "type": "integer" } } });
    let mut contract = Contract::new("pay").takes(&amount);
    contract.0.policy_visible = vec![v1::PolicyVisible { path: "/amount".into(), cedar_type: "Long".into() }];
    world.acme.offer(contract).await.unwrap();
    let owner = owner(&world).await;
    let text = r#"
        forbid (principal, action == AESP::Action::"tool.invoke", resource)
        when { context.arguments.longs.hasTag("/amount") && context.arguments.longs.getTag("/amount") > 100 };
        forbid (principal, action == AESP::Action::"tool.invoke", resource) when { context.depth > 1 };"#;
    let request = v1::CreatePolicyRequest {
        tenant_id: world.acme.id().into(),
        name: "limits".into(),
        text: text.into(),
        ..Default::default()
    };
    owner.policies().create_policy(request).await.unwrap();
    let ask = async |args: &str, context: &[(&str, &str)]| {
        let request = v1::AuthorizeActionRequest {
            tenant_id: world.acme.id().into(),
            principal_id: world.agent.principal.principal_id.clone(),
            action: "tool.invoke".into(),
            resource: "tool:pay".into(),
            args_json: args.to_owned().into(),
            context: context.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
        };
        heard(owner.authorization().authorize_action(request).await).map(|answer| answer.authorized)
    };
    assert!(ask(r#"{"amount":100}"#, &[]).await.unwrap());
    assert!(!ask(r#"{"amount":101}"#, &[]).await.unwrap(), "the policy did not see the arguments");
    assert!(ask("", &[("depth", "1")]).await.unwrap());
    assert!(!ask("", &[("depth", "2")]).await.unwrap(), "the policy did not see the circumstances");
    refused(ask("", &[("weather", "fine")]).await, &[ErrorCode::InvalidRequest]);
    refused(ask("no JSON", &[]).await, &[ErrorCode::SchemaViolation, ErrorCode::InvalidRequest]);
}
