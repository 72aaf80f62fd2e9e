use aesp_proto::{Error, Incarnation};
use bytes::Bytes;
use futures::stream::BoxStream;

/// The answer of a peer, in parts. Dropping it cancels the request at the peer.
pub type PeerAnswer = BoxStream<'static, Result<Bytes, LinkError>>;

/// What carries messages to the Runtimes of other nodes. Nothing here waits, and nothing comes back to [`crate::Runtimes`] on
/// the caller's own stack.
pub trait Peers: Send + Sync + 'static {
    /// Sends a request for [`crate::Runtimes::asked`] of the peer.
    ///
    /// # Errors
    /// [`LinkError::NotSent`]. What happens later comes with the answer.
    fn request(&self, to: Incarnation, payload: Bytes) -> Result<PeerAnswer, LinkError>;

    /// Sends something for [`crate::Runtimes::told`] of the peer: at most once, in order if at all.
    fn tell(&self, to: Incarnation, payload: Bytes);

    /// Tells every peer that is connected.
    fn tell_all(&self, payload: Bytes);

    /// Returns how far a peer is, for comparison alone: of two that would begin a call at once, the nearer one gets it.
    fn distance(&self, _to: Incarnation) -> u8 {
        0
    }
}

/// Why a request to a peer has no answer. Says whether the peer may have acted on it.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The peer has not seen it and never will.
    #[error("the request did not reach the peer")]
    NotSent,
    /// The link ended after the request was handed to it: the peer may have acted.
    #[error("the peer was lost during the request")]
    Lost,
    /// The peer refused, or failed; it may have acted.
    #[error("the peer refused the request")]
    Refused(#[source] Error),
}
