//! What was read, and whose right is gone before it is answered: the answer is withheld, whatever the record says.

use aesp_call::Caller;
use aesp_proto::{
    Error, PrincipalId, TenantId,
    v1::{
        AuditFormat, AuthorizeActionRequest, EvaluatePolicyRequest, ExportAuditLogsRequest,
        FollowEventsRequest, GetAuditIndexRequest, GetAuditStatisticsRequest, GetLogKeysRequest,
        GetPrincipalAuditTrailRequest, GetSessionRequest, GetUserPermissionsRequest, ListRolesRequest,
        QueryEventsRequest, ValidateTokenRequest, agent_service_server::AgentService as _,
        enterprise_audit_service_server::EnterpriseAuditService as _,
        enterprise_authentication_service_server::EnterpriseAuthenticationService as _,
        enterprise_authorization_service_server::EnterpriseAuthorizationService as _,
        enterprise_identity_service_server::EnterpriseIdentityService as _,
    },
};
use futures::{
    FutureExt as _, StreamExt as _,
    future::{BoxFuture, join},
};
use tokio::time::timeout;
use tonic::Status;

use super::SOON;
use crate::{
    services::{
        agent::Agent, audit::Audit, authentication::Authentication, authorization::Authorization,
        identity::Identity,
    },
    testing::{CALLER, Hold, World, login, request_by},
};

const ROLE: &str = "tenant-admin";

/// A reader of a tenant with a session of somebody else's.
struct Reader {
    caller: Caller,
    principal: PrincipalId,
    tenant: TenantId,
    session: String,
}

impl Reader {
    /// A question about the session, which takes a look into the store.
    fn question(&self) -> AuthorizeActionRequest {
        AuthorizeActionRequest {
            action: "session.read".into(),
            resource: format!("session:{}", self.session),
            ..AuthorizeActionRequest::default()
        }
    }
}

type Read = for<'a> fn(&'a World, &'a Reader) -> BoxFuture<'a, Result<(), Status>>;

/// Reads, each with the moment after which it only has to be answered.
const READS: [(&str, Hold, Read); 11] = [
    ("GetSession", Hold::Commit, |world, reader| {
        let request = GetSessionRequest { session_id: reader.session.clone() };
        let request = request_by(&reader.caller, "AgentService/GetSession", request);
        let agent = Agent(world.context.clone());
        async move { agent.get_session(request).await.map(drop) }.boxed()
    }),
    ("ValidateToken", Hold::Commit, |world, reader| {
        let request = ValidateTokenRequest { token: "no token".into() };
        let request = request_by(&reader.caller, "EnterpriseAuthenticationService/ValidateToken", request);
        let authentication = Authentication(world.context.clone());
        async move { authentication.validate_token(request).await.map(drop) }.boxed()
    }),
    ("QueryEvents", Hold::Commit, |world, reader| {
        let request = QueryEventsRequest::default();
        let request = request_by(&reader.caller, "EnterpriseAuditService/QueryEvents", request);
        let audit = Audit(world.context.clone());
        async move { audit.query_events(request).await.map(drop) }.boxed()
    }),
    ("GetAuditStatistics", Hold::Commit, |world, reader| {
        let request = GetAuditStatisticsRequest::default();
        let request = request_by(&reader.caller, "EnterpriseAuditService/GetAuditStatistics", request);
        let audit = Audit(world.context.clone());
        async move { audit.get_audit_statistics(request).await.map(drop) }.boxed()
    }),
    ("GetAuditIndex", Hold::Commit, |world, reader| {
        let request = GetAuditIndexRequest::default();
        let request = request_by(&reader.caller, "EnterpriseAuditService/GetAuditIndex", request);
        let audit = Audit(world.context.clone());
        async move { audit.get_audit_index(request).await.map(drop) }.boxed()
    }),
    ("GetLogKeys", Hold::Commit, |world, reader| {
        let request = GetLogKeysRequest::default();
        let request = request_by(&reader.caller, "EnterpriseAuditService/GetLogKeys", request);
        let audit = Audit(world.context.clone());
        async move { audit.get_log_keys(request).await.map(drop) }.boxed()
    }),
    ("ListRoles", Hold::Commit, |world, reader| {
        let request = ListRolesRequest::default();
        let request = request_by(&reader.caller, "EnterpriseAuthorizationService/ListRoles", request);
        let authorization = Authorization(world.context.clone());
        async move { authorization.list_roles(request).await.map(drop) }.boxed()
    }),
    ("GetUserPermissions", Hold::Commit, |world, reader| {
        let request = GetUserPermissionsRequest::default();
        let rpc = "EnterpriseAuthenticationService/GetUserPermissions";
        let request = request_by(&reader.caller, rpc, request);
        let authentication = Authentication(world.context.clone());
        async move { authentication.get_user_permissions(request).await.map(drop) }.boxed()
    }),
    ("GetPrincipalAuditTrail", Hold::ReadAfterCommit, |world, reader| {
        let request = GetPrincipalAuditTrailRequest::default();
        let rpc = "EnterpriseIdentityService/GetPrincipalAuditTrail";
        let request = request_by(&reader.caller, rpc, request);
        let identity = Identity(world.context.clone());
        async move { identity.get_principal_audit_trail(request).await.map(drop) }.boxed()
    }),
    ("AuthorizeAction", Hold::ReadAfterCommit, |world, reader| {
        let rpc = "EnterpriseAuthorizationService/AuthorizeAction";
        let request = request_by(&reader.caller, rpc, reader.question());
        let authorization = Authorization(world.context.clone());
        async move { authorization.authorize_action(request).await.map(drop) }.boxed()
    }),
    ("EvaluatePolicy", Hold::ReadAfterCommit, |world, reader| {
        let request = EvaluatePolicyRequest {
            policy_text: "permit(principal, action, resource);".into(),
            request: Some(reader.question()),
            ..EvaluatePolicyRequest::default()
        };
        let request = request_by(&reader.caller, "EnterpriseAuthorizationService/EvaluatePolicy", request);
        let authorization = Authorization(world.context.clone());
        async move { authorization.evaluate_policy(request).await.map(drop) }.boxed()
    }),
];

