use std::sync::Arc;

use aesp_proto::v1::{RuntimeFrame, StreamChunk, runtime_frame::Frame};
use serde_json::Value;

use crate::{failure::ToolFailure, runtime::shared::Shared};

/// Where a streaming tool puts its chunks, in order.
#[derive(Debug)]
pub struct Chunks {
    shared: Arc<Shared>,
    generation: u64,
    next: StreamChunk,
    wanted: bool,
}

impl Chunks {
    pub(crate) fn new(
        shared: Arc<Shared>,
        generation: u64,
        dispatch_id: Vec<u8>,
        invocation_id: String,
        wanted: bool,
    ) -> Self {
        let next = StreamChunk { dispatch_id, invocation_id, ..StreamChunk::default() };
        Self { shared, generation, next, wanted }
    }

    /// Sends one chunk; waits while the connection is busy. Does nothing when the caller reads no chunks.
    ///
    /// # Errors
    /// A failure to return from the handler: the chunk is too large, or the connection is gone.
    pub async fn send(&mut self, chunk: &Value) -> Result<(), ToolFailure> {
        if !self.wanted {
            return Ok(());
        }
        let payload = serde_json::to_vec(chunk)
            .map_err(|e| ToolFailure::of_type(ToolFailure::INTERNAL, e.to_string()))?;
        let limit = self.shared.limits.max_result_bytes;
        if payload.len() > limit {
            return Err(too_large("chunk", payload.len(), limit));
        }
        let chunk = StreamChunk { payload, ..self.next.clone() };
        self.next.chunk_id += 1;
        let frame = RuntimeFrame { frame: Some(Frame::Chunk(chunk)) };
        let link = self.shared.link(self.generation).ok_or_else(gone)?;
        link.send(frame).await.map_err(|_| gone())
    }
}

pub(crate) fn too_large(what: &str, bytes: usize, limit: usize) -> ToolFailure {
    ToolFailure::of_type(
        ToolFailure::RESULT_TOO_LARGE,
        format!("the {what} has {bytes} bytes; this Runtime sends at most {limit}"),
    )
}

fn gone() -> ToolFailure {
    ToolFailure::of_type(ToolFailure::TRANSPORT_ERROR, "the connection to the Host ended")
}
