use aesp_sdk::{Client, Error, v1};
use aesp_tests::{Account, Contract, HOUR, HostOptions, Tenant, Worker, World, platform, until};
use anyhow::{Context, ensure};
use prost::Message;
use serde_json::json;

const HARMLESS: &str = r#"forbid (principal, action == AESP::Action::"tenant.delete", resource);"#;

/// An alert that there is, and stays.
const RULES: &str =
    "[[rules]]\nname = \"ever\"\ncount = 1\nwindow = \"1d\"\nevents = { actions = [\"session.create\"] }";
const HOUR_MS: i64 = 3_600_000;

/// A tenant with something of everything, and those who may do everything with it.
pub(crate) struct Owned {
    pub(crate) world: World,
    pub(crate) owner: Client,
    pub(crate) account: Account,
    /// What is suspended, resumed and deleted.
    spare: Tenant,
    session: String,
    /// What is destroyed.
    short: String,
    victim: String,
    /// Who has the role that is taken, and who is revoked.
    loser: String,
    leaver: String,
    read: String,
    deleted: String,
    open: [String; 2],
    /// What is released.
    hold: String,
    token: String,
    identity: String,
    alert: String,
    silence: String,
    until_ms: i64,
    _worker: Worker,
    _archive: tempfile::TempDir,
}

fn ok<T>(answer: Result<tonic::Response<T>, tonic::Status>) -> T {
    answer.map_err(|status| Error::from_status(&status)).unwrap().into_inner()
}

