use std::sync::Mutex;

use aesp_proto::{TenantId, v1::forwarded_part::Part};
use aesp_storage::Error as StoreError;
use prometheus::Registry;
use tokio::time::timeout;

use super::*;
use crate::testing::World;

const SOON: Duration = Duration::from_secs(20);

/// An owner whose services write down by which rights of the tenant they would decide.
struct Deciding {
    world: World,
    tenant: TenantId,
    owner: Owner,
    by: Arc<Mutex<Vec<Revision>>>,
}

impl Deciding {
    async fn new() -> Self {
        let world = World::new().await;
        let tenant = world.tenant().await.parse().unwrap();
        let by = Arc::new(Mutex::new(Vec::new()));
        let (views, decided) = (world.context.views.clone(), Arc::clone(&by));
        let services = Router::new().fallback(move || async move {
            decided.lock().unwrap().push(views.peek(tenant).unwrap().rights().tenant);
        });
        let metrics = Metrics::register(&Registry::new()).unwrap();
        let owner = Owner::new(world.context.clone(), services, metrics);
        Self { world, tenant, owner, by }
    }

    /// Changes a right as another node does; this one does not hear of it by itself.
    async fn change_elsewhere(&self) -> Revision {
        self.world.context.views.get(self.tenant).await.unwrap();
        self.world.trap.deafen();
        let tenant = self.tenant;
        let changed = self.world.other.run(move |tx| {
            Box::pin(async move {
                tx.bump_revision(tenant).await?;
                tx.revision(tenant).await
            })
        });
        let revision: Result<Revision, StoreError> = changed.await;
        revision.unwrap()
    }

    /// Passes a request on from a gateway that has applied this.
    async fn forward(&self, applied: Revision) -> Vec<Result<Bytes, Error>> {
        let request = ForwardedRequest {
            path: "/aesp.v1.AgentService/GetSession".into(),
            credentials: Some(Credentials::Bearer("token".into())),
            tenant_id: self.tenant.to_string(),
            tenant_revision: applied.0,
            ..ForwardedRequest::default()
        };
        let asked = PeerAsk { ask: Some(Ask::Request(request)) }.encode_to_vec();
        let answer = self.owner.asked(Incarnation(9), asked.into()).collect();
        timeout(SOON, answer).await.expect("it is answered")
    }
}

#[tokio::test]
async fn what_is_passed_on_is_decided_by_rights_as_new_as_the_gateways() {
    let deciding = Deciding::new().await;
    let changed = deciding.change_elsewhere().await;
    let old = deciding.world.context.views.peek(deciding.tenant).unwrap().rights().tenant;
    assert!(old < changed, "the node has heard of it: the test shows nothing");
    // A gateway that has not heard of it either asks for nothing new.
    assert!(deciding.forward(old).await[0].is_ok());
    let parts = deciding.forward(changed).await;
    let head = aesp_proto::v1::ForwardedPart::decode(parts[0].as_ref().unwrap().clone()).unwrap();
    assert!(matches!(head.part, Some(Part::Head(_))), "{head:?}");
    assert_eq!(*deciding.by.lock().unwrap(), [old, changed]);
}

#[tokio::test]
async fn what_is_passed_on_is_refused_when_the_newer_rights_can_not_be_read() {
    let deciding = Deciding::new().await;
    let changed = deciding.change_elsewhere().await;
    deciding.world.trap.faults.fail_reads(Some(StoreError::unavailable("the store is away")));
    let parts = deciding.forward(changed).await;
    let refusal = parts[0].as_ref().expect_err("it was decided by old rights");
    assert!(refusal.is_retryable(), "{refusal}");
    assert!(deciding.by.lock().unwrap().is_empty(), "it was decided by old rights");
}
