use aesp_proto::Incarnation;
use bytes::Bytes;
use futures::stream::BoxStream;

use super::Topic;

/// What a node does for its peers. The calls of one link come one after the other and in the order of the link, so none may
/// wait: an answer is a stream, which runs in a task of its own and is dropped when the caller or the link goes.
pub trait PeerService: Send + Sync + 'static {
    /// Answers a request.
    fn request(
        &self,
        from: Incarnation,
        topic: Topic,
        payload: Bytes,
    ) -> BoxStream<'static, Result<Bytes, aesp_proto::Error>>;

    /// Takes something that needs no answer.
    fn told(&self, from: Incarnation, topic: Topic, payload: Bytes);

    /// Hears that a link is there; before anything that comes over it.
    fn up(&self, peer: Incarnation);

    /// Hears that the link is gone; after everything that came over it.
    fn down(&self, peer: Incarnation);
}
