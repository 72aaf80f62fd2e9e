use std::time::Duration;

use crate::Error;

/// The longest key, in bytes.
pub const MAX_KEY_BYTES: usize = 500;
/// The longest raw value, in bytes; typed rows are chunked below it.
pub const MAX_VALUE_BYTES: usize = 100_000;
/// The longest typed row, encoded and sealed, in bytes. A little below the transaction that has to carry it.
pub const MAX_ROW_BYTES: usize = 9_900_000;
/// The most that a transaction may have, in bytes: the keys and values that it writes and the keys that it reads (as in
/// FoundationDB, values that are only read don't count).
pub const MAX_TRANSACTION_BYTES: usize = 10_000_000;
/// How long a transaction may live, from its first step to its commit.
pub const TRANSACTION_TIME: Duration = Duration::from_secs(5);

/// Checks the length of a key.
pub(crate) fn key(key: &[u8]) -> Result<(), Error> {
    if key.is_empty() {
        return Err(Error::EmptyKey);
    }
    check("key", key.len(), MAX_KEY_BYTES)
}

/// Checks the length of a raw value.
pub(crate) fn value(value: &[u8]) -> Result<(), Error> {
    check("value", value.len(), MAX_VALUE_BYTES)
}

/// Checks `actual_bytes` against a limit.
pub(crate) fn check(what: &'static str, actual_bytes: usize, limit_bytes: usize) -> Result<(), Error> {
    if actual_bytes > limit_bytes {
        return Err(Error::TooLarge { what, limit_bytes, actual_bytes });
    }
    Ok(())
}