impl Owned {
    pub(crate) async fn new() -> Self {
        let archive = tempfile::tempdir().unwrap();
        let set = vec![
            format!("backup.target=file://{}", archive.path().display()),
            "backup.segment_seconds=1".into(),
            "backup.drill_hours=0".into(),
        ];
        let mut world = World::with(HostOptions { set, ..HostOptions::default() }).await.unwrap();
        // A sink is one of a list, which stands in the file only; so is a witness, here one that is away.
        let witness = aesp_merkle::Cosigner::new("w", [7; 32]).unwrap();
        let sink = format!(
            "\n[audit]\nwitness_quorum = 1\n\n[[audit.witness]]\nname = \"away\"\nurl = \"http://127.0.0.1:1\"\nkey = \"{witness}\"\n\n[[audit.sinks]]\nname = \"soc\"\nkind = \"objects\"\ntarget = \"file://{}\"\n",
            archive.path().join("events").display()
        ) + &format!(
            "\n[audit.archive]\ntarget = \"file://{}\"\n",
            archive.path().join("shelf").display()
        );
        let config = world.host.site().config();
        // And so is a receiver of alerts, which takes whatever it is told.
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let hook = listener.local_addr().unwrap();
        let taking = axum::Router::new().fallback(async || axum::http::StatusCode::OK);
        tokio::spawn(async move { axum::serve(listener, taking).await.unwrap() });
        let secret = archive.path().join("hook.secret");
        std::fs::write(&secret, "s").unwrap();
        let receiver = format!(
            "\n[[alerts.receivers]]\nname = \"hook\"\nkind = \"webhook\"\ntarget = \"http://{hook}/\"\nsecret = \"file:{}\"\n",
            secret.display()
        );
        let text = std::fs::read_to_string(&config).unwrap() + &sink + &receiver;
        std::fs::write(&config, text).unwrap();
        world.host.process().stop().await.unwrap();
        world.host.restart().await.unwrap();
        until("there is a backup", async || {
            let listed = world.administrator.backup().list_backups(v1::ListBackupsRequest {}).await?;
            ensure!(!listed.into_inner().backups.is_empty());
            Ok(())
        })
        .await
        .unwrap();
        let runtime = world.runtime().unwrap().tool("echo", async |_, args| Ok(args));
        let worker = Worker::start(runtime).await.unwrap();
        let roles = ["tenant-admin", "agent", "operator", "auditor", "caller"];
        let account = world.acme.account("owner", &roles).await.unwrap();
        let owner = account.client(&world.host).unwrap();
        let spare = platform::create_tenant(&world.administrator, "spare").await.unwrap();
        platform::register(&world.host, "leaving", &[&world.acme]).await.unwrap();
        let session = owner.session(HOUR).await.unwrap();
        session.call("echo", json!({ "text": "x" })).with_invocation_id("one").await.unwrap();
        let short = owner.session(HOUR).await.unwrap().id().to_owned();
        let victim = world.acme.account("victim", &["agent"]).await.unwrap();
        let loser = world.acme.account("loser", &["auditor"]).await.unwrap().principal.principal_id;
        let leaver = world.acme.account("leaver", &[]).await.unwrap().principal.principal_id;
        world.acme.offer(Contract::new("retiree")).await.unwrap();
        world.acme.role("spare-role", &["*"]).await.unwrap();
        let tenant_id = world.acme.id().to_owned();
        let draft = Some(Contract::new("draftee").0);
        ok(owner
            .catalog()
            .create_contract(v1::CreateContractRequest { tenant_id: tenant_id.clone(), draft })
            .await);
        let policy = async |name: &str| {
            let request = v1::CreatePolicyRequest {
                tenant_id: world.acme.id().into(),
                name: name.into(),
                text: HARMLESS.into(),
                ..Default::default()
            };
            ok(owner.policies().create_policy(request).await).policy_id
        };
        let (read, deleted) = (policy("read").await, policy("deleted").await);
        let open = async || {
            let call = v1::FunctionCall {
                name: "echo".into(),
                args_json: r#"{"text":"x"}"#.into(),
                ..Default::default()
            };
            let request = v1::AuthorizeToolCallRequest {
                session_id: session.id().into(),
                call: Some(call),
                ..Default::default()
            };
            ok(owner.agent().authorize_tool_call(request).await).invocation_id
        };
        let open = [open().await, open().await];
        for value in ["DEVELOPMENT", "STRICT"] {
            let request = v1::SetConfigValueRequest {
                tenant_id: tenant_id.clone(),
                key: "runtime.mode".into(),
                value: value.into(),
                ..Default::default()
            };
            ok(owner.configuration().set_config_value(request).await);
        }
        let login = v1::AuthenticateServiceAccountRequest { api_key: account.api_key.clone() };
        let token = ok(owner.authentication().authenticate_service_account(login).await).access_token;
        let hold = v1::PlaceLegalHoldRequest {
            tenant_id: tenant_id.clone(),
            principal_id: leaver.clone(),
            reason: "a test".into(),
            ..Default::default()
        };
        let hold = ok(owner.retention().place_legal_hold(hold).await).hold_id;
        let identity = world.host.issue("person").await.unwrap().identity;
        until("the log is sealed", async || {
            owner.audit().get_checkpoint(v1::GetCheckpointRequest { tenant_id: tenant_id.clone() }).await?;
            Ok(())
        })
        .await
        .unwrap();
        let rules = v1::ApplyAlertRulesRequest {
            tenant_id: tenant_id.clone(),
            text: RULES.into(),
            ..Default::default()
        };
        ok(owner.alerts().apply_alert_rules(rules).await);
        owner.session(HOUR).await.unwrap();
        let alert = until("there is an alert", async || {
            let request = v1::ListAlertsRequest { tenant_id: tenant_id.clone(), ..Default::default() };
            let listed = owner.alerts().list_alerts(request).await?.into_inner().alerts;
            listed.into_iter().next().map(|alert| (alert.alert_id, alert.began_ms)).context("none")
        });
        let (alert, began_ms) = alert.await.unwrap();
        let until_ms = began_ms + HOUR_MS;
        let silence = v1::SilenceAlertsRequest {
            tenant_id: tenant_id.clone(),
            matchers: vec!["alertname=nothing".into()],
            until_ms,
            reason: "a test".into(),
        };
        let silence = ok(owner.alerts().silence_alerts(silence).await).silence_id;
        let (session, victim) = (session.id().to_owned(), victim.principal.principal_id);
        Self {
            world,
            owner,
            account,
            spare,
            session,
            short,
            victim,
            loser,
            leaver,
            read,
            deleted,
            open,
            hold,
            token,
            identity,
            alert,
            silence,
            until_ms,
            _worker: worker,
            _archive: archive,
        }
    }

