use std::pin::Pin;

use aesp_audit::Receipt;
use aesp_proto::{
    Error,
    v1::{InvokeRequest, InvokeStreamResponse, StreamChunk},
};
use futures::{Stream, stream};
use tokio::sync::mpsc;

use crate::{Caller, Calls, ending::Reply, streamed::Part};

/// How many parts wait for a slow reader before the Runtime is held back.
const PARTS: usize = 32;

/// What a call ended with: its ids and its answer.
type Ended = Result<(String, String, Reply), Error>;

/// A call and its parts, as they are read.
struct Flow<F> {
    calls: Calls,
    ids: (String, String),
    parts: mpsc::Receiver<Part>,
    /// Drives the call; none once it has ended.
    call: Option<Pin<Box<F>>>,
    ended: Option<Ended>,
    over: bool,
}

impl Calls {
    /// Makes a call whose answer comes in parts. The last parts come only when the record of the whole is durable.
    pub fn invoke_stream(
        &self,
        caller: Caller,
        request: InvokeRequest,
    ) -> impl Stream<Item = Result<InvokeStreamResponse, Error>> + Send + use<> {
        let (sender, parts) = mpsc::channel(PARTS);
        let ids = (request.invocation_id.clone(), request.correlation_id.clone());
        let calls = self.clone();
        let call = async move { calls.start(caller, request, Some(sender)).await };
        let calls = self.clone();
        let flow = Flow { calls, ids, parts, call: Some(Box::pin(call)), ended: None, over: false };
        stream::unfold(flow, |mut flow| async move { flow.next().await.map(|part| (part, flow)) })
    }
}

impl<F: Future<Output = Ended>> Flow<F> {
    /// Returns what the reader sees next. The call runs while its parts are read; its end comes after all of them.
    async fn next(&mut self) -> Option<Result<InvokeStreamResponse, Error>> {
        if self.over {
            return None;
        }
        let part = loop {
            let Some(call) = &mut self.call else { break self.parts.recv().await };
            tokio::select! {
                biased;
                Some(part) = self.parts.recv() => break Some(part),
                ended = call => {
                    self.ended = Some(ended);
                    self.call = None;
                }
            }
        };
        match part {
            Some(part) => Some(self.permitted(part).await),
            None => self.end().await,
        }
    }

    /// Lets a part out if the right to it still holds at this moment; otherwise the stream ends here, and the call with it.
    ///
    /// INVARIANT R1: parts that waited for the reader were permitted when they were put there.
    async fn permitted(&mut self, part: Part) -> Result<InvokeStreamResponse, Error> {
        match part.standing.recheck(&self.calls, &part.view).await {
            Ok(_) => Ok(self.response(part.chunk)),
            Err(error) => {
                self.over = true;
                self.call = None;
                Err(error.correlated(&self.ids.1))
            }
        }
    }

    /// Returns the part that waited for the record, and then the end.
    ///
    /// INVARIANT R1: a slow reader may come for them long after they were permitted.
    async fn end(&mut self) -> Option<Result<InvokeStreamResponse, Error>> {
        match self.ended.take()? {
            Ok((invocation_id, correlation_id, mut reply)) => {
                if let Some((view, standing)) = &reply.right
                    && let Err(error) = standing.recheck(&self.calls, view).await
                {
                    self.over = true;
                    return Some(Err(error.correlated(&correlation_id)));
                }
                if let Some(last) = reply.last.take() {
                    self.ended = Some(Ok((invocation_id, correlation_id, reply)));
                    return Some(Ok(self.response(last)));
                }
                self.over = true;
                Some(Ok(InvokeStreamResponse {
                    invocation_id,
                    correlation_id,
                    is_final: true,
                    event_id: reply.event.to_string(),
                    receipt: reply.receipt.as_ref().map(Receipt::to_wire),
                    result: Some(reply.result),
                    ..InvokeStreamResponse::default()
                }))
            }
            Err(error) => {
                self.over = true;
                Some(Err(error))
            }
        }
    }

    fn response(&self, chunk: StreamChunk) -> InvokeStreamResponse {
        InvokeStreamResponse {
            invocation_id: self.ids.0.clone(),
            correlation_id: self.ids.1.clone(),
            chunk_id: chunk.chunk_id,
            payload_json: chunk.payload,
            ..InvokeStreamResponse::default()
        }
    }
}
