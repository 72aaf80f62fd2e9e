use aesp_cluster::{
    Cluster,
    peer::{PeerService, Topic},
};
use aesp_proto::{Error, ErrorCode, Incarnation};
use aesp_runtime::Runtimes;
use aesp_tenant::Tenants;
use bytes::Bytes;
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use tracing::debug;

use super::Others;
use crate::forward::Owner;

/// Gives what other nodes send to the part of the Host that it is for.
pub(crate) struct Router {
    pub(crate) cluster: Cluster,
    pub(crate) owner: Owner,
    pub(crate) runtimes: Runtimes,
    pub(crate) tenants: Tenants,
    pub(crate) others: Others,
}

impl PeerService for Router {
    fn request(
        &self,
        from: Incarnation,
        topic: Topic,
        payload: Bytes,
    ) -> BoxStream<'static, Result<Bytes, Error>> {
        match topic {
            Topic::Forward => self.owner.asked(from, payload),
            Topic::Changes | Topic::Handover => self.cluster.asked(from, topic, payload),
            Topic::Dispatch => self.runtimes.asked(from, payload),
            Topic::Quotas => {
                let answer = self.tenants.asked(&payload);
                stream::once(async move { answer }).boxed()
            }
            Topic::Runtimes => {
                let what = format!("this release answers no requests of the topic {}", topic.name());
                let error = Error::new(ErrorCode::ServiceUnavailable, what).remedy("upgrade all nodes");
                stream::once(async { Err(error) }).boxed()
            }
        }
    }

    fn told(&self, from: Incarnation, topic: Topic, payload: Bytes) {
        match topic {
            Topic::Changes | Topic::Handover => self.cluster.told(from, topic, payload),
            Topic::Runtimes => self.runtimes.told(from, payload),
            Topic::Quotas => self.tenants.told(from, payload),
            Topic::Forward | Topic::Dispatch => {
                debug!(%from, topic = topic.name(), "a peer told something that nobody here hears");
            }
        }
    }

    fn up(&self, peer: Incarnation) {
        if self.others.peers().is_some() {
            return self.runtimes.peer_up(peer);
        }
        // The first link can be there before the node knows that it has links.
        let (runtimes, others) = (self.runtimes.clone(), self.others.clone());
        tokio::spawn(async move {
            while others.peers().is_none() {
                tokio::task::yield_now().await;
            }
            runtimes.peer_up(peer);
        });
    }

    fn down(&self, peer: Incarnation) {
        self.runtimes.peer_down(peer);
    }
}
