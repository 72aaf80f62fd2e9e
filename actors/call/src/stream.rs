use aesp_proto::{
    Error,
    v1::{InvokeRequest, InvokeStreamResponse, StreamChunk},
};
use futures::{Stream, StreamExt, stream};
use tokio::sync::mpsc;

use crate::{Caller, Calls};

/// How many parts wait for a slow reader before the Runtime is held back.
const PARTS: usize = 32;

impl Calls {
    /// Makes a call whose answer comes in parts. The final part comes only when the record of the whole is durable.
    pub fn invoke_stream(
        &self,
        caller: Caller,
        request: InvokeRequest,
    ) -> impl Stream<Item = Result<InvokeStreamResponse, Error>> + Send + use<> {
        let (sender, parts) = mpsc::channel::<Result<StreamChunk, Error>>(PARTS);
        let ids = (request.invocation_id.clone(), request.correlation_id.clone());
        let calls = self.clone();
        let ending = async move { calls.start(caller, request, Some(sender)).await };
        let named = ids.clone();
        let parts =
            stream::unfold(parts, |mut parts| async move { parts.recv().await.map(|part| (part, parts)) })
                .map(move |part| {
                    part.map(|chunk| InvokeStreamResponse {
                        invocation_id: named.0.clone(),
                        correlation_id: named.1.clone(),
                        chunk_id: chunk.chunk_id,
                        payload_json: chunk.payload,
                        ..InvokeStreamResponse::default()
                    })
                });
        let last = stream::once(ending).map(|ended| {
            ended.map(|(invocation_id, correlation_id, reply)| InvokeStreamResponse {
                invocation_id,
                correlation_id,
                is_final: true,
                event_id: reply.event.to_string(),
                result: Some(reply.result),
                ..InvokeStreamResponse::default()
            })
        });
        // Both are polled: the call runs while its parts are read. The call's own future ends after its last part was sent.
        stream::select(parts, last)
    }
}
