//! What operators want of the Runtimes of every node.

use std::{sync::Arc, time::Duration};

use aesp_proto::{
    Error, TenantId,
    v1::{
        ConnectedRuntime, DrainRuntimeOrder, ListRuntimesOrder, RuntimesOrder, RuntimesOrderDone,
        RuntimesRequest, runtimes_order::Order, runtimes_request::Request,
    },
};
use bytes::Bytes;
use futures::{StreamExt as _, future::join_all};
use prost::Message as _;
use tokio::time::timeout;
use tracing::warn;

use crate::{Runtimes, lease::millis, shared::Shared};

/// How long a peer may take.
const ANSWER: Duration = Duration::from_secs(6);

impl Runtimes {
    /// As [`Runtimes::drain`], on every node that can be reached.
    pub async fn drain_everywhere(&self, runtime_id: &str, reason: &str, grace: Duration) -> usize {
        let order = DrainRuntimeOrder {
            runtime_id: runtime_id.to_owned(),
            reason: reason.to_owned(),
            grace_ms: millis(grace),
        };
        let here = self.drain(runtime_id, reason, grace);
        here + count(&self.everywhere(Order::Drain(order)).await)
    }

    /// As [`Runtimes::close_registration`], on every node that can be reached. The others close such connections by
    /// themselves when they apply the revocation; this tells how many there were.
    pub async fn close_registration_everywhere(&self, runtime_id: &str) -> usize {
        let order = Order::CloseRegistration(runtime_id.to_owned());
        let (here, there) = tokio::join!(self.close_registration(runtime_id), self.everywhere(order));
        here + count(&there)
    }

    /// As [`Runtimes::close_identity`], on every node that can be reached.
    pub async fn close_identity_everywhere(&self, identity: &str) -> usize {
        let order = Order::CloseIdentity(identity.to_owned());
        let (here, there) = tokio::join!(self.close_identity(identity), self.everywhere(order));
        here + count(&there)
    }

    /// As [`Runtimes::list`], of every node that can be reached.
    pub async fn list_everywhere(&self, tenant: Option<TenantId>) -> Vec<ConnectedRuntime> {
        let tenant_id = tenant.map(|tenant| tenant.as_bytes().to_vec()).unwrap_or_default();
        let there = self.everywhere(Order::List(ListRuntimesOrder { tenant_id })).await;
        let mut listed = self.list(tenant);
        listed.extend(there.into_iter().flat_map(|done| done.runtimes));
        listed.sort_by(|a, b| (&a.runtime_id, &a.connection_id).cmp(&(&b.runtime_id, &b.connection_id)));
        listed
    }

    /// Asks every peer at once.
    async fn everywhere(&self, order: Order) -> Vec<RuntimesOrderDone> {
        let cluster = &self.shared().cluster;
        let Some(peers) = cluster.peers() else { return Vec::new() };
        let request = RuntimesRequest { request: Some(Request::Order(RuntimesOrder { order: Some(order) })) };
        let payload = Bytes::from(request.encode_to_vec());
        let asked = cluster.elsewhere.peers().into_iter().map(|peer| {
            let answer = peers.request(peer, payload.clone());
            async move {
                let part = timeout(ANSWER, async { answer.ok()?.next().await?.ok() }).await;
                let done = part.ok().flatten().and_then(|part| RuntimesOrderDone::decode(part).ok());
                if done.is_none() {
                    warn!(%peer, "a peer did not say what it did with its runtimes");
                }
                done
            }
        });
        join_all(asked.collect::<Vec<_>>()).await.into_iter().flatten().collect()
    }
}

fn count(done: &[RuntimesOrderDone]) -> usize {
    done.iter().map(|done| done.connections as usize).sum()
}

/// Does as another node's operator wants.
pub(super) async fn asked(shared: Arc<Shared>, order: RuntimesOrder) -> Result<Bytes, Error> {
    let unknown = || Error::invalid("this node does not know the order");
    let mut done = RuntimesOrderDone::default();
    let connections = match order.order.ok_or_else(unknown)? {
        Order::Drain(order) => {
            let grace = Duration::from_millis(order.grace_ms.into());
            shared.drain(&order.runtime_id, &order.reason, grace)
        }
        Order::CloseRegistration(runtime_id) => shared.close_registration(&runtime_id).await,
        Order::CloseIdentity(identity) => shared.close_identity(&identity).await,
        Order::List(order) => {
            let tenant = match order.tenant_id.as_slice() {
                [] => None,
                bytes => Some(TenantId::from_slice(bytes).map_err(|_| unknown())?),
            };
            done.runtimes = shared.list(tenant);
            done.runtimes.len()
        }
    };
    done.connections = u32::try_from(connections).unwrap_or(u32::MAX);
    Ok(done.encode_to_vec().into())
}
