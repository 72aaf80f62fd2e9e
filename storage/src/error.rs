use std::{error::Error as StdError, sync::Arc, time::Duration};

use aesp_proto::{Epoch, ErrorCode, ShardId, TenantId};

/// What went wrong in the store. The variants say what the caller does next.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another writer won; the runner reruns the closure.
    #[error("transaction conflict")]
    Conflict,
    /// The commit may have landed; look for the request id before acting.
    #[error("commit outcome unknown")]
    CommitUnknown,
    /// The shard has a newer owner; drop all state of it.
    #[error("fenced: shard {shard} is at epoch {current}")]
    Fenced {
        /// The shard that was written under an older epoch.
        shard: ShardId,
        /// The epoch that holds.
        current: Epoch,
    },
    /// Write less: a key, a value or the whole transaction is beyond its limit.
    #[error("{what} of {actual_bytes} bytes is over the limit of {limit_bytes}")]
    TooLarge {
        /// What is too large: `key`, `value`, `row` or `transaction`.
        what: &'static str,
        /// The most it may have.
        limit_bytes: usize,
        /// What it has.
        actual_bytes: usize,
    },
    /// The transaction lived longer than 5 seconds, or could not win within the runner's time.
    #[error("transaction took too long")]
    Timeout,
    /// Back off and try again: the store can't be reached.
    #[error("store unavailable: {0}")]
    Unavailable(Arc<str>),
    /// Free space, then try again: the map or the disk is full. Nothing was written.
    #[error("store full")]
    Full,
    /// Stop and repair: what is stored is not what this program wrote.
    #[error("store damaged: {what}; {remedy}")]
    Damaged {
        /// What was found.
        what: String,
        /// What an operator does about it.
        remedy: String,
    },
    /// Start with the master key that the store was created with.
    #[error("the master key does not open this store; configure the key that the store was created with")]
    WrongMasterKey,
    /// The tenant's keys were destroyed, or it never had any; what they sealed is gone for good.
    #[error("tenant {tenant} has no keys")]
    KeyDestroyed {
        /// The tenant.
        tenant: TenantId,
    },
    /// The tenant has keys already; creating others would make its rows unreadable.
    #[error("tenant {tenant} has keys already")]
    KeysExist {
        /// The tenant.
        tenant: TenantId,
    },
    /// Wait until the rotation before is over: one data key is rotated at a time.
    #[error("the data key of tenant {tenant} is being rotated")]
    KeyRotating {
        /// The tenant.
        tenant: TenantId,
    },
    /// Back off and try again: the key provider can't be reached. Keys in memory hold for their life; nothing else is opened
    /// or written until it is back.
    #[error("key provider away: {0}")]
    KeyProviderAway(Arc<str>),
    /// Give the node its right back, or the provider its login: it refused what was asked of it.
    #[error("key provider refused: {0}")]
    KeyProviderDenied(Arc<str>),
    /// Bring that version of the master key back, if it was only disabled; what it wrapped can't be opened without it.
    #[error("master key version gone: {0}")]
    MasterKeyGone(Arc<str>),
    /// Correct the configuration of the key provider.
    #[error("key provider: {0}")]
    KeyProvider(String),
    /// Correct the program: a versionstamped key or value was read before its commit.
    #[error("versionstamped data was read before its commit")]
    Unreadable,
    /// Correct the program: no value can lie at the empty key.
    #[error("empty key")]
    EmptyKey,
    /// Correct the program: the row can't be written as JSON.
    #[error("row can't be encoded")]
    Encoding(#[source] Arc<dyn StdError + Send + Sync>),
}

impl Error {
    /// Creates an [`Error::Unavailable`] with the reason for the log.
    pub fn unavailable(reason: impl AsRef<str>) -> Self {
        Self::Unavailable(reason.as_ref().into())
    }

    pub(crate) fn damaged(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Damaged { what: what.into(), remedy: remedy.into() }
    }

    /// Creates the error for a row whose bytes make no sense.
    pub(crate) fn damaged_row(what: impl Into<String>) -> Self {
        Self::damaged(what, "restore the store from a backup")
    }

    /// Returns the code that a client hears.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::TooLarge { .. } => ErrorCode::InvalidRequest,
            Self::KeyDestroyed { .. } | Self::KeysExist { .. } | Self::KeyRotating { .. } => {
                ErrorCode::StateConflict
            }
            Self::Unreadable | Self::EmptyKey | Self::Encoding(_) => ErrorCode::InternalError,
            _ => ErrorCode::ServiceUnavailable,
        }
    }

    /// Tells whether the same transaction, of which nothing was written, may succeed later. An unknown commit is none.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::Conflict | Self::Timeout | Self::Unavailable(_) | Self::KeyProviderAway(_) | Self::Full
        )
    }

    /// Tells whether it is the master key or its provider that stands in the way.
    #[must_use]
    pub fn is_of_keys(&self) -> bool {
        matches!(
            self,
            Self::KeyProviderAway(_)
                | Self::KeyProviderDenied(_)
                | Self::MasterKeyGone(_)
                | Self::WrongMasterKey
                | Self::KeyProvider(_)
        )
    }
}

impl From<Error> for aesp_proto::Error {
    fn from(error: Error) -> Self {
        let code = error.code();
        let refusal = match code {
            ErrorCode::InvalidRequest => Self::new(code, "the request is too large to be stored"),
            ErrorCode::StateConflict => {
                Self::new(code, "the tenant's keys are not in the state that this needs")
            }
            ErrorCode::InternalError => return Self::internal(error),
            _ if matches!(error, Error::KeyProviderAway(_)) => {
                Self::new(code, "the key provider is away: what is sealed can't be read or written now")
                    .retry_after(RETRY_AFTER)
            }
            _ if error.is_of_keys() => Self::new(
                code,
                "the key provider does not give the keys: what is sealed can't be read or written",
            )
            .remedy("an operator finds the reason with aesp key status")
            .retry_after(RETRY_OF_OPERATOR),
            _ => Self::new(code, "the store can't take the request now").retry_after(RETRY_AFTER),
        };
        refusal.because(error)
    }
}

const RETRY_AFTER: Duration = Duration::from_secs(1);
/// What waits for an operator is not asked for every second.
const RETRY_OF_OPERATOR: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_hear_what_to_do_and_nothing_else() {
        let outage = aesp_proto::Error::from(Error::unavailable("disk /dev/sdb1 is gone"));
        assert_eq!(outage.code(), ErrorCode::ServiceUnavailable);
        assert!(outage.retry_delay().is_some());
        assert!(!outage.message().contains("sdb1"));
        let large = aesp_proto::Error::from(Error::TooLarge { what: "row", limit_bytes: 1, actual_bytes: 2 });
        assert_eq!((large.code(), large.is_retryable()), (ErrorCode::InvalidRequest, false));
        assert!(!Error::CommitUnknown.is_retryable(), "it may have landed");
        let away = aesp_proto::Error::from(Error::KeyProviderAway("https://vault.corp refused".into()));
        assert!(away.message().contains("key provider is away") && !away.message().contains("corp"));
        assert!(away.retry_delay() < aesp_proto::Error::from(Error::WrongMasterKey).retry_delay());
    }
}
