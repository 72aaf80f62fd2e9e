use std::sync::Arc;

use aesp_proto::Incarnation;
use bytes::Bytes;
use futures::stream::BoxStream;
use tokio::sync::watch;

use crate::{
    BarrierError, Context, Duties, JoinError, Lease, Links, NodeStatus, Options, Ownership, RemoveError,
    peer::{Peer, Topic},
};

/// This node's part in its cluster. Cheap to clone.
#[derive(Clone)]
pub struct Cluster(Arc<Inner>);

struct Inner {}

impl Cluster {
    /// Joins: from now on the others know this node, and it renews its lease. Load views after this has returned.
    pub async fn join(context: Context, options: Options) -> Result<Self, JoinError> {
        todo!()
    }
    pub fn own(&self) -> Incarnation {
        todo!()
    }
    /// Returns the cluster's id.
    pub fn id(&self) -> &str {
        todo!()
    }
    pub fn ownership(&self) -> Ownership {
        todo!()
    }
    pub fn lease(&self) -> Lease {
        todo!()
    }
    pub fn nodes(&self) -> watch::Receiver<Arc<[Peer]>> {
        todo!()
    }
    pub fn serve(&self, duties: Arc<dyn Duties>, links: Option<Links>) {
        todo!()
    }
    pub async fn barrier(&self) -> Result<(), BarrierError> {
        todo!()
    }
    pub async fn drain(&self) -> usize {
        todo!()
    }
    pub async fn leave(&self) {
        todo!()
    }
    pub async fn rebalance(&self) -> Result<usize, aesp_storage::Error> {
        todo!()
    }
    pub async fn remove(&self, node: Incarnation) -> Result<(), RemoveError> {
        todo!()
    }
    pub async fn status(&self) -> Result<Vec<NodeStatus>, aesp_storage::Error> {
        todo!()
    }
    pub fn asked(
        &self,
        from: Incarnation,
        topic: Topic,
        payload: Bytes,
    ) -> BoxStream<'static, Result<Bytes, aesp_proto::Error>> {
        todo!()
    }
    pub fn told(&self, from: Incarnation, topic: Topic, payload: Bytes) {
        todo!()
    }
    pub fn ready(&self) -> Result<(), String> {
        todo!()
    }
}