/// A tenant's readers, each of whom may read until the right is taken.
struct Library {
    world: World,
    tenant: String,
    session: String,
}

impl Library {
    async fn new() -> Self {
        let world = World::new().await;
        let tenant = world.tenant().await;
        let (_, running) = world.running(&tenant).await;
        let session = running.session().to_string();
        Self { world, tenant, session }
    }

    async fn reader(&self, name: &str) -> Reader {
        let made = self.world.account(&self.tenant, name, ROLE).await;
        let principal = made.principal.unwrap_or_default().principal_id.parse().unwrap();
        let caller = login(&self.world.context, made.api_key).await;
        let tenant = self.tenant.parse().unwrap();
        Reader { caller, principal, tenant, session: self.session.clone() }
    }

    /// Takes the reader's right, as another node does, and applies that here.
    async fn revoke(&self, reader: &Reader) {
        let (tenant, principal) = (reader.tenant, reader.principal);
        let revoked = self.world.other.run(move |tx| {
            Box::pin(async move { aesp_policy::revoke_role(tx, tenant, principal, ROLE).await })
        });
        assert!(revoked.await.unwrap(), "it was not there");
        self.world.context.views.refresh(tenant).await.unwrap();
    }
}

#[tokio::test]
async fn an_answer_is_withheld_whose_right_ends_between_its_record_and_itself() {
    let library = Library::new().await;
    let world = &library.world;
    for (rpc, hold, read) in READS {
        for revoked in [false, true] {
            let reader = library.reader(&format!("{}-{revoked}", rpc.to_lowercase())).await;
            world.trap.hold(hold);
            let meanwhile = async {
                world.trap.holds_one().await;
                if revoked {
                    library.revoke(&reader).await;
                }
                world.trap.release();
            };
            let (answer, ()) =
                timeout(SOON, join(CALLER.scope((), read(world, &reader)), meanwhile)).await.expect(rpc);
            match answer {
                Ok(()) => assert!(!revoked, "{rpc} was answered on a right that was gone"),
                Err(status) => {
                    let error = Error::from_status(&status);
                    assert!(revoked && !error.is_retryable(), "{rpc}: {error}");
                }
            }
        }
    }
}

#[tokio::test]
async fn an_export_ends_with_the_right_to_it() {
    let library = Library::new().await;
    for format in [AuditFormat::JsonLines, AuditFormat::Csv] {
        let reader = library.reader(&format!("reader-{}", i32::from(format))).await;
        let request = ExportAuditLogsRequest { format: format.into(), ..ExportAuditLogsRequest::default() };
        let request = request_by(&reader.caller, "EnterpriseAuditService/ExportAuditLogs", request);
        let export = Audit(library.world.context.clone()).export_audit_logs(request).await;
        let mut parts = export.expect("is permitted").into_inner();
        library.revoke(&reader).await;
        let part = timeout(SOON, parts.next()).await.expect("the export ends").expect("it says why");
        let error = Error::from_status(&part.expect_err("a part came out after the right was gone"));
        assert!(!error.is_retryable(), "{error}");
        assert!(parts.next().await.is_none(), "it goes on");
    }
}

#[tokio::test]
async fn following_ends_with_the_right_to_it_also_when_nothing_happens() {
    let library = Library::new().await;
    let reader = library.reader("reader").await;
    let request = request_by(
        &reader.caller,
        "EnterpriseAuditService/FollowEvents",
        FollowEventsRequest { start_ms: 1, ..FollowEventsRequest::default() },
    );
    let followed = Audit(library.world.context.clone()).follow_events(request).await;
    let mut parts = followed.expect("is permitted").into_inner();
    let first =
        timeout(SOON, parts.next()).await.expect("it begins").expect("with a part").expect("permitted");
    assert!(!first.events.is_empty() && !first.cursor.is_empty());
    library.revoke(&reader).await;
    let next = timeout(SOON, parts.next()).await.expect("it ends").expect("and says why");
    let error = Error::from_status(&next.expect_err("a part came out after the right was gone"));
    assert!(!error.is_retryable(), "{error}");
    assert!(parts.next().await.is_none(), "it goes on");
}
