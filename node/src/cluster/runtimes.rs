use aesp_cluster::{
    Cluster,
    peer::{PeerError, Topic},
};
use aesp_proto::Incarnation;
use aesp_runtime::{LinkError, PeerAnswer};
use bytes::Bytes;
use futures::StreamExt;
use tracing::debug;

use super::Others;

/// Carries what the Runtimes' components of the nodes say to each other over the nodes' links.
pub(crate) struct RuntimeLinks {
    pub(crate) others: Others,
    pub(crate) cluster: Cluster,
}

impl aesp_runtime::Peers for RuntimeLinks {
    fn request(&self, to: Incarnation, payload: Bytes) -> Result<PeerAnswer, LinkError> {
        let peers = self.others.peers().ok_or(LinkError::NotSent)?;
        let answer = peers.request(to, Topic::Dispatch, payload).map_err(link_error)?;
        Ok(answer.map(|part| part.map_err(link_error)).boxed())
    }

    fn tell(&self, to: Incarnation, payload: Bytes) {
        if let Some(peers) = self.others.peers()
            && let Err(error) = peers.tell(to, Topic::Runtimes, payload)
        {
            debug!(%to, %error, "a peer was not told of the Runtimes here");
        }
    }

    fn tell_all(&self, payload: Bytes) {
        if let Some(peers) = self.others.peers() {
            peers.tell_all(Topic::Runtimes, payload);
        }
    }

    fn distance(&self, to: Incarnation) -> u8 {
        self.cluster.distance(to) as u8
    }
}

fn link_error(error: PeerError) -> LinkError {
    match error {
        PeerError::NotSent(_) => LinkError::NotSent,
        PeerError::Lost => LinkError::Lost,
        PeerError::Refused(error) => LinkError::Refused(error),
    }
}