    /// Returns a request that is right in everything, of a whole RPC path.
    pub(crate) fn request(&self, path: &str) -> Vec<u8> {
        let tenant_id = self.world.acme.id().to_owned();
        let spare = self.spare.id().to_owned();
        let session_id = self.session.clone();
        let principal_id = self.victim.clone();
        let page: Option<v1::Page> = None;
        let call = Some(v1::FunctionCall {
            name: "echo".into(),
            args_json: r#"{"text":"x"}"#.into(),
            ..Default::default()
        });
        let question = v1::AuthorizeActionRequest {
            tenant_id: tenant_id.clone(),
            principal_id: principal_id.clone(),
            action: "session.create".into(),
            ..Default::default()
        };
        let key = "runtime.mode".to_owned();
        let (name, version) = ("echo".to_owned(), "1.0.0".to_owned());
        match path.rsplit('/').next().unwrap() {
            "CreateSession" => v1::CreateSessionRequest::default().encode_to_vec(),
            "GetSession" => v1::GetSessionRequest { session_id }.encode_to_vec(),
            "ListSessions" => v1::ListSessionsRequest { tenant_id, page }.encode_to_vec(),
            "RenewSession" => v1::RenewSessionRequest { session_id }.encode_to_vec(),
            "DestroySession" => {
                v1::DestroySessionRequest { session_id: self.short.clone(), force: true }.encode_to_vec()
            }
            "ListTools" => v1::ListToolsRequest { session_id, page }.encode_to_vec(),
            rpc @ ("Invoke" | "InvokeStream") => {
                let invocation_id = rpc.to_owned();
                v1::InvokeRequest { session_id, invocation_id, call, ..Default::default() }.encode_to_vec()
            }
            "CancelInvocation" => {
                v1::CancelInvocationRequest { session_id, invocation_id: "one".into() }.encode_to_vec()
            }
            "GetInvocation" => {
                v1::GetInvocationRequest { session_id, invocation_id: "one".into() }.encode_to_vec()
            }
            "ResolveInvocation" => v1::ResolveInvocationRequest {
                session_id,
                invocation_id: self.open[0].clone(),
                status: v1::InvocationStatus::InvocationFailed.into(),
                justification: "a test".into(),
            }
            .encode_to_vec(),
            "AuthorizeToolCall" => {
                v1::AuthorizeToolCallRequest { session_id, call, ..Default::default() }.encode_to_vec()
            }
            "LogToolResult" => v1::LogToolResultRequest {
                session_id,
                invocation_id: self.open[1].clone(),
                result: Some(v1::FunctionResult { name, ..Default::default() }),
                ..Default::default()
            }
            .encode_to_vec(),
            "LogEvent" => {
                let mut event =
                    v1::AuditEvent { tenant_id, action: "door.open".into(), ..Default::default() };
                event.set_event_type(v1::EventType::SystemEvent);
                event.set_outcome(v1::Outcome::Success);
                v1::LogEventRequest { event: Some(event) }.encode_to_vec()
            }
            "QueryEvents" => v1::QueryEventsRequest { tenant_id, ..Default::default() }.encode_to_vec(),
            "ExportAuditLogs" => {
                v1::ExportAuditLogsRequest { tenant_id, ..Default::default() }.encode_to_vec()
            }
            "GetAuditStatistics" => {
                v1::GetAuditStatisticsRequest { tenant_id, ..Default::default() }.encode_to_vec()
            }
            "FollowEvents" => v1::FollowEventsRequest { tenant_id, ..Default::default() }.encode_to_vec(),
            "GetAuditIndex" => v1::GetAuditIndexRequest { tenant_id }.encode_to_vec(),
            "RebuildAuditIndex" => v1::RebuildAuditIndexRequest { tenant_id }.encode_to_vec(),
            "GetCheckpoint" => v1::GetCheckpointRequest { tenant_id }.encode_to_vec(),
            "GetInclusionProof" => {
                v1::GetInclusionProofRequest { tenant_id, ..Default::default() }.encode_to_vec()
            }
            "GetConsistencyProof" => {
                v1::GetConsistencyProofRequest { tenant_id, from_size: 1, to_size: 0 }.encode_to_vec()
            }
            "GetLogKeys" => v1::GetLogKeysRequest { tenant_id }.encode_to_vec(),
            "RotateLogKey" => v1::RotateLogKeyRequest {}.encode_to_vec(),
            "ValidateToken" => v1::ValidateTokenRequest { token: self.token.clone() }.encode_to_vec(),
            "RevokeToken" => v1::RevokeTokenRequest { token: String::new(), principal_id }.encode_to_vec(),
            "GetUserRoles" => v1::GetUserRolesRequest { tenant_id, principal_id }.encode_to_vec(),
            "GetUserPermissions" | "GetEffectivePermissions" => {
                v1::GetUserPermissionsRequest { tenant_id, principal_id }.encode_to_vec()
            }
            "RotateSigningKey" => v1::RotateSigningKeyRequest {}.encode_to_vec(),
            "AuthorizeAction" => question.encode_to_vec(),
            "CheckPermission" => v1::CheckPermissionRequest {
                tenant_id,
                principal_id,
                permission: "session.create".into(),
                resource: String::new(),
            }
            .encode_to_vec(),
            "EvaluatePolicy" => {
                v1::EvaluatePolicyRequest { tenant_id, policy_text: HARMLESS.into(), request: Some(question) }
                    .encode_to_vec()
            }
            "CreateRole" => {
                let role = Some(v1::Role { name: "made".into(), ..Default::default() });
                v1::CreateRoleRequest { tenant_id, role }.encode_to_vec()
            }
            "DeleteRole" => v1::DeleteRoleRequest { tenant_id, name: "spare-role".into() }.encode_to_vec(),
            "ListRoles" => v1::ListRolesRequest { tenant_id, page }.encode_to_vec(),
            "AssignRole" => {
                v1::AssignRoleRequest { tenant_id, principal_id, role: "auditor".into(), expires_at_ms: 0 }
                    .encode_to_vec()
            }
            "RevokeRole" => {
                v1::RevokeRoleRequest { tenant_id, principal_id: self.loser.clone(), role: "auditor".into() }
                    .encode_to_vec()
            }
            "CreatePolicy" => v1::CreatePolicyRequest {
                tenant_id,
                name: "made".into(),
                text: HARMLESS.into(),
                ..Default::default()
            }
            .encode_to_vec(),
            "DeletePolicy" => {
                v1::DeletePolicyRequest { tenant_id, policy_id: self.deleted.clone() }.encode_to_vec()
            }
            "GetPolicy" => v1::GetPolicyRequest { tenant_id, policy_id: self.read.clone() }.encode_to_vec(),
            "ListPolicies" => v1::ListPoliciesRequest { tenant_id, page }.encode_to_vec(),
            "ValidatePolicy" => {
                v1::ValidatePolicyRequest { tenant_id, text: HARMLESS.into() }.encode_to_vec()
            }
            "CreateContract" => {
                v1::CreateContractRequest { tenant_id, draft: Some(Contract::new("made").0) }.encode_to_vec()
            }
            "ActivateContract" => v1::ActivateContractRequest {
                tenant_id,
                name: "draftee".into(),
                version,
                expected_digest: Vec::new(),
            }
            .encode_to_vec(),
            "RetireContract" => v1::RetireContractRequest {
                tenant_id,
                name: "retiree".into(),
                version,
                reason: "a test".into(),
            }
            .encode_to_vec(),
            "GetContract" => v1::GetContractRequest { tenant_id, name, version }.encode_to_vec(),
            "ListContracts" => v1::ListContractsRequest { tenant_id, status: 0, page }.encode_to_vec(),
            "ImportAdm" => {
                let declaration = json!({ "name": "adm_tool", "description": "x", "parameters": { "type": "OBJECT", "properties": {} } });
                let manifest =
                    json!({ "version": "1.0.0", "tools": [{ "function_declarations": [declaration] }] });
                v1::ImportAdmRequest {
                    tenant_id,
                    manifest_json: manifest.to_string().into(),
                    version,
                    offered_to: Vec::new(),
                }
                .encode_to_vec()
            }
            "ImportMcp" => {
                let tools = json!({ "tools": [{ "name": "mcp_tool", "inputSchema": { "type": "object" } }] });
                v1::ImportMcpRequest {
                    tenant_id,
                    tools_json: tools.to_string().into(),
                    version,
                    offered_to: Vec::new(),
                    name_prefix: String::new(),
                }
                .encode_to_vec()
            }
            "GetConfigValue" => v1::GetConfigValueRequest { tenant_id, key }.encode_to_vec(),
            "SetConfigValue" => {
                v1::SetConfigValueRequest { tenant_id, key, value: "STRICT".into(), ..Default::default() }
                    .encode_to_vec()
            }
            "ListConfigKeys" => v1::ListConfigKeysRequest { tenant_id }.encode_to_vec(),
            "SubscribeToChanges" => {
                v1::SubscribeToChangesRequest { tenant_id, keys: vec![key] }.encode_to_vec()
            }
            "GetConfigHistory" => v1::GetConfigHistoryRequest { tenant_id, key, page }.encode_to_vec(),
            "RollbackConfig" => v1::RollbackConfigRequest { tenant_id, key, version: 1 }.encode_to_vec(),
            "CreateServiceAccount" => {
                v1::CreateServiceAccountRequest { tenant_id, name: "made".into(), roles: vec![] }
                    .encode_to_vec()
            }
            "ListServiceAccounts" => v1::ListServiceAccountsRequest { tenant_id, page }.encode_to_vec(),
            "RevokeServiceAccount" => {
                v1::RevokeServiceAccountRequest { tenant_id, principal_id: self.leaver.clone() }
                    .encode_to_vec()
            }
            "RotateApiKey" => v1::RotateApiKeyRequest { tenant_id, principal_id }.encode_to_vec(),
            "BindCertificate" => v1::BindCertificateRequest {
                tenant_id,
                principal_id,
                certificate_identity: self.identity.clone(),
            }
            .encode_to_vec(),
            "ListPrincipals" => v1::ListPrincipalsRequest { tenant_id, r#type: 0, page }.encode_to_vec(),
            "GetPrincipalDetails" => {
                v1::GetPrincipalDetailsRequest { tenant_id, principal_id }.encode_to_vec()
            }
            "UpdatePrincipalRoles" => {
                v1::UpdatePrincipalRolesRequest { tenant_id, principal_id, roles: vec!["agent".into()] }
                    .encode_to_vec()
            }
            "GetPrincipalAuditTrail" => {
                v1::GetPrincipalAuditTrailRequest { tenant_id, principal_id, page }.encode_to_vec()
            }
            "RegisterRuntime" => v1::RegisterRuntimeRequest {
                runtime_id: "made".into(),
                certificate_identity: "spiffe://test/runtime/made".into(),
                tenant_ids: vec![tenant_id],
                contracts: vec!["*".into()],
                security_zones: vec![],
            }
            .encode_to_vec(),
            "ListRuntimeRegistrations" => v1::ListRuntimeRegistrationsRequest { page }.encode_to_vec(),
            "RevokeRuntime" => v1::RevokeRuntimeRequest { runtime_id: "leaving".into() }.encode_to_vec(),
            "ListRuntimes" => v1::ListRuntimesRequest { tenant_id }.encode_to_vec(),
            "DrainRuntime" => {
                v1::DrainRuntimeRequest { runtime_id: "leaving".into(), reason: "a test".into() }
                    .encode_to_vec()
            }
            "CreateTenant" => {
                let quotas = Some(platform::generous());
                v1::CreateTenantRequest { name: "made".into(), quotas, ..Default::default() }.encode_to_vec()
            }
            "GetTenant" => v1::GetTenantRequest { tenant_id }.encode_to_vec(),
            "ListTenants" => v1::ListTenantsRequest { page }.encode_to_vec(),
            "UpdateTenantQuotas" => {
                let quotas = Some(platform::generous());
                v1::UpdateTenantQuotasRequest { tenant_id, quotas }.encode_to_vec()
            }
            "SuspendTenant" => {
                v1::SuspendTenantRequest { tenant_id: spare, reason: "a test".into() }.encode_to_vec()
            }
            "ResumeTenant" => v1::ResumeTenantRequest { tenant_id: spare }.encode_to_vec(),
            "DeleteTenant" => {
                v1::DeleteTenantRequest { tenant_id: spare, confirm_name: "spare".into() }.encode_to_vec()
            }
            "GetClusterStatus" => v1::GetClusterStatusRequest {}.encode_to_vec(),
            "RebalanceCluster" => v1::RebalanceClusterRequest {}.encode_to_vec(),
            "DrainNode" => v1::DrainNodeRequest { node: "node-1".into() }.encode_to_vec(),
            "RemoveNode" => v1::RemoveNodeRequest { node: "node-1".into() }.encode_to_vec(),
            "CreateJoinToken" => {
                v1::CreateJoinTokenRequest { node: "node-2".into(), ..Default::default() }.encode_to_vec()
            }
            "ListJoinTokens" => v1::ListJoinTokensRequest {}.encode_to_vec(),
            "RevokeJoinToken" => {
                v1::RevokeJoinTokenRequest { token_id: format!("tok_{}", "0".repeat(26)) }.encode_to_vec()
            }
            "GetKeyStatus" => v1::GetKeyStatusRequest::default().encode_to_vec(),
            "RotateMasterKey" => v1::RotateMasterKeyRequest {}.encode_to_vec(),
            "RewrapKeys" => v1::RewrapKeysRequest {}.encode_to_vec(),
            "RotateDataKey" => v1::RotateDataKeyRequest { tenant_id }.encode_to_vec(),
            "GetBackupStatus" => v1::GetBackupStatusRequest {}.encode_to_vec(),
            "StartBackup" => v1::StartBackupRequest {}.encode_to_vec(),
            "ListBackups" => v1::ListBackupsRequest {}.encode_to_vec(),
            "VerifyBackup" => v1::VerifyBackupRequest::default().encode_to_vec(),
            "ApplyAlertRules" => {
                v1::ApplyAlertRulesRequest { tenant_id, text: RULES.into(), ..Default::default() }
                    .encode_to_vec()
            }
            "RollbackAlertRules" => {
                v1::RollbackAlertRulesRequest { tenant_id, version: 1, ..Default::default() }.encode_to_vec()
            }
            "ListAlertRules" => v1::ListAlertRulesRequest { tenant_id }.encode_to_vec(),
            "GetAlertRule" => {
                v1::GetAlertRuleRequest { tenant_id, name: "repeated-denials".into() }.encode_to_vec()
            }
            "GetAlertRules" => v1::GetAlertRulesRequest { tenant_id, version: 1 }.encode_to_vec(),
            "ListAlertRuleVersions" => {
                v1::ListAlertRuleVersionsRequest { tenant_id, page: None }.encode_to_vec()
            }
            "TestAlertRules" => {
                v1::TestAlertRulesRequest { tenant_id, from_ms: 1, ..Default::default() }.encode_to_vec()
            }
            "ListAlerts" => v1::ListAlertsRequest { tenant_id, ..Default::default() }.encode_to_vec(),
            "AcknowledgeAlert" => {
                v1::AcknowledgeAlertRequest { tenant_id, alert_id: self.alert.clone(), ..Default::default() }
                    .encode_to_vec()
            }
            "SilenceAlerts" => v1::SilenceAlertsRequest {
                tenant_id,
                matchers: vec!["alertname=none".into()],
                until_ms: self.until_ms,
                reason: "a test".into(),
            }
            .encode_to_vec(),
            "ListSilences" => v1::ListSilencesRequest { tenant_id, all: true }.encode_to_vec(),
            "ExpireSilence" => {
                v1::ExpireSilenceRequest { tenant_id, silence_id: self.silence.clone() }.encode_to_vec()
            }
            "ListDeliveries" => v1::ListDeliveriesRequest { tenant_id, ..Default::default() }.encode_to_vec(),
            "ListAlertReceivers" => v1::ListAlertReceiversRequest { tenant_id }.encode_to_vec(),
            "TestAlertReceiver" => v1::TestAlertReceiverRequest { name: "hook".into() }.encode_to_vec(),
            "ListAuditSinks" => v1::ListAuditSinksRequest {}.encode_to_vec(),
            "GetAuditSink" => v1::GetAuditSinkRequest { name: "soc".into() }.encode_to_vec(),
            "TestAuditSink" => v1::TestAuditSinkRequest { name: "soc".into() }.encode_to_vec(),
            "ListAuditDeadLetters" => {
                v1::ListAuditDeadLettersRequest { name: "soc".into(), tenant_id, page: None }.encode_to_vec()
            }
            "RetryAuditDeadLetters" => {
                v1::RetryAuditDeadLettersRequest { name: "soc".into(), tenant_id }.encode_to_vec()
            }
            "GetRetentionPolicy" => v1::GetRetentionPolicyRequest { tenant_id, version: 0 }.encode_to_vec(),
            "SetRetentionPolicy" => {
                v1::SetRetentionPolicyRequest { tenant_id, standard_days: Some(365), ..Default::default() }
                    .encode_to_vec()
            }
            "PlaceLegalHold" => v1::PlaceLegalHoldRequest {
                tenant_id,
                principal_id: self.leaver.clone(),
                reason: "a test".into(),
                ..Default::default()
            }
            .encode_to_vec(),
            "ReleaseLegalHold" => {
                v1::ReleaseLegalHoldRequest { tenant_id, hold_id: self.hold.clone(), reason: "a test".into() }
                    .encode_to_vec()
            }
            "ListLegalHolds" => v1::ListLegalHoldsRequest { tenant_id }.encode_to_vec(),
            "EraseSubject" => {
                let principal_id = self.account.principal.principal_id.clone();
                v1::EraseSubjectRequest { tenant_id, principal_id, reason: "a test".into() }.encode_to_vec()
            }
            "ListDestructions" => v1::ListDestructionsRequest { tenant_id, page }.encode_to_vec(),
            "ListAuditPartitions" => v1::ListAuditPartitionsRequest { tenant_id }.encode_to_vec(),
            "GetAuditArchive" => v1::GetAuditArchiveRequest { tenant_id }.encode_to_vec(),
            "RunAuditArchive" => v1::RunAuditArchiveRequest { tenant_id }.encode_to_vec(),
            "GetAccessReport" => {
                v1::GetAccessReportRequest { tenant_id, ..Default::default() }.encode_to_vec()
            }
            "GetPlatformLog" => v1::GetPlatformLogRequest { tenant_id }.encode_to_vec(),
            "GetHeadProof" => v1::GetHeadProofRequest { tenant_id, size: 0 }.encode_to_vec(),
            "GetPlatformConsistencyProof" => {
                v1::GetPlatformConsistencyProofRequest { tenant_id, from_size: 1, ..Default::default() }
                    .encode_to_vec()
            }
            "ListWitnesses" => v1::ListWitnessesRequest {}.encode_to_vec(),
            "ResetWitness" => v1::ResetWitnessRequest { name: "away".into() }.encode_to_vec(),
            "GetTenantUsage" => v1::GetTenantUsageRequest { tenant_id }.encode_to_vec(),
            other => panic!("nobody knows a right request of {other}: add one"),
        }
    }

    /// Returns who may do it, and the id of that principal.
    pub(crate) async fn performer(&self, path: &str) -> (&Client, String) {
        let platform = [
            "RotateSigningKey",
            "RotateLogKey",
            "CreateTenant",
            "ListTenants",
            "UpdateTenantQuotas",
            "SuspendTenant",
            "ResumeTenant",
            "DeleteTenant",
            "RegisterRuntime",
            "ListRuntimeRegistrations",
            "RevokeRuntime",
            "DrainRuntime",
            "BindCertificate",
            "GetClusterStatus",
            "RebalanceCluster",
            "ListJoinTokens",
            "GetKeyStatus",
            "RotateMasterKey",
            "RewrapKeys",
            "RotateDataKey",
            "GetBackupStatus",
            "StartBackup",
            "ListBackups",
            "VerifyBackup",
            "TestAlertReceiver",
            "ListWitnesses",
            "ResetWitness",
            "ListAuditSinks",
            "GetAuditSink",
            "TestAuditSink",
            "ListAuditDeadLetters",
            "RetryAuditDeadLetters",
        ];
        if !platform.iter().any(|rpc| path.ends_with(&format!("/{rpc}"))) {
            return (&self.owner, self.account.principal.principal_id.clone());
        }
        let login =
            v1::AuthenticateServiceAccountRequest { api_key: self.world.host.administrator_key().to_owned() };
        let answer = self.world.administrator.authentication().authenticate_service_account(login).await;
        (&self.world.administrator, ok(answer).principal_id)
    }

    /// Counts what the logs say that `principal` did under `action`.
    pub(crate) async fn done(&self, principal: &str, action: &str) -> usize {
        let mut done = 0;
        for tenant in [self.world.acme.id(), ""] {
            let request = v1::QueryEventsRequest {
                tenant_id: tenant.into(),
                principal_id: principal.into(),
                action: action.into(),
                outcome: v1::Outcome::Success.into(),
                page: Some(v1::Page { limit: 1000, ..Default::default() }),
                newest_first: true,
                ..Default::default()
            };
            done += ok(self.world.administrator.audit().query_events(request).await).events.len();
        }
        done
    }
}
