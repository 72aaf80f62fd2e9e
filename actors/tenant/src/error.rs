use std::time::Duration;

use aesp_proto::ErrorCode;

/// Why something about a tenant was refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such tenant.
    #[error("there is no such tenant")]
    NotFound,
    /// Another tenant has, or had, the name.
    #[error("the name is taken")]
    NameTaken,
    /// The name is not `^[a-z][a-z0-9-]{1,62}$`.
    #[error("a tenant's name has 2 to 63 characters, a-z, 0-9 and -, and starts with a letter")]
    InvalidName,
    /// A field is out of its range.
    #[error("{0}")]
    Invalid(String),
    /// The tenant is in a state that the change does not start from.
    #[error("the tenant is {status}, so it can't be {change}")]
    Conflict {
        /// What it is.
        status: &'static str,
        /// What it was to become.
        change: &'static str,
    },
    /// The tenant is suspended; every call is refused.
    #[error("the tenant is suspended")]
    Suspended,
    /// The tenant was deleted.
    #[error("the tenant was deleted")]
    Deleted,
    /// As many as the quota allows are there already.
    #[error("the tenant's quota of {limit} {what} is reached")]
    QuotaExceeded {
        /// Of what.
        what: &'static str,
        /// How many are allowed.
        limit: u32,
        /// When to try again.
        retry_after: Duration,
    },
    /// More calls a second than the quota allows.
    #[error("the tenant's quota of {limit} calls a second is exceeded")]
    RateLimited {
        /// How many are allowed.
        limit: u32,
        /// When the next one would be admitted.
        retry_after: Duration,
    },
    /// Whether the quota allows it can't be decided at the moment. It is not said that the quota is reached.
    #[error("whether the tenant's quota of {what} is reached can't be decided at the moment: {why}")]
    LimitUnknown {
        /// Of what.
        what: &'static str,
        /// Why not, for people.
        why: &'static str,
        /// When to try again.
        retry_after: Duration,
    },
    /// There is no such configuration key.
    #[error("there is no configuration key {0:?}")]
    UnknownKey(String),
    /// The text is no value of the key.
    #[error("{key} {expected}")]
    InvalidValue {
        /// The key.
        key: &'static str,
        /// What it must be.
        expected: String,
    },
    /// The stored version is another than the caller expected.
    #[error("{key} is at version {current}")]
    VersionConflict {
        /// The key.
        key: &'static str,
        /// The stored version.
        current: u32,
    },
    /// The key never had this version.
    #[error("{key} has no version {version}")]
    UnknownVersion {
        /// The key.
        key: &'static str,
        /// What was asked for.
        version: u32,
    },
    /// The tenant's actor did not answer.
    #[error("the tenant's actor did not answer")]
    Actor(#[from] aesp_supervision::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] aesp_storage::Error),
}

impl Error {
    /// Returns the stable code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::NotFound | Self::UnknownKey(_) | Self::UnknownVersion { .. } => ErrorCode::NotFound,
            Self::NameTaken | Self::Conflict { .. } | Self::VersionConflict { .. } => {
                ErrorCode::StateConflict
            }
            Self::InvalidName | Self::Invalid(_) | Self::InvalidValue { .. } => ErrorCode::InvalidRequest,
            Self::Suspended | Self::Deleted => ErrorCode::TenantSuspended,
            Self::QuotaExceeded { .. } => ErrorCode::QuotaExceeded,
            Self::RateLimited { .. } => ErrorCode::RateLimitExceeded,
            Self::LimitUnknown { .. } | Self::Actor(_) => ErrorCode::ServiceUnavailable,
            Self::Store(error) => error.code(),
        }
    }

    /// Tells whether the same request may succeed later, unchanged.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::QuotaExceeded { .. }
            | Self::RateLimited { .. }
            | Self::LimitUnknown { .. }
            | Self::Actor(_) => true,
            Self::Store(error) => error.code() == ErrorCode::ServiceUnavailable,
            _ => false,
        }
    }

    fn remedy(&self) -> Option<&'static str> {
        Some(match self {
            Self::NameTaken => "choose another name; names of deleted tenants stay taken",
            Self::Suspended => "ask the platform's operators: aesp tenant resume",
            Self::QuotaExceeded { .. } | Self::RateLimited { .. } => {
                "wait, or ask the platform's operators for more: aesp tenant quota"
            }
            Self::LimitUnknown { .. } => {
                "ask again, at any node; if it lasts, an operator looks at the nodes: aesp cluster status"
            }
            Self::UnknownKey(_) => "list the keys: aesp config list",
            Self::VersionConflict { .. } => "read the value again and decide anew",
            _ => return None,
        })
    }
}

impl From<Error> for aesp_proto::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Store(error) => error.into(),
            Error::Actor(error) => error.into(),
            error => {
                let mut refusal = Self::new(error.code(), error.to_string());
                if let Some(remedy) = error.remedy() {
                    refusal = refusal.remedy(remedy);
                }
                if let Error::QuotaExceeded { retry_after, .. }
                | Error::RateLimited { retry_after, .. }
                | Error::LimitUnknown { retry_after, .. } = error
                {
                    refusal = refusal.retry_after(retry_after);
                }
                refusal
            }
        }
    }
}
