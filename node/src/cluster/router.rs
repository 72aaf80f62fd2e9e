use aesp_cluster::{
    Cluster,
    peer::{PeerService, Topic},
};
use aesp_proto::{Error, ErrorCode, Incarnation};
use bytes::Bytes;
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use tracing::debug;

use crate::forward::Owner;

/// Gives what other nodes send to the part of the Host that it is for.
pub(crate) struct Router {
    cluster: Cluster,
    owner: Owner,
}

impl Router {
    pub(crate) fn new(cluster: Cluster, owner: Owner) -> Self {
        Self { cluster, owner }
    }
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
            Topic::Dispatch | Topic::Runtimes | Topic::Quotas => {
                let what = format!("this release answers no requests of the topic {}", topic.name());
                let error = Error::new(ErrorCode::ServiceUnavailable, what).remedy("upgrade all nodes");
                stream::once(async { Err(error) }).boxed()
            }
        }
    }

    fn told(&self, from: Incarnation, topic: Topic, payload: Bytes) {
        match topic {
            Topic::Changes | Topic::Handover => self.cluster.told(from, topic, payload),
            Topic::Forward | Topic::Dispatch | Topic::Runtimes | Topic::Quotas => {
                debug!(%from, topic = topic.name(), "a peer told something that nobody here hears");
            }
        }
    }

    fn up(&self, _peer: Incarnation) {}

    fn down(&self, _peer: Incarnation) {}
}
