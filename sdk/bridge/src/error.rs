use std::time::Duration;

use aesp_proto::ErrorCode;
use rmcp::service::{ClientInitializeError, ServiceError};

/// Why an MCP server can't be bridged.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is nothing to start.
    #[error("no command is given")]
    NoCommand,
    /// The program does not start; check its path.
    #[error("`{program}` can't be started")]
    Spawn {
        /// The program.
        program: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// It runs, but does not speak MCP on its standard input and output; see what it wrote to standard error.
    #[error("`{program}` did not answer as an MCP server does")]
    Handshake {
        /// The program.
        program: String,
        /// What went wrong.
        #[source]
        source: Box<ClientInitializeError>,
    },
    /// It runs, but is silent.
    #[error("`{program}` did not answer within {limit:?}")]
    Silent {
        /// The program.
        program: String,
        /// How long it had.
        limit: Duration,
    },
    /// Its tools can't be listed.
    #[error("the tools of `{program}` can't be listed")]
    List {
        /// The program.
        program: String,
        /// What went wrong.
        #[source]
        source: ServiceError,
    },
    /// The include list names a tool that the server does not have.
    #[error("`{program}` has no tool `{tool}`")]
    UnknownTool {
        /// The program.
        program: String,
        /// The tool.
        tool: String,
    },
    /// The Runtime could not be described, or the Host refused it.
    #[error("{0}")]
    Runtime(aesp_proto::Error),
}

impl Error {
    /// Returns the stable code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::NoCommand | Self::Spawn { .. } | Self::UnknownTool { .. } => ErrorCode::ConfigurationError,
            Self::Handshake { .. } | Self::Silent { .. } | Self::List { .. } => ErrorCode::TransportError,
            Self::Runtime(error) => error.code(),
        }
    }

    /// Tells whether the same may succeed later, unchanged.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Runtime(error) => error.is_retryable(),
            Self::Handshake { .. } | Self::Silent { .. } | Self::List { .. } => true,
            Self::NoCommand | Self::Spawn { .. } | Self::UnknownTool { .. } => false,
        }
    }
}

impl From<aesp_proto::Error> for Error {
    fn from(error: aesp_proto::Error) -> Self {
        Self::Runtime(error)
    }
}

impl From<Error> for aesp_proto::Error {
    fn from(error: Error) -> Self {
        let remedy = match &error {
            Error::NoCommand => "give the command after `--`",
            Error::Spawn { .. } => "check the program's path and permissions",
            Error::Handshake { .. } | Error::Silent { .. } | Error::List { .. } => {
                "see what the server wrote to standard error; run it by hand to check that it is a stdio MCP server"
            }
            Error::UnknownTool { .. } => {
                "correct the include list; `aesp tool import mcp` shows what there is"
            }
            Error::Runtime(_) => "",
        };
        match error {
            Error::Runtime(error) => error,
            error => Self::new(error.code(), error.to_string()).remedy(remedy).because(error),
        }
    }
}
