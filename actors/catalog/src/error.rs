use std::fmt;

use aesp_proto::ErrorCode;

/// How many violations an error names.
pub(crate) const MAX_VIOLATIONS: usize = 10;

/// Why a contract, an import or a document is refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Correct the draft.
    #[error("the contract is not valid: {0}")]
    InvalidContract(String),
    /// Correct the schema: it is not JSON Schema 2020-12, or could be made to cost without bound.
    #[error("the {which} schema is not acceptable: {reason}")]
    InvalidSchema {
        /// `parameters`, `result` or `chunk`.
        which: &'static str,
        /// What is wrong, and where.
        reason: String,
    },
    /// Correct the import: it is not what it should be as a whole.
    #[error("the import is not valid: {0}")]
    InvalidImport(String),
    /// Send a document within the limits: JSON, not too long or deep, no key twice, no number out of range.
    #[error("the {what} are not acceptable JSON: {reason}")]
    Malformed {
        /// `arguments`, `result` or `chunk`.
        what: &'static str,
        /// What is wrong; without any value of the document.
        reason: String,
    },
    /// Correct the document: it violates the contract's schema.
    #[error("the {what} violate the contract: {}", List(.violations))]
    Violations {
        /// `arguments`, `result` or `chunk`.
        what: &'static str,
        /// Where and what was expected, at most 10.
        violations: Vec<Violation>,
    },
    /// Correct the arguments: one that policies read is not of its declared type, so that they can't be asked.
    #[error("the argument at {0} can't be given to policies")]
    NotVisible(String),
    /// Name another: there is no such contract, or no such version.
    #[error("there is no such contract")]
    NotFound,
    /// Choose another version: this one is stored with other content.
    #[error("{name} {version} exists already with other content")]
    VersionTaken {
        /// The contract.
        name: String,
        /// The version.
        version: String,
    },
    /// Look at it again: what is stored is not what was reviewed.
    #[error("the stored contract is not the one expected")]
    DigestMismatch,
    /// Choose another name: the tenant would have two contracts of this one.
    #[error("{name} is already the name of an active contract of {owner}")]
    NameTaken {
        /// The contract.
        name: String,
        /// Whose it is, in words.
        owner: &'static str,
    },
    /// Create a new version: a retired one does not come back.
    #[error("the contract is retired")]
    Retired,
    /// Leave tenants out: only the platform may offer to others.
    #[error("only the platform's contracts can be offered to other tenants")]
    NotPlatform,
    /// Remove something first.
    #[error("the tenant has {limit} versions of contracts, which is the most that it may have")]
    TooMany {
        /// How many are allowed.
        limit: usize,
    },
    /// The store refused; its own error says what to do.
    #[error("store")]
    Store(#[from] aesp_storage::Error),
}

/// One way in which a document violates its schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Where in the document, as JSON pointer; empty for the whole.
    pub pointer: String,
    /// What was expected there. Never what was found.
    pub expected: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.pointer.is_empty() { "/" } else { &self.pointer };
        write!(f, "at {place}: expected {}", self.expected)
    }
}

struct List<'a>(&'a [Violation]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, violation) in self.0.iter().enumerate() {
            if number > 0 {
                f.write_str("; ")?;
            }
            violation.fmt(f)?;
        }
        if self.0.len() == MAX_VIOLATIONS { f.write_str("; perhaps more") } else { Ok(()) }
    }
}

impl Error {
    /// Returns the stable code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::InvalidContract(_)
            | Self::InvalidSchema { .. }
            | Self::InvalidImport(_)
            | Self::NotPlatform => ErrorCode::InvalidRequest,
            Self::Malformed { .. } | Self::Violations { .. } | Self::NotVisible(_) => {
                ErrorCode::SchemaViolation
            }
            Self::NotFound => ErrorCode::ToolNotFound,
            Self::VersionTaken { .. } | Self::DigestMismatch | Self::NameTaken { .. } | Self::Retired => {
                ErrorCode::StateConflict
            }
            Self::TooMany { .. } => ErrorCode::QuotaExceeded,
            Self::Store(_) => ErrorCode::ServiceUnavailable,
        }
    }

    /// Tells whether the same request may succeed later, unchanged.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_retryable())
    }
}

impl From<Error> for aesp_proto::Error {
    fn from(error: Error) -> Self {
        let step = match &error {
            Error::Store(_) => {
                let Error::Store(store) = error else { unreachable!("matched above") };
                return store.into();
            }
            Error::InvalidContract(_) | Error::InvalidSchema { .. } => "correct the draft",
            Error::InvalidImport(_) => "correct the document that is imported",
            Error::Malformed { .. } | Error::Violations { .. } | Error::NotVisible(_) => {
                "correct it by the schema that the catalogue shows for the tool"
            }
            Error::NotFound => "list the contracts or tools that there are",
            Error::VersionTaken { .. } | Error::Retired => "choose a new version",
            Error::DigestMismatch => "read the contract again and review what it says now",
            Error::NameTaken { .. } => "choose another name, or retire the other contract first",
            Error::NotPlatform => "leave offered_to empty",
            Error::TooMany { .. } => "ask the operators of the platform",
        };
        Self::new(error.code(), error.to_string()).remedy(step)
    }
}
