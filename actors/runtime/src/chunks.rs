use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use aesp_proto::v1::StreamChunk;
use tokio::sync::mpsc;

/// How many chunks are held for a caller who reads slowly.
const BUFFERED_CHUNKS: usize = 256;
/// How many bytes of chunks are held.
const BUFFERED_BYTES: usize = 4 << 20;

/// Puts chunks before a caller. Never waits: a slow reader must not hold up the other calls of a connection.
pub(crate) struct ChunkSender {
    chunks: mpsc::Sender<StreamChunk>,
    bytes: Arc<AtomicUsize>,
}

/// Where a caller finds its chunks.
pub(crate) struct ChunkReceiver {
    chunks: mpsc::Receiver<StreamChunk>,
    bytes: Arc<AtomicUsize>,
}

pub(crate) fn channel() -> (ChunkSender, ChunkReceiver) {
    let (sender, receiver) = mpsc::channel(BUFFERED_CHUNKS);
    let bytes = Arc::new(AtomicUsize::new(0));
    (ChunkSender { chunks: sender, bytes: Arc::clone(&bytes) }, ChunkReceiver { chunks: receiver, bytes })
}

impl ChunkSender {
    /// Returns whether there was room; a caller who has gone has room for anything.
    pub(crate) fn push(&self, chunk: StreamChunk) -> bool {
        let bytes = chunk.payload.len();
        // One chunk always fits, whatever its size.
        let held = self.bytes.load(Ordering::Relaxed);
        if held > 0 && held.saturating_add(bytes) > BUFFERED_BYTES {
            return false;
        }
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        !matches!(self.chunks.try_send(chunk), Err(mpsc::error::TrySendError::Full(_)))
    }
}

impl ChunkReceiver {
    /// Waits for the next chunk; `None` when no more come.
    pub(crate) async fn next(&mut self) -> Option<StreamChunk> {
        let chunk = self.chunks.recv().await?;
        self.bytes.fetch_sub(chunk.payload.len(), Ordering::Relaxed);
        Some(chunk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(bytes: usize) -> StreamChunk {
        StreamChunk { payload: vec![0; bytes], ..StreamChunk::default() }
    }

    #[tokio::test]
    async fn bytes_are_bounded_and_come_free_again() {
        let (sender, mut receiver) = channel();
        assert!((0..4).all(|_| sender.push(chunk(1 << 20))));
        assert!(!sender.push(chunk(1)));
        receiver.next().await.unwrap();
        assert!(sender.push(chunk(1 << 20)));
        drop(sender);
        let mut left = 0;
        while receiver.next().await.is_some() {
            left += 1;
        }
        assert_eq!(left, 4, "what was taken on is delivered");
    }
}
