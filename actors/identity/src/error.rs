use std::time::Duration;

use aesp_proto::ErrorCode;

use crate::{JoinRefusal, MalformedCredential};

/// Why a credential or token was refused. For logs and audit; a stranger hears less, see [`Error::client_text`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// No such tenant, key or family.
    #[error("unknown credential")]
    Unknown,
    /// The id exists, the secret is another.
    #[error("wrong secret")]
    WrongSecret,
    /// The principal was revoked.
    #[error("principal is revoked")]
    PrincipalRevoked,
    /// The certificate is valid, and bound to nobody.
    #[error("certificate is bound to no principal")]
    CertificateUnbound,
    /// The credential, its family, or everything that the principal held was revoked.
    #[error("credential is revoked")]
    Revoked,
    /// It was used before, so somebody else has it.
    #[error("refresh token was used before")]
    Reused,
    /// Its time is over.
    #[error("expired")]
    Expired,
    /// Its time has not come; the issuer's clock is ahead, or ours is behind.
    #[error("not yet valid")]
    NotYetValid,
    /// More than 8 kB.
    #[error("token is too large")]
    TooLarge,
    /// Not a signed JSON Web Token of the Host's form.
    #[error("token is malformed")]
    Malformed,
    /// An algorithm other than EdDSA, or none.
    #[error("token has another algorithm")]
    Algorithm,
    /// Not an access token.
    #[error("token has another type")]
    Type,
    /// Signed with a key that this Host does not know, or no longer takes.
    #[error("unknown signing key")]
    UnknownKey,
    /// The signature is not the key's.
    #[error("wrong signature")]
    Signature,
    /// Of another Host.
    #[error("token is of another issuer")]
    Issuer,
    /// For somebody else.
    #[error("token is for another audience")]
    Audience,
    /// Of another tenant.
    #[error("token is of another tenant")]
    Tenant,
}

/// What went wrong with an identity.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A login or refresh failed. The client can't tell why; `.0` says it to the log.
    #[error("login refused: {0}")]
    Credentials(Refusal),
    /// An access token is not good, or no longer.
    #[error("access token refused: {0}")]
    Token(Refusal),
    /// A node may not join with this token.
    #[error("join refused: {0}")]
    Join(JoinRefusal),
    /// Revoke some of the join tokens that nobody has used.
    #[error("there are too many open join tokens")]
    TooManyJoinTokens,
    /// The text is no credential at all; correct it.
    #[error("malformed credential")]
    Malformed(#[from] MalformedCredential),
    /// Choose another name.
    #[error("a principal of this name exists")]
    NameTaken,
    /// The name breaks the rule.
    #[error("invalid principal name")]
    InvalidName,
    /// A principal is a user, a service account or a system account.
    #[error("invalid principal type")]
    InvalidKind,
    /// The certificate identity is empty, too long, or has control characters.
    #[error("invalid certificate identity")]
    InvalidIdentity,
    /// The certificate identity acts as another principal; unbind it there first.
    #[error("the certificate identity is bound to another principal")]
    IdentityTaken,
    /// A principal has at most 16.
    #[error("too many certificate identities")]
    TooManyIdentities,
    /// No such principal in this tenant.
    #[error("no such principal")]
    NotFound,
    /// Nothing can be given to a revoked principal; create another.
    #[error("the principal is revoked")]
    Revoked,
    /// The store has principals of the platform already.
    #[error("the platform has an administrator already")]
    AlreadyInitialised,
    /// The cursor did not come from a previous page.
    #[error("invalid cursor")]
    InvalidCursor,
    /// Create a signing key first.
    #[error("there is no active signing key")]
    NoSigningKey,
    /// The key that signs can't be retired; rotate first.
    #[error("the signing key is active")]
    KeyActive,
    /// The cryptographic provider refused.
    #[error("cryptographic provider failed: {0}")]
    Cryptography(&'static str),
    /// The store could not do it.
    #[error("store failed")]
    Storage(#[from] aesp_storage::Error),
}

impl Error {
    /// Returns the stable code for the client.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Credentials(_) => ErrorCode::InvalidCredentials,
            Self::Token(_) => ErrorCode::AuthenticationFailed,
            Self::Join(refusal) => refusal.code(),
            Self::TooManyJoinTokens => ErrorCode::QuotaExceeded,
            Self::Malformed(_)
            | Self::InvalidName
            | Self::InvalidKind
            | Self::InvalidIdentity
            | Self::InvalidCursor => ErrorCode::InvalidRequest,
            Self::NameTaken
            | Self::IdentityTaken
            | Self::Revoked
            | Self::AlreadyInitialised
            | Self::KeyActive => ErrorCode::StateConflict,
            Self::TooManyIdentities => ErrorCode::QuotaExceeded,
            Self::NotFound => ErrorCode::NotFound,
            Self::NoSigningKey => ErrorCode::ServiceUnavailable,
            Self::Cryptography(_) => ErrorCode::InternalError,
            Self::Storage(error) => error.code(),
        }
    }

    /// Tells whether the same request may succeed later, unchanged.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Storage(error) => error.is_retryable(),
            Self::NoSigningKey => true,
            _ => false,
        }
    }

    /// Returns the text for the client: one and the same for every failed login, so that nobody learns which tenants,
    /// accounts or keys exist.
    #[must_use]
    pub fn client_text(&self) -> String {
        match self {
            Self::Credentials(_) => "the credentials are not valid".into(),
            Self::Token(Refusal::Expired) => "the access token has expired".into(),
            Self::Token(Refusal::NotYetValid) => "the access token is not valid yet".into(),
            Self::Token(Refusal::Revoked | Refusal::PrincipalRevoked) => {
                "the access token was revoked".into()
            }
            Self::Token(Refusal::TooLarge) => "the access token is larger than 8 kB".into(),
            Self::Token(_) => "the access token is not valid".into(),
            Self::Malformed(malformed) => malformed.to_string(),
            Self::Join(refusal) => refusal.to_string(),
            Self::Cryptography(_) => "the Host could not complete the request".into(),
            Self::Storage(_) => "the store is not available".into(),
            other => other.to_string(),
        }
    }

    fn remedy(&self) -> Option<&'static str> {
        Some(match self {
            Self::Credentials(_) => "use a current API key; an administrator can rotate it",
            Self::Token(_) => "refresh the access token, or log in again",
            Self::Malformed(_) => "copy the credential again, whole, as it was shown",
            Self::Join(refusal) => refusal.remedy(),
            Self::TooManyJoinTokens => "revoke those that are not needed: aesp cluster join-tokens",
            Self::InvalidName => {
                "use 1 to 63 characters from a-z, 0-9, '.', '_' and '-', the first a letter; not the form of an id"
            }
            Self::InvalidIdentity => "use 1 to 512 characters without control characters",
            Self::NameTaken => "choose another name; the name of a revoked principal stays taken",
            Self::IdentityTaken => "unbind it from the other principal first",
            Self::Revoked => "create another principal",
            Self::KeyActive => "rotate the signing key first",
            Self::InvalidCursor => "start from an empty cursor",
            _ => return None,
        })
    }
}

impl From<Error> for aesp_proto::Error {
    fn from(error: Error) -> Self {
        let error = match error {
            Error::Storage(error) => return error.into(),
            other => other,
        };
        let mut out = Self::new(error.code(), error.client_text());
        if let Some(step) = error.remedy() {
            out = out.remedy(step);
        }
        if error.is_retryable() {
            out = out.retry_after(Duration::from_secs(1));
        }
        out.because(error)
    }
}
