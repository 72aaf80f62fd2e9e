use aesp_sdk::{Client, Error, ErrorCode, v1};
use aesp_tests::{World, platform, soon};

use crate::support::refused;

async fn set(client: &Client, tenant: &str, key: &str, value: &str) -> Result<v1::ConfigValue, Error> {
    let request = v1::SetConfigValueRequest {
        tenant_id: tenant.into(),
        key: key.into(),
        value: value.into(),
        ..Default::default()
    };
    let answer = client.configuration().set_config_value(request).await;
    answer.map(tonic::Response::into_inner).map_err(|status| Error::from_status(&status))
}

async fn get(client: &Client, tenant: &str, key: &str) -> v1::ConfigValue {
    let request = v1::GetConfigValueRequest { tenant_id: tenant.into(), key: key.into() };
    client.configuration().get_config_value(request).await.unwrap().into_inner()
}

#[tokio::test]
async fn values_are_set_followed_and_rolled_back() {
    let world = World::new().await.unwrap();
    let owner = world.acme.account("owner", &["tenant-admin"]).await.unwrap().client(&world.host).unwrap();
    let (tenant, key) = (world.acme.id(), "runtime.mode");
    let request = v1::ListConfigKeysRequest { tenant_id: tenant.into() };
    let keys = owner.configuration().list_config_keys(request).await.unwrap().into_inner().keys;
    assert!(keys.iter().any(|known| known.key == key && !known.sensitive));
    assert!(get(&owner, tenant, key).await.is_default);

    let request = v1::SubscribeToChangesRequest { tenant_id: tenant.into(), keys: vec![key.into()] };
    let mut changes = owner.configuration().subscribe_to_changes(request).await.unwrap().into_inner();
    let first = soon("the state comes", changes.message()).await.unwrap().unwrap().unwrap();
    assert!(first.initial);
    let set_to = set(&owner, tenant, key, "DEVELOPMENT").await.unwrap();
    let change = soon("the change comes", changes.message()).await.unwrap().unwrap().unwrap();
    let value = change.value.unwrap();
    assert_eq!((value.key.as_str(), value.value.as_str(), change.initial), (key, "DEVELOPMENT", false));
    set(&owner, tenant, key, "STRICT").await.unwrap();
    refused(set(&owner, tenant, key, "ANARCHY").await, &[ErrorCode::InvalidRequest]);
    refused(set(&owner, tenant, "no.such.key", "x").await, &[ErrorCode::InvalidRequest, ErrorCode::NotFound]);

    let request =
        v1::RollbackConfigRequest { tenant_id: tenant.into(), key: key.into(), version: set_to.version };
    let rolled = owner.configuration().rollback_config(request).await.unwrap().into_inner();
    assert_eq!(rolled.value, "DEVELOPMENT");
    assert_eq!(get(&owner, tenant, key).await.value, "DEVELOPMENT");
    let request = v1::GetConfigHistoryRequest { tenant_id: tenant.into(), key: key.into(), page: None };
    let history = owner.configuration().get_config_history(request).await.unwrap().into_inner().versions;
    let values: Vec<_> = history.iter().map(|version| version.value.as_str()).collect();
    assert_eq!(values, ["DEVELOPMENT", "STRICT", "DEVELOPMENT"]);
}

#[tokio::test]
async fn a_sensitive_value_is_never_shown_and_a_subscription_ends_with_the_right() {
    let world = World::new().await.unwrap();
    let account = world.acme.account("owner", &["tenant-admin"]).await.unwrap();
    let owner = account.client(&world.host).unwrap();
    let (tenant, key) = (world.acme.id(), "notification.webhook_secret");
    let request = v1::SubscribeToChangesRequest { tenant_id: tenant.into(), keys: vec![] };
    let mut changes = owner.configuration().subscribe_to_changes(request).await.unwrap().into_inner();
    set(&owner, tenant, key, "hush-9f2").await.unwrap();
    let mut shown = format!("{:?}", get(&owner, tenant, key).await);
    let request = v1::GetConfigHistoryRequest { tenant_id: tenant.into(), key: key.into(), page: None };
    let history = owner.configuration().get_config_history(request).await.unwrap().into_inner();
    shown.push_str(&format!("{history:?}"));
    loop {
        let change = soon("the change comes", changes.message()).await.unwrap().unwrap().unwrap();
        shown.push_str(&format!("{change:?}"));
        if !change.initial {
            break;
        }
    }
    assert!(!shown.contains("hush-9f2"), "{shown}");

    world.acme.revoke_role(&account.principal.principal_id, "tenant-admin").await.unwrap();
    set(&world.administrator, tenant, "runtime.mode", "DEVELOPMENT").await.unwrap();
    let ended = soon("the subscription ends", changes.message()).await.unwrap();
    assert!(ended.is_err(), "it goes on: {ended:?}");
}

#[tokio::test]
async fn anothers_configuration_is_refused() {
    let world = World::new().await.unwrap();
    let globex = platform::create_tenant(&world.administrator, "globex").await.unwrap();
    let boss = globex.account("boss", &["tenant-admin"]).await.unwrap().client(&world.host).unwrap();
    let outcome = set(&boss, world.acme.id(), "runtime.mode", "DEVELOPMENT").await;
    refused(outcome, &[ErrorCode::TenantAccessDenied]);
    let request = v1::SubscribeToChangesRequest { tenant_id: world.acme.id().into(), keys: vec![] };
    let answer = boss.configuration().subscribe_to_changes(request).await;
    refused(
        answer.map(|_| ()).map_err(|status| Error::from_status(&status)),
        &[ErrorCode::TenantAccessDenied],
    );
    assert!(get(&world.administrator, world.acme.id(), "runtime.mode").await.is_default);
}
