use foundationdb::FdbError;

use crate::{Error, MAX_TRANSACTION_BYTES};

/// What is to be done about one of FoundationDB's errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Remedy {
    /// Nothing was written and the same again may succeed: read anew.
    Rerun,
    /// Nothing was written; the cluster has too much to do.
    BackOff,
    /// Nothing was written: an operator has locked the database.
    Unlock,
    /// Nothing was written: it is more than a transaction may have.
    WriteLess,
    /// Nobody knows whether it was written.
    LookItUp,
    /// Correct the program: it read its own versionstamped key.
    Unreadable,
    /// The cluster did not answer in time.
    Wait,
    /// Anything else.
    Other,
}

/// Source: FoundationDB 7.3, flow/error_definitions.h and the predicates of its C API.
fn remedy(code: i32) -> Remedy {
    match code {
        // transaction_too_old, future_version, not_committed, process_behind
        1007 | 1009 | 1020 | 1037 => Remedy::Rerun,
        // commit_unknown_result, its fatal form, cluster_version_changed
        1021 | 1022 | 1039 => Remedy::LookItUp,
        // timed_out, transaction_timed_out
        1004 | 1031 => Remedy::Wait,
        1036 => Remedy::Unreadable,
        1038 => Remedy::Unlock,
        // commit_proxy_memory_limit_exceeded, batch_transaction_throttled, grv_proxy_memory_limit_exceeded, tag_throttled,
        // proxy_tag_throttled
        1042 | 1051 | 1078 | 1213 | 1223 => Remedy::BackOff,
        2101 => Remedy::WriteLess,
        _ => Remedy::Other,
    }
}

/// Returns what a failure means before anything was sent to be committed.
pub(super) fn of_read(error: FdbError) -> Error {
    before_commit(error.code(), || error.message())
}

/// Returns what a failure of a commit of about `bytes` means.
pub(super) fn of_commit(error: FdbError, bytes: usize) -> Error {
    at_commit(error.code(), bytes, || error.message())
}

/// Tells whether a watch that ended with this error may have ended because of a change, or of the cluster's own doing: then
/// looking again is the right thing, as after a change.
pub(super) fn is_hint(error: FdbError) -> bool {
    matches!(remedy(error.code()), Remedy::Rerun | Remedy::LookItUp)
}

fn before_commit(code: i32, message: impl Fn() -> &'static str) -> Error {
    match remedy(code) {
        Remedy::Rerun | Remedy::LookItUp => Error::Conflict,
        Remedy::Unreadable => Error::Unreadable,
        Remedy::WriteLess => too_large(MAX_TRANSACTION_BYTES),
        Remedy::Wait => Error::unavailable(
            "FoundationDB did not answer within 5 s: look at `fdbcli --exec status` and the network to its machines",
        ),
        Remedy::BackOff => Error::unavailable(format!("FoundationDB has too much to do ({})", message())),
        Remedy::Unlock => Error::unavailable(
            "the FoundationDB database is locked, as during a restore; end that, or `fdbcli --exec unlock`",
        ),
        Remedy::Other => Error::unavailable(format!("FoundationDB failed: {} (error {code})", message())),
    }
}

fn at_commit(code: i32, bytes: usize, message: impl Fn() -> &'static str) -> Error {
    match remedy(code) {
        Remedy::Rerun | Remedy::BackOff | Remedy::Unlock | Remedy::Unreadable => before_commit(code, message),
        Remedy::WriteLess => too_large(bytes),
        // Fail closed: what is not known to be refused may have been written.
        Remedy::LookItUp | Remedy::Wait | Remedy::Other => {
            tracing::debug!(code, "a commit on FoundationDB ended without an answer");
            Error::CommitUnknown
        }
    }
}

fn too_large(bytes: usize) -> Error {
    Error::TooLarge { what: "transaction", limit_bytes: MAX_TRANSACTION_BYTES, actual_bytes: bytes }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(code: i32) -> Error {
        at_commit(code, 12_000_000, || "as the library puts it")
    }

    fn read(code: i32) -> Error {
        before_commit(code, || "as the library puts it")
    }

    #[test]
    fn a_commit_without_a_clear_refusal_is_unknown() {
        // Cancelled, timed out, dropped, a broken promise, an error of tomorrow: all after the commit was sent.
        for code in [1021, 1022, 1025, 1031, 1039, 1100, 1101, 1500, 4100, 9999] {
            assert!(matches!(commit(code), Error::CommitUnknown), "{code}");
        }
    }

    #[test]
    fn a_refused_commit_is_known_not_to_be_written() {
        for code in [1007, 1009, 1020, 1037] {
            assert!(matches!(commit(code), Error::Conflict), "{code}");
        }
        for code in [1038, 1042, 1051, 1078, 1213, 1223] {
            assert!(matches!(commit(code), Error::Unavailable(_)), "{code}");
        }
        let large = commit(2101);
        assert!(matches!(large, Error::TooLarge { what: "transaction", actual_bytes: 12_000_000, .. }));
    }

    #[test]
    fn a_read_never_ends_unknown() {
        for code in (1000..1300).chain(2000..2300) {
            assert!(!matches!(read(code), Error::CommitUnknown), "{code}");
        }
        assert!(matches!(read(1007), Error::Conflict), "an old read version is read anew");
        assert!(read(1031).to_string().contains("fdbcli --exec status"));
        assert!(read(1038).to_string().contains("unlock"));
        assert!(read(1500).to_string().contains("as the library puts it (error 1500)"));
    }
}
