//! What this component stores. Everything is sealed; names and certificate identities occur in keys only as blind indexes.

use aesp_proto::{PrincipalId, TenantId, Timestamp, TokenId, v1};
use aesp_storage::{Blind, Kind, Row};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::{CertificateIdentity, Error, Invitation, PrincipalName, fingerprint::Fingerprint};

/// A principal, by its id.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PrincipalRow {
    pub(crate) kind: PrincipalKind,
    pub(crate) name: PrincipalName,
    pub(crate) status: PrincipalStatus,
    pub(crate) created_at: Timestamp,
    pub(crate) certificate_identities: Vec<CertificateIdentity>,
    /// Counts the times that everything it held was revoked.
    pub(crate) generation: u64,
    /// The one key that it logs in with.
    pub(crate) api_key: Option<TokenId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PrincipalKind {
    User,
    ServiceAccount,
    SystemAccount,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PrincipalStatus {
    Active,
    Revoked,
}

/// Which principal has a name, by the blind index of the name.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PrincipalNameRow {
    pub(crate) principal: PrincipalId,
}

/// An API key, by its id.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ApiKeyRow {
    pub(crate) principal: PrincipalId,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) created_at: Timestamp,
}

/// The refresh tokens that descend from one login, by the family's id.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RefreshFamilyRow {
    pub(crate) principal: PrincipalId,
    /// The principal's generation at the login.
    pub(crate) principal_generation: u64,
    /// Of the half of the secret that all tokens of the family have.
    pub(crate) family: Fingerprint,
    /// Of the one token that is still good.
    pub(crate) current: Fingerprint,
    /// How many tokens came before the current one.
    pub(crate) generation: u64,
    pub(crate) created_at: Timestamp,
    /// When the current token ends.
    pub(crate) expires_at: Timestamp,
    /// When the last token of the family ends, however often it is refreshed.
    pub(crate) ends_at: Timestamp,
    pub(crate) revoked: bool,
}

/// A key that signs access tokens, by its id (`kid`), under the platform.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct SigningKeyRow {
    pub(crate) state: SigningKeyState,
    pub(crate) created_at: Timestamp,
    /// 32 bytes, base64url as in a JWK.
    pub(crate) public: String,
    /// PKCS#8, only while the key signs: afterwards nobody needs it.
    pub(crate) private: Option<PrivateKey>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SigningKeyState {
    Active,
    VerifyingUntil(Timestamp),
    Retired,
}

/// An Ed25519 key in PKCS#8, base64.
#[derive(Clone, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(transparent)]
pub(crate) struct PrivateKey(pub(crate) String);

/// An access token, or every access token of a refresh family, that ended before its time; by the id of either.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RevokedTokenRow {
    /// When the last token that this is about ends by itself.
    pub(crate) until: Timestamp,
}

/// Whom a certificate identity acts as, under the platform, by the blind index of the identity.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CertificateBindingRow {
    pub(crate) tenant: TenantId,
    pub(crate) principal: PrincipalId,
}

/// A token with which a node may join, by its id, under the platform.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct JoinTokenRow {
    pub(crate) fingerprint: Fingerprint,
    #[serde(flatten)]
    pub(crate) invitation: Invitation,
}

impl Row for JoinTokenRow {
    const KIND: Kind = Kind::JOIN_TOKEN;
    type Key = TokenId;
}

impl Row for PrincipalRow {
    const KIND: Kind = Kind::PRINCIPAL;
    type Key = PrincipalId;
}

impl Row for PrincipalNameRow {
    const KIND: Kind = Kind::PRINCIPAL_NAME;
    type Key = Blind;
}

impl Row for ApiKeyRow {
    const KIND: Kind = Kind::API_KEY;
    type Key = TokenId;
}

impl Row for RefreshFamilyRow {
    const KIND: Kind = Kind::REFRESH_FAMILY;
    type Key = TokenId;
}

impl Row for SigningKeyRow {
    const KIND: Kind = Kind::SIGNING_KEY;
    type Key = TokenId;
}

impl Row for RevokedTokenRow {
    const KIND: Kind = Kind::REVOKED_TOKEN;
    type Key = TokenId;
}

impl Row for CertificateBindingRow {
    const KIND: Kind = Kind::CERTIFICATE_BINDING;
    type Key = Blind;
}

impl From<PrincipalKind> for v1::PrincipalType {
    fn from(kind: PrincipalKind) -> Self {
        match kind {
            PrincipalKind::User => Self::User,
            PrincipalKind::ServiceAccount => Self::ServiceAccount,
            PrincipalKind::SystemAccount => Self::SystemAccount,
        }
    }
}

impl TryFrom<v1::PrincipalType> for PrincipalKind {
    type Error = Error;

    fn try_from(kind: v1::PrincipalType) -> Result<Self, Error> {
        match kind {
            v1::PrincipalType::User => Ok(Self::User),
            v1::PrincipalType::ServiceAccount => Ok(Self::ServiceAccount),
            v1::PrincipalType::SystemAccount => Ok(Self::SystemAccount),
            v1::PrincipalType::Unspecified => Err(Error::InvalidKind),
        }
    }
}

impl From<PrincipalStatus> for v1::PrincipalStatus {
    fn from(status: PrincipalStatus) -> Self {
        match status {
            PrincipalStatus::Active => Self::PrincipalActive,
            PrincipalStatus::Revoked => Self::PrincipalRevoked,
        }
    }
}
