//! One call, from its arrival to its result.

use std::{any::Any, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use aesp_proto::{
    DispatchId,
    v1::{FunctionResult, ResultStatus, RuntimeFrame, ToolCall, ToolError, ToolResult, runtime_frame::Frame},
};
use futures::FutureExt;
use serde_json::Value;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::{
    failure::ToolFailure,
    runtime::{
        chunks::{Chunks, too_large},
        context::CallContext,
        ledger::Begin,
        shared::Shared,
        tool::Outcome,
    },
};

/// Takes a call that arrived on a connection; never waits. `refusal` is set while no call may be accepted.
pub(crate) fn accept(shared: &Arc<Shared>, generation: u64, call: ToolCall, refusal: Option<ToolFailure>) {
    let Ok(id) = DispatchId::from_slice(&call.dispatch_id) else {
        warn!(bytes = call.dispatch_id.len(), "call without a dispatch id ignored");
        return;
    };
    let begin = shared.ledger().begin(id, generation, call.streaming);
    let task = Arc::clone(shared);
    match begin {
        Begin::Running | Begin::Over => {}
        Begin::Answered(result) => {
            shared.calls.spawn(async move {
                if let Some(link) = task.link(generation) {
                    drop(link.send(RuntimeFrame { frame: Some(Frame::Result(result)) }).await);
                }
            });
        }
        Begin::Full => {
            let limit = shared.limits.concurrency;
            let failure = ToolFailure::of_type(
                ToolFailure::UNAVAILABLE,
                format!("this Runtime serves at most {limit} calls at once"),
            );
            shared.calls.spawn(async move { task.finish(id, generation, not_run(&call, failure)).await });
        }
        Begin::Run(token) => {
            shared.calls.spawn(async move {
                if let Some(refusal) = refusal {
                    return task.finish(id, generation, not_run(&call, refusal)).await;
                }
                let outcome = run(&task, generation, id, &call, token).await;
                let outcome = outcome.and_then(|content| encode(&content, task.limits.max_result_bytes));
                task.finish(id, generation, answer(&call, outcome)).await;
            });
        }
    }
}

/// Answers a call of which nothing ran.
fn not_run(call: &ToolCall, refusal: ToolFailure) -> ToolResult {
    ToolResult { not_run: true, ..answer(call, Err(refusal)) }
}

async fn run(
    shared: &Arc<Shared>,
    generation: u64,
    id: DispatchId,
    call: &ToolCall,
    token: CancellationToken,
) -> Outcome {
    let function = call.call.clone().unwrap_or_default();
    let Some(tool) = shared.tool(&call.session_id, &function.name, &function.version) else {
        return Err(ToolFailure::of_type(ToolFailure::NOT_FOUND, "this Runtime does not offer the tool"));
    };
    let args: Value = serde_json::from_slice(&function.args_json)
        .map_err(|_| ToolFailure::of_type(ToolFailure::SCHEMA_VIOLATION, "the arguments are not JSON"))?;
    let deadline =
        (call.deadline_ms > 0).then(|| Instant::now() + Duration::from_millis(call.deadline_ms.into()));
    let context = CallContext {
        cancellation: token.clone(),
        ..CallContext::new(call, id, deadline, shared.client.clone())
    };
    let chunks = Chunks::new(
        Arc::clone(shared),
        generation,
        call.dispatch_id.clone(),
        call.invocation_id.clone(),
        call.streaming,
    );
    let handled = AssertUnwindSafe(async move { tool.call(context, args, chunks).await }).catch_unwind();
    let outcome = tokio::select! {
        biased;
        outcome = handled => outcome,
        () = token.cancelled() => Ok(Err(cancelled(shared, id))),
        () = expired(deadline) => {
            Ok(Err(ToolFailure::of_type(ToolFailure::DEADLINE_EXCEEDED, "the time of the call was over")))
        }
    };
    // What the handler spawned learns by this that nobody waits any more.
    token.cancel();
    outcome.unwrap_or_else(|panic| {
        error!(tool = function.name, dispatch = %id, panic = text(&*panic), "tool handler panicked");
        Err(ToolFailure::of_type(ToolFailure::INTERNAL, "the tool broke"))
    })
}

fn cancelled(shared: &Shared, id: DispatchId) -> ToolFailure {
    let stopped = shared.ledger().stopped(id);
    stopped.unwrap_or_else(|| ToolFailure::of_type(ToolFailure::CANCELLED, "the call was cancelled"))
}

async fn expired(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}

fn encode(content: &Value, limit: usize) -> Result<Vec<u8>, ToolFailure> {
    let bytes = serde_json::to_vec(content)
        .map_err(|e| ToolFailure::of_type(ToolFailure::INTERNAL, e.to_string()))?;
    if bytes.len() > limit {
        return Err(too_large("result", bytes.len(), limit));
    }
    Ok(bytes)
}

fn answer(call: &ToolCall, outcome: Result<Vec<u8>, ToolFailure>) -> ToolResult {
    let name = call.call.as_ref().map(|function| function.name.clone()).unwrap_or_default();
    let result = match outcome {
        Ok(content) => FunctionResult {
            name,
            status: ResultStatus::Success.into(),
            content_json: content.into(),
            error: None,
        },
        Err(failure) => FunctionResult {
            name,
            status: ResultStatus::Error.into(),
            error: Some(ToolError::from(failure)),
            ..FunctionResult::default()
        },
    };
    ToolResult {
        invocation_id: call.invocation_id.clone(),
        correlation_id: call.correlation_id.clone(),
        dispatch_id: call.dispatch_id.clone(),
        result: Some(result),
        not_run: false,
    }
}
