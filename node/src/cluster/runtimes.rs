use aesp_cluster::peer::{PeerError, Topic};
use aesp_proto::Incarnation;
use aesp_runtime::{LinkError, PeerAnswer};
use bytes::Bytes;
use futures::StreamExt;
use tracing::debug;

use super::Others;

/// Carries what the Runtimes' components of the nodes say to each other over the nodes' links.
pub(crate) struct RuntimeLinks(pub(crate) Others);

impl aesp_runtime::Peers for RuntimeLinks {
    fn request(&self, to: Incarnation, payload: Bytes) -> Result<PeerAnswer, LinkError> {
        let peers = self.0.peers().ok_or(LinkError::NotSent)?;
        let answer = peers.request(to, Topic::Dispatch, payload).map_err(link_error)?;
        Ok(answer.map(|part| part.map_err(link_error)).boxed())
    }

    fn tell(&self, to: Incarnation, payload: Bytes) {
        if let Some(peers) = self.0.peers()
            && let Err(error) = peers.tell(to, Topic::Runtimes, payload)
        {
            debug!(%to, %error, "a peer was not told of the Runtimes here");
        }
    }

    fn tell_all(&self, payload: Bytes) {
        if let Some(peers) = self.0.peers() {
            peers.tell_all(Topic::Runtimes, payload);
        }
    }
}

fn link_error(error: PeerError) -> LinkError {
    match error {
        PeerError::NotSent(_) => LinkError::NotSent,
        PeerError::Lost => LinkError::Lost,
        PeerError::Refused(error) => LinkError::Refused(error),
    }
}
