use std::{fmt, sync::Arc};

use futures::future::BoxFuture;
use serde_json::Value;

use crate::{
    failure::ToolFailure,
    runtime::{chunks::Chunks, context::CallContext},
};

pub(crate) type Outcome = Result<Value, ToolFailure>;
type Handler = dyn Fn(CallContext, Value, Chunks) -> BoxFuture<'static, Outcome> + Send + Sync;

/// A tool that a Runtime offers to fulfil, and what does it.
#[derive(Clone)]
pub struct Tool {
    name: String,
    handler: Arc<Handler>,
}

impl fmt::Debug for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tool").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Tool {
    /// Creates a tool. `name` is the contract's name for its active version, or `name@version`.
    ///
    /// The handler is dropped where it waits when the call is cancelled or its time is over; a panic fails its call only.
    pub fn new<F, Fut>(name: impl Into<String>, handler: F) -> Self
    where
        F: Fn(CallContext, Value) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Outcome> + Send + 'static,
    {
        Self {
            name: name.into(),
            handler: Arc::new(move |context, args, _| Box::pin(handler(context, args))),
        }
    }

    /// Creates a tool that answers in chunks, and then with its result.
    pub fn streaming<F, Fut>(name: impl Into<String>, handler: F) -> Self
    where
        F: Fn(CallContext, Value, Chunks) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Outcome> + Send + 'static,
    {
        Self {
            name: name.into(),
            handler: Arc::new(move |context, args, chunks| Box::pin(handler(context, args, chunks))),
        }
    }

    /// Returns the name it is offered by.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) async fn call(&self, context: CallContext, args: Value, chunks: Chunks) -> Outcome {
        (self.handler)(context, args, chunks).await
    }
}
