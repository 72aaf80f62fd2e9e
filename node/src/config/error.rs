use std::path::PathBuf;

use super::origin::Origin;

/// Why a configuration can't be used. All of them end the process with code 64.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file can't be read.
    #[error("can't read the configuration file {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{}:{line}: not valid TOML: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What the parser says.
        message: String,
    },
    /// A key that doesn't exist.
    #[error("{origin}: unknown key `{key}`; {hint}")]
    UnknownKey {
        /// Where it is.
        origin: Origin,
        /// Its full name.
        key: String,
        /// What was probably meant.
        hint: String,
    },
    /// A value that can't be.
    #[error("{origin}: `{key}` is {found}; it must be {expected}")]
    Invalid {
        /// Where it is.
        origin: Origin,
        /// Its full name.
        key: String,
        /// What is there.
        found: String,
        /// What would be right.
        expected: String,
    },
}
