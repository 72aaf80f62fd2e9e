use aesp_storage::Error;
use serde_json::Value;

/// Why a request has no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// It can't be reached, throttles or is broken.
    Away(String),
    /// It does not let the node do this.
    Denied(String),
    /// There is no such thing.
    NotFound(String),
    /// The key or secret is disabled, expired or deleted.
    Gone(String),
    /// The request makes no sense to it.
    Refused(String),
}

impl Failure {
    /// Reads a status and an answer of the form `{"error": {"code", "message", "innererror": {"code"}}}`.
    pub(super) fn of(status: u16, answer: &Value) -> Self {
        let error = &answer["error"];
        let texts =
            [&error["code"], &error["innererror"]["code"], &error["message"], &answer["error_description"]];
        let texts: Vec<_> = texts.into_iter().filter_map(Value::as_str).collect();
        let text = if texts.is_empty() { format!("HTTP status {status}") } else { texts.join(": ") };
        let disabled = [
            "KeyDisabled",
            "SecretDisabled",
            "ObjectIsDeletedButRecoverable",
            "KeyNotYetValid",
            "KeyExpired",
        ];
        match status {
            403 | 404 | 409 if disabled.iter().any(|code| text.contains(code)) => Self::Gone(text),
            400 if answer["error"] == "invalid_client" || answer["error"] == "unauthorized_client" => {
                Self::Denied(text)
            }
            400 | 405 | 409 | 422 => Self::Refused(text),
            401 | 403 => Self::Denied(text),
            404 => Self::NotFound(text),
            _ => Self::Away(text),
        }
    }

    pub(super) fn plain(self, address: &str) -> Error {
        match self {
            Self::Away(why) => Error::KeyProviderAway(format!("{address}: {why}").into()),
            Self::Denied(why) => Error::KeyProviderDenied(format!("{address}: {why}").into()),
            Self::Gone(why) => Error::MasterKeyGone(format!("{address}: {why}").into()),
            Self::NotFound(why) | Self::Refused(why) => Error::KeyProvider(format!("{address}: {why}")),
        }
    }
}
