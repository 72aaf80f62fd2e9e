//! Between what MCP servers answer and what AESP tools return.

use aesp_sdk::ToolFailure;
use rmcp::{
    model::{CallToolResult, ContentBlock, ErrorCode},
    service::ServiceError,
};
use serde_json::{Map, Value};

const MESSAGE_BYTES: usize = 4096;

/// Maps a result: `{"content": […], "structuredContent": …}`, the second only where there is one.
///
/// # Errors
/// The server's own failure when it says `isError`, with the text of its content.
pub(crate) fn result(answer: CallToolResult) -> Result<Value, ToolFailure> {
    if answer.is_error == Some(true) {
        return Err(ToolFailure::new(text(&answer.content)));
    }
    let content = serde_json::to_value(&answer.content)
        .map_err(|e| ToolFailure::of_type(ToolFailure::INTERNAL, e.to_string()))?;
    let mut result = Map::from_iter([("content".to_owned(), content)]);
    if let Some(structured) = answer.structured_content.filter(|value| !value.is_null()) {
        result.insert("structuredContent".to_owned(), structured);
    }
    Ok(Value::Object(result))
}

/// Maps a call that got no result.
pub(crate) fn failure(error: &ServiceError) -> ToolFailure {
    match error {
        ServiceError::McpError(refusal) => {
            let kind = match refusal.code {
                ErrorCode::INVALID_PARAMS => ToolFailure::SCHEMA_VIOLATION,
                ErrorCode::METHOD_NOT_FOUND => ToolFailure::NOT_FOUND,
                _ => ToolFailure::FAILED,
            };
            ToolFailure::of_type(kind, bounded(refusal.message.to_string()))
        }
        ServiceError::Cancelled { .. } => {
            ToolFailure::of_type(ToolFailure::CANCELLED, "the call was cancelled")
        }
        ServiceError::TransportClosed | ServiceError::TransportSend(_) => {
            ToolFailure::of_type(ToolFailure::TRANSPORT_ERROR, "the MCP server ended during the call")
        }
        _ => ToolFailure::of_type(ToolFailure::TRANSPORT_ERROR, "the MCP server did not answer as it should"),
    }
}

fn text(content: &[ContentBlock]) -> String {
    let texts: Vec<_> = content.iter().filter_map(|c| c.as_text()).map(|t| t.text.as_str()).collect();
    if texts.is_empty() {
        return "the tool failed without a message".to_owned();
    }
    bounded(texts.join("\n"))
}

fn bounded(mut text: String) -> String {
    if text.len() > MESSAGE_BYTES {
        text.truncate(text.floor_char_boundary(MESSAGE_BYTES));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer(json: Value) -> CallToolResult {
        serde_json::from_value(json).expect("is a result")
    }

    #[test]
    fn content_and_structure_pass_and_nothing_else() {
        let both = answer(json!({
            "content": [{"type": "text", "text": "9"}, {"type": "image", "data": "AA==", "mimeType": "image/png"}],
            "structuredContent": {"n": 9},
            "_meta": {"secret": 1},
        }));
        let expected = json!({
            "content": [{"type": "text", "text": "9"}, {"type": "image", "data": "AA==", "mimeType": "image/png"}],
            "structuredContent": {"n": 9},
        });
        assert_eq!(result(both), Ok(expected));
        assert_eq!(result(answer(json!({"content": []}))), Ok(json!({"content": []})));
    }

    #[test]
    fn an_error_becomes_a_failure_with_its_text() {
        let failed = answer(json!({"content": [{"type": "text", "text": "no such zone"}], "isError": true}));
        assert_eq!(result(failed), Err(ToolFailure::new("no such zone")));
        let long =
            answer(json!({"content": [{"type": "text", "text": "ä".repeat(10_000)}], "isError": true}));
        assert!(result(long).expect_err("failed").message().len() <= MESSAGE_BYTES + 3);
        assert_eq!(failure(&ServiceError::TransportClosed).kind(), ToolFailure::TRANSPORT_ERROR);
    }
}
