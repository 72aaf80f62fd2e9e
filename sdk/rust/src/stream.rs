use aesp_audit_receipt::Receipt;
use aesp_proto::{Error, ErrorCode, v1::InvokeStreamResponse};
use serde_json::Value;
use tonic::Streaming;

use crate::call::{CallResult, outcome};

/// The parts of a streaming call, in order. Dropping it cancels the call.
#[derive(Debug)]
pub struct CallStream {
    parts: Option<Streaming<InvokeStreamResponse>>,
    first: Option<InvokeStreamResponse>,
}

/// A part of a streaming call.
#[derive(Clone, Debug, PartialEq)]
pub enum StreamPart {
    /// One chunk, checked against the contract's chunk schema.
    Chunk(Value),
    /// The end, with the final result. Without it the call has not been answered.
    End(CallResult),
}

impl CallStream {
    pub(crate) fn new(parts: Streaming<InvokeStreamResponse>, first: InvokeStreamResponse) -> Self {
        Self { parts: Some(parts), first: Some(first) }
    }

    /// Returns the next part; nothing after the end or an error.
    ///
    /// # Errors
    /// The Host's refusal, or `TRANSPORT_ERROR` when the connection broke before the end.
    pub async fn next(&mut self) -> Result<Option<StreamPart>, Error> {
        let part = match (self.first.take(), &mut self.parts) {
            (Some(first), _) => first,
            (None, None) => return Ok(None),
            (None, Some(parts)) => match parts.message().await {
                Ok(Some(part)) => part,
                Ok(None) => {
                    self.parts = None;
                    return Err(Error::new(ErrorCode::TransportError, "the stream broke off before its end"));
                }
                Err(status) => {
                    self.parts = None;
                    return Err(Error::from_status(&status));
                }
            },
        };
        if !part.is_final {
            let chunk = serde_json::from_slice(&part.payload_json)
                .map_err(|e| Error::new(ErrorCode::TransportError, "a chunk is not JSON").because(e))?;
            return Ok(Some(StreamPart::Chunk(chunk)));
        }
        self.parts = None;
        Ok(Some(StreamPart::End(CallResult {
            invocation_id: part.invocation_id,
            correlation_id: part.correlation_id,
            event_id: part.event_id,
            replayed: false,
            receipt: part.receipt.map(Receipt::from),
            outcome: outcome(part.result.unwrap_or_default())?,
        })))
    }
}
