use serde_json::{Value, json};

use crate::{Error, command::McpCommand, server::Server};

/// Starts an MCP server, asks for its tools, stops it, and returns its `tools/list` result, `{"tools": […]}`, for the import of
/// contracts.
///
/// # Errors
/// Any of [`Error`] but [`Error::UnknownTool`] and [`Error::Runtime`].
pub async fn list_tools_json(command: &McpCommand) -> Result<Value, Error> {
    let server = Server::start(command).await?;
    let tools = server.tools().await;
    server.stop().await;
    Ok(json!({ "tools": tools? }))
}
