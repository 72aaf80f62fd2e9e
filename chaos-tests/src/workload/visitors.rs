use std::{sync::Arc, time::Duration};

use aesp_proto::Entropy;
use aesp_sdk::{
    Client, Credentials,
    v1::{CreateServiceAccountRequest, CreateSessionRequest, RevokeRoleRequest},
};
use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{CALLER, SESSION_SECONDS, agent::Agent, persist::persist};
use crate::{access::Access, history::Recorder};

const CALLERS: usize = 3;
const PACE: Duration = Duration::from_millis(40);
const BEFORE: Duration = Duration::from_millis(800);
const AFTER: Duration = Duration::from_millis(700);
const BETWEEN: Duration = Duration::from_millis(500);

/// Accounts whose right is taken while they call, one after the other.
pub(super) struct Visitors {
    pub(super) access: Access,
    pub(super) administrator: Client,
    pub(super) tenant_id: String,
    pub(super) recorder: Recorder,
    pub(super) random: Entropy,
    pub(super) stop: CancellationToken,
}

impl Visitors {
    pub(super) async fn run(self) {
        let mut number = 0_u64;
        while !self.stop.is_cancelled() {
            number += 1;
            // One that can't be made at the moment is no visit.
            self.visit(&format!("visitor-{number}")).await;
            tokio::select! {
                () = sleep(BETWEEN) => {}
                () = self.stop.cancelled() => {}
            }
        }
    }

    /// Lets one visitor come, call, and go on calling when its role was taken.
    async fn visit(&self, name: &str) -> Option<()> {
        let made = persist(&self.stop, async || {
            let request = CreateServiceAccountRequest {
                tenant_id: self.tenant_id.clone(),
                name: name.to_owned(),
                roles: vec![CALLER.into()],
            };
            Ok(self.administrator.identity().create_service_account(request).await?.into_inner())
        });
        let made = made.await?.ok()?;
        let principal = made.principal.unwrap_or_default().principal_id;
        let clients = self.access.clients(&Credentials::ApiKey(made.api_key.as_str().into()), 0).ok()?;
        let session = persist(&self.stop, async || {
            let request = CreateSessionRequest { ttl_seconds: SESSION_SECONDS, ..Default::default() };
            Ok(clients[0].agent().create_session(request).await?.into_inner().session_id)
        });
        let session: Arc<str> = session.await?.ok()?.into();

        let leave = self.stop.child_token();
        let mut callers = JoinSet::new();
        for n in 0..CALLERS {
            let agent = Agent {
                clients: Arc::clone(&clients),
                session: Arc::clone(&session),
                name: format!("v{n}"),
                pace: PACE,
                random: self.random.clone(),
                recorder: self.recorder.clone(),
                stop: leave.clone(),
            };
            callers.spawn(agent.run());
        }
        sleep(BEFORE).await;
        let revoked = persist(&self.stop, async || {
            let request = RevokeRoleRequest {
                tenant_id: self.tenant_id.clone(),
                principal_id: principal.clone(),
                role: CALLER.into(),
            };
            self.administrator.authorization().revoke_role(request).await.map(drop)
        });
        // Only an answer that says so is a revocation that returned.
        if let Some(Ok(())) = revoked.await {
            let returned_ms = self.recorder.now_ms();
            self.recorder.revocation(principal, session, returned_ms);
            sleep(AFTER).await;
        }
        leave.cancel();
        while callers.join_next().await.is_some() {}
        Some(())
    }
}
