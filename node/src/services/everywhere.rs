use std::{collections::BTreeSet, sync::Arc, time::Duration};

use aesp_cluster::{
    Changed,
    peer::{Answer, Topic},
};
use aesp_proto::{
    Error, ErrorCode, TenantId,
    v1::{EndSessionsAsk, LostCallsAsk, PeerAsk, PeerDone, peer_ask::Ask},
};
use aesp_session::{Origin, Scope};
use bytes::Bytes;
use futures::{StreamExt, future::join_all};
use prost::Message;
use tokio::time::{Instant, timeout};
use tracing::warn;

use super::Context;

/// How long sessions on other nodes may take to end, a dead node's included.
const ENDED_WITHIN: Duration = Duration::from_secs(5);
const ENDING_PAUSE: Duration = Duration::from_millis(100);
/// How long other nodes may take to look at their calls, which nothing but a number in an answer depends on.
const COUNTED_WITHIN: Duration = Duration::from_millis(500);

impl Context {
    /// Makes a committed change hold on every node: in every decision, in the limits, and for the Runtimes that are connected.
    ///
    /// INVARIANT R1: when this returns, nothing starts on a right that the change took.
    pub(crate) async fn apply(&self, tenant: TenantId) -> Result<(), Error> {
        self.apply_all([tenant]).await
    }

    /// As [`Context::apply`], for a change within several tenants.
    pub(crate) async fn apply_all(&self, tenants: impl IntoIterator<Item = TenantId>) -> Result<(), Error> {
        let here = self.hold(&Changed::Tenants(tenants.into_iter().collect())).await;
        // Also when it does not hold here: the other nodes must not go on with what was taken.
        let everywhere = self.cluster.barrier().await.map_err(Error::from);
        here.and(everywhere)
    }

    /// Makes committed changes hold on this node.
    pub(crate) async fn hold(&self, changed: &Changed) -> Result<(), Error> {
        let platform = BTreeSet::from([TenantId::PLATFORM]);
        let tenants = match changed {
            Changed::Everything => &platform,
            Changed::Tenants(tenants) => tenants,
        };
        let mut applied = Ok(());
        for tenant in tenants {
            // One that fails is dropped, and must not keep the others on old rights.
            applied = applied.and(self.views.refresh(*tenant).await.map_err(Error::from));
        }
        let everything = tenants.contains(&TenantId::PLATFORM);
        if everything {
            let tokens = Arc::clone(&self.tokens);
            let reloaded = self.store.run(move |tx| {
                let tokens = Arc::clone(&tokens);
                Box::pin(async move { Ok::<_, Error>(tokens.reload(tx).await?) })
            });
            applied = applied.and(reloaded.await);
        }
        let loaded = self.views.loaded();
        for view in &loaded {
            self.tenants.refresh(&view.tenant);
        }
        // A tenant that is suspended, or gone, loses what runs, however far it has come.
        let serves = |tenant: TenantId| {
            loaded.iter().any(|view| view.tenant.id() == tenant && view.tenant.refuses_calls().is_none())
        };
        let suspended = loaded.iter().map(|view| view.tenant.id()).filter(|_| everything);
        for tenant in tenants.iter().copied().chain(suspended).filter(|tenant| !serves(*tenant)) {
            self.sessions.cancel_all(Scope::Tenant(tenant));
        }
        // Also when a view could not be loaded: it is gone then, and nothing may go on without one.
        if everything {
            self.runtimes.recheck(None).await;
        } else {
            for tenant in tenants {
                self.runtimes.recheck(Some(*tenant)).await;
            }
        }
        applied
    }

