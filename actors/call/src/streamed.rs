use std::sync::Arc;

use aesp_proto::{
    Error,
    v1::{EventType, Outcome, StreamChunk},
};
use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use crate::{View, dispatched::Running, validated::Standing};

/// A checked part of a stream on its way to the reader, with the rights that it was permitted by.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) chunk: StreamChunk,
    pub(crate) view: Arc<View>,
    pub(crate) standing: Arc<Standing>,
}

/// Where the parts of a stream go.
pub(crate) type Parts = mpsc::Sender<Part>;

/// What the closing record says of a stream: how many parts, and which.
#[derive(Default)]
pub(crate) struct Streamed {
    count: u64,
    hash: Sha256,
    opened: bool,
    last: Option<StreamChunk>,
}

impl Streamed {
    /// Counts a part that is passed on.
    pub(crate) fn add(&mut self, chunk: &StreamChunk) {
        self.count += 1;
        self.hash.update((chunk.payload.len() as u64).to_be_bytes());
        self.hash.update(&chunk.payload);
    }

    /// Counts the last part, which waits for the record.
    pub(crate) fn end(&mut self, chunk: StreamChunk) {
        self.add(&chunk);
        self.last = Some(chunk);
    }

    /// Returns how many parts were passed on.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Takes the part that comes after the record.
    pub(crate) fn take_last(&mut self) -> Option<StreamChunk> {
        self.last.take()
    }

    /// Returns what the record's digest is made of, `content` being the result beside the parts: SHA-256 over each part's
    /// length (8 bytes, big-endian) and bytes, then the content. Without parts it is the content alone.
    pub(crate) fn recorded(&self, content: Bytes) -> Option<Bytes> {
        if self.count == 0 {
            return (!content.is_empty()).then_some(content);
        }
        let mut recorded = self.hash.clone().finalize().to_vec();
        recorded.extend_from_slice(&content);
        Some(recorded.into())
    }
}

impl Running<'_> {
    /// Makes the opening of the stream durable, once: without the closing record beside it, the log says that the stream broke off.
    pub(crate) async fn open(&mut self) -> Result<(), Error> {
        if self.streamed.opened {
            return Ok(());
        }
        let event =
            self.calls.event(self.permitted, EventType::ToolInvocation, "tool.stream", Outcome::Success);
        self.calls.recorder().append(vec![event]).await?;
        self.streamed.opened = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(payload: &'static [u8]) -> StreamChunk {
        StreamChunk { payload: payload.to_vec(), ..StreamChunk::default() }
    }

    fn recorded(payloads: &[&'static [u8]], content: &'static [u8]) -> Option<Bytes> {
        let mut streamed = Streamed::default();
        payloads.iter().for_each(|payload| streamed.add(&chunk(payload)));
        streamed.recorded(Bytes::from_static(content))
    }

    #[test]
    fn the_digest_tells_where_parts_begin_and_end() {
        let told_apart = [
            recorded(&[b"ab", b"c"], b""),
            recorded(&[b"a", b"bc"], b""),
            recorded(&[b"abc"], b""),
            recorded(&[b"abc", b""], b""),
            recorded(&[b"ab"], b"c"),
        ];
        for (at, one) in told_apart.iter().enumerate() {
            assert!(told_apart[at + 1..].iter().all(|other| other != one), "{at}");
        }
    }

    #[test]
    fn a_stream_without_parts_is_a_result() {
        assert_eq!(recorded(&[], b"{}"), Some(Bytes::from_static(b"{}")));
        assert_eq!(recorded(&[], b""), None);
    }
}
