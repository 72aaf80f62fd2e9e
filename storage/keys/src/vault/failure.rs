use aesp_storage::Error;

/// Why a request has no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// It can't be reached, is sealed, has too much to do or is broken.
    Away(String),
    /// It does not let the node do this.
    Denied(String),
    /// There is no such thing.
    NotFound(String),
    /// The request makes no sense to it.
    Refused(String),
    /// What it needs on this machine can't be used.
    Setup(Error),
}

impl Failure {
    /// Reads a status and the texts of an answer's `errors`.
    pub(super) fn of(status: u16, errors: String) -> Self {
        let text = if errors.is_empty() { format!("HTTP status {status}") } else { errors };
        match status {
            400 | 405 | 422 => Self::Refused(text),
            401 | 403 => Self::Denied(text),
            404 => Self::NotFound(text),
            _ => Self::Away(text),
        }
    }

    /// Returns the error, for a question that has no special answers.
    pub(super) fn plain(self, address: &str) -> Error {
        match self {
            Self::Away(why) => Error::KeyProviderAway(format!("{address}: {why}").into()),
            Self::Denied(why) => Error::KeyProviderDenied(format!("{address}: {why}").into()),
            Self::NotFound(why) | Self::Refused(why) => Error::KeyProvider(format!("{address}: {why}")),
            Self::Setup(error) => error,
        }
    }

    /// Returns the error of a key that can't be unwrapped.
    pub(super) fn unwrapping(self, address: &str, what: &str) -> Error {
        let Self::Refused(why) = self else { return self.plain(address) };
        let gone =
            ["too old", "too new", "encryption key not found", "disallowed by policy", "version not found"];
        if gone.iter().any(|part| why.contains(part)) {
            return Error::MasterKeyGone(format!("{what} at {address}: {why}").into());
        }
        if ["authentication failed", "invalid ciphertext"].iter().any(|part| why.contains(part)) {
            return Error::WrongMasterKey;
        }
        Self::Refused(why).plain(address)
    }
}