    /// Ends every session of the scope, on whichever node it is. Returns when none lives any more.
    ///
    /// # Errors
    /// Those of the record; or that some live still, because their node can't be reached: asking again ends them.
    pub(crate) async fn end_sessions(&self, scope: Scope, reason: &str, origin: Origin) -> Result<(), Error> {
        let until = Instant::now() + ENDED_WITHIN;
        loop {
            let here = self.sessions.end_all(scope, reason, origin.clone()).await;
            self.end_elsewhere(scope, reason, &origin).await;
            let error = match here {
                Ok(_) if !self.sessions.any_lives(scope).await.map_err(Error::from)? => return Ok(()),
                Ok(_) => Error::new(ErrorCode::ServiceUnavailable, "some of the sessions have not ended yet")
                    .retry_after(ENDED_WITHIN)
                    .remedy("repeat the request"),
                Err(error) => error.into(),
            };
            // Shards may be moving at this moment.
            if self.others.peers().is_none() || Instant::now() >= until {
                return Err(error);
            }
            tokio::time::sleep(ENDING_PAUSE).await;
        }
    }

    /// Asks every other node to end the scope's sessions in its shards. Whether they have ended, the store says.
    async fn end_elsewhere(&self, scope: Scope, reason: &str, origin: &Origin) {
        let Some(peers) = self.others.peers() else { return };
        let (tenant, principal) = match scope {
            Scope::Tenant(tenant) => (tenant, None),
            Scope::Principal(tenant, principal) => (tenant, Some(principal)),
        };
        let ask = EndSessionsAsk {
            tenant_id: tenant.to_string(),
            principal_id: principal.map(|principal| principal.to_string()).unwrap_or_default(),
            reason: reason.to_owned(),
            by_principal_id: origin.principal.map(|principal| principal.to_string()).unwrap_or_default(),
            decision_id: origin.decision.map(|decision| decision.to_string()).unwrap_or_default(),
            revision: origin.revision.0,
            source_ip: origin.source_ip.clone(),
            user_agent: origin.user_agent.clone(),
            correlation_id: origin.correlation_id.clone(),
        };
        let payload = Bytes::from(PeerAsk { ask: Some(Ask::EndSessions(ask)) }.encode_to_vec());
        let nodes = peers.connected().borrow().clone();
        let asked = nodes.iter().map(|node| {
            let answer = peers.request(*node, Topic::Forward, payload.clone());
            async move { (node, timeout(ENDED_WITHIN, async { answer?.one().await }).await) }
        });
        for (node, answered) in join_all(asked).await {
            match answered {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => {
                    warn!(%node, %error, "a node did not end the sessions that it was asked to end")
                }
                Err(_) => {
                    warn!(%node, "a node did not say that it ended the sessions that it was asked to end")
                }
            }
        }
    }

    /// Has the other nodes look at the calls that run in the tenant now. Asked before a change that may take rights of the
    /// principal, which is named by name or id.
    pub(crate) async fn watch_calls(&self, tenant: TenantId, principal: &str) -> WatchedCalls {
        let Some(peers) = self.others.peers() else { return WatchedCalls(Vec::new()) };
        let ask = LostCallsAsk { tenant_id: tenant.to_string(), principal: principal.to_owned() };
        let payload = Bytes::from(PeerAsk { ask: Some(Ask::LostCalls(ask)) }.encode_to_vec());
        let nodes = peers.connected().borrow().clone();
        let asked = nodes.iter().map(|node| {
            let answer = peers.request(*node, Topic::Forward, payload.clone());
            async move {
                let mut answer = answer.ok()?;
                timeout(COUNTED_WITHIN, answer.next()).await.ok()??.ok()?;
                Some(answer)
            }
        });
        WatchedCalls(join_all(asked).await.into_iter().flatten().collect())
    }
}

/// The calls of other nodes as they ran before a change.
pub(crate) struct WatchedCalls(Vec<Answer>);

impl WatchedCalls {
    /// Returns how many of them may not go on since the change, of the nodes that say so soon.
    pub(crate) async fn lost(self) -> usize {
        let counts = self.0.into_iter().map(|mut answer| async move {
            let counted = timeout(COUNTED_WITHIN, answer.next()).await.ok()??.ok()?;
            usize::try_from(PeerDone::decode(counted).ok()?.count).ok()
        });
        join_all(counts).await.into_iter().flatten().sum()
    }
}
