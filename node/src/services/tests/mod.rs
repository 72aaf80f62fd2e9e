//! What must end does end, also when the rights can't be read after the change.

mod documented;
mod withheld;

use std::time::Duration;

use aesp_proto::v1::{
    AnnounceRuntime, RegisterRuntimeRequest, RevokeRuntimeRequest, RevokeServiceAccountRequest, RuntimeFrame,
    SuspendTenantRequest, enterprise_identity_service_server::EnterpriseIdentityService as _, host_frame,
    runtime_frame, runtime_registry_service_server::RuntimeRegistryService as _,
    tenant_service_server::TenantService as _,
};
use aesp_runtime::PeerIdentity;
use futures::{StreamExt as _, stream};
use tokio::time::timeout;

use super::{identity::Identity, registry::Registry, tenant::Tenants};
use crate::testing::World;

const SOON: Duration = Duration::from_secs(20);
const IDENTITY: &str = "spiffe://test/runtime/worker";

#[tokio::test]
async fn a_revoked_account_loses_its_calls_though_the_rights_can_not_be_read() {
    let world = World::new().await;
    let tenant = world.tenant().await;
    let (principal_id, running) = world.running(&tenant).await;
    let request = RevokeServiceAccountRequest { tenant_id: tenant, principal_id };
    let request = world.request("EnterpriseIdentityService/RevokeServiceAccount", request);
    world.trap.spring();
    // Refused, or answered because the node has dropped the rights it could not read: either way nothing runs on.
    drop(Identity(world.context.clone()).revoke_service_account(request).await);
    timeout(SOON, running.cancellation().cancelled()).await.expect("the call runs on");
}

#[tokio::test]
async fn a_suspended_tenant_loses_its_calls_though_the_rights_can_not_be_read() {
    let world = World::new().await;
    let tenant = world.tenant().await;
    let (_, running) = world.running(&tenant).await;
    let request = SuspendTenantRequest { tenant_id: tenant, reason: "test".into() };
    let request = world.request("TenantService/SuspendTenant", request);
    world.trap.spring();
    // Refused, or answered because the node has dropped the rights it could not read: either way nothing runs on.
    drop(Tenants(world.context.clone()).suspend_tenant(request).await);
    timeout(SOON, running.cancellation().cancelled()).await.expect("the call runs on");
}

#[tokio::test]
async fn a_revoked_runtime_is_cut_off_though_the_registrations_can_not_be_read() {
    let world = World::new().await;
    let tenant = world.tenant().await;
    let request = RegisterRuntimeRequest {
        runtime_id: "worker".into(),
        certificate_identity: IDENTITY.into(),
        tenant_ids: vec![tenant.clone()],
        contracts: vec!["*".into()],
        security_zones: vec![],
    };
    let request = world.request("RuntimeRegistryService/RegisterRuntime", request);
    Registry(world.context.clone()).register_runtime(request).await.unwrap();
    world.context.views.get(tenant.parse().unwrap()).await.unwrap();

    let announce = AnnounceRuntime {
        runtime_id: "worker".into(),
        protocol_version: "1.0".into(),
        initial_credits: 1,
        ..AnnounceRuntime::default()
    };
    let announce = RuntimeFrame { frame: Some(runtime_frame::Frame::Announce(announce)) };
    let frames = stream::iter([Ok(announce)]).chain(stream::pending());
    let peer = PeerIdentity { identities: vec![IDENTITY.into()], address: None };
    let mut heard = world.context.runtimes.connect(peer, frames).await.unwrap();
    let first = timeout(SOON, heard.next()).await.unwrap().unwrap().unwrap();
    assert!(matches!(first.frame, Some(host_frame::Frame::Announced(_))), "{first:?}");

    let request = RevokeRuntimeRequest { runtime_id: "worker".into() };
    let request = world.request("RuntimeRegistryService/RevokeRuntime", request);
    world.trap.spring();
    assert!(Registry(world.context.clone()).revoke_runtime(request).await.is_err());
    let cut_off = async { while let Some(Ok(_)) = heard.next().await {} };
    timeout(SOON, cut_off).await.expect("the connection is open still");
    assert!(!world.context.views.registrations().knows_identity(IDENTITY), "it may connect again");
}
