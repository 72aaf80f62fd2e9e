use aesp_storage::Error;
use cryptoki::error::{Error as Pkcs11Error, RvError};

/// What a failure of the module means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The token or the session is gone; a new session may help.
    Away,
    /// The login or the right is missing.
    Denied,
    /// What was to be unwrapped was wrapped by another key, or changed.
    Unauthentic,
    /// The key is gone.
    Gone,
    /// It makes no sense to the module.
    Other,
}

pub(super) fn meaning(error: &Pkcs11Error) -> Meaning {
    let Pkcs11Error::Pkcs11(error, _) = error else { return Meaning::Other };
    match error {
        RvError::DeviceError
        | RvError::DeviceMemory
        | RvError::DeviceRemoved
        | RvError::TokenNotPresent
        | RvError::TokenNotRecognized
        | RvError::SlotIdInvalid
        | RvError::SessionClosed
        | RvError::SessionHandleInvalid
        | RvError::SessionCount
        | RvError::HostMemory
        | RvError::FunctionFailed
        | RvError::GeneralError
        | RvError::CryptokiNotInitialized => Meaning::Away,
        RvError::PinIncorrect
        | RvError::PinInvalid
        | RvError::PinLenRange
        | RvError::PinExpired
        | RvError::PinLocked
        | RvError::UserNotLoggedIn
        | RvError::UserPinNotInitialized
        | RvError::KeyFunctionNotPermitted
        | RvError::ActionProhibited
        | RvError::TokenWriteProtected => Meaning::Denied,
        RvError::EncryptedDataInvalid | RvError::EncryptedDataLenRange => Meaning::Unauthentic,
        RvError::KeyHandleInvalid | RvError::ObjectHandleInvalid => Meaning::Gone,
        _ => Meaning::Other,
    }
}

/// Returns the error for a failure while doing `what`.
pub(super) fn told(error: Pkcs11Error, what: &str) -> Error {
    let why = format!("{what}: {error}");
    match meaning(&error) {
        Meaning::Away => Error::KeyProviderAway(why.into()),
        Meaning::Denied => Error::KeyProviderDenied(why.into()),
        Meaning::Unauthentic => Error::WrongMasterKey,
        Meaning::Gone => Error::MasterKeyGone(why.into()),
        Meaning::Other => Error::KeyProvider(why),
    }
}
