use data_encoding::HEXLOWER;

use crate::KeyId;

/// Why a receipt shows nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is no receipt, or one of a later Host.
    #[error("not a receipt: {0}")]
    Malformed(&'static str),
    /// Something in it was changed: its parts do not belong together.
    #[error("the receipt was changed: {0}")]
    Altered(&'static str),
    /// Bring the key that signed it: it is none of those that are trusted.
    #[error("the receipt is signed by the key {}, which is none of those that are trusted", HEXLOWER.encode(.0))]
    UnknownKey(KeyId),
    /// Somebody else made it, or changed it.
    #[error("the signature of the receipt is wrong")]
    Signature,
}
