use aesp_cluster::peer::Topic;
use aesp_proto::Incarnation;
use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use tracing::debug;

use super::Others;

/// Carries what the tenants' limits of the nodes say to each other over the nodes' links.
pub(crate) struct QuotaLinks(pub(crate) Others);

impl aesp_tenant::Peers for QuotaLinks {
    fn tell(&self, to: Incarnation, payload: Bytes) {
        if let Some(peers) = self.0.peers()
            && let Err(error) = peers.tell(to, Topic::Quotas, payload)
        {
            debug!(%to, %error, "a peer was not told of a tenant's credits");
        }
    }

    fn ask(&self, to: Incarnation, payload: Bytes) -> BoxFuture<'static, Option<Bytes>> {
        let answer = self.0.peers().map(|peers| peers.request(to, Topic::Quotas, payload));
        async move {
            match answer?.map_err(|error| debug!(%to, %error, "a peer is not asked what a tenant uses")) {
                Ok(answer) => answer.one().await.ok(),
                Err(()) => None,
            }
        }
        .boxed()
    }
}
