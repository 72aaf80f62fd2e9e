//! Turns any stdio MCP server into a Runtime of the AESP Host: the server runs as a child process, its tools are offered
//! through the SDK, and the Host governs every call of them.

mod bridge;
mod command;
mod convert;
mod error;
mod list;
mod selection;
mod server;
mod stderr;

pub use bridge::{Bridge, BridgeOptions};
pub use command::McpCommand;
pub use error::Error;
pub use list::list_tools_json;
pub use selection::Selection;
