use std::{fmt, str::FromStr};

use aesp_proto::PrincipalId;
use serde::{Deserialize, Serialize};

use crate::Error;

const MAX_NAME_BYTES: usize = 63;
const MAX_IDENTITY_BYTES: usize = 512;

/// A principal's name, unique in its tenant: `^[a-z][a-z0-9._-]{0,62}$`, and not the form of a principal's id, because
/// wherever a name is taken an id is taken too.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PrincipalName(String);

impl PrincipalName {
    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PrincipalName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
        let well_formed = text.len() <= MAX_NAME_BYTES
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && text.bytes().all(allowed)
            && text.parse::<PrincipalId>().is_err();
        if well_formed { Ok(Self(text.to_owned())) } else { Err(Error::InvalidName) }
    }
}

impl TryFrom<String> for PrincipalName {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<PrincipalName> for String {
    fn from(name: PrincipalName) -> Self {
        name.0
    }
}

impl fmt::Display for PrincipalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a client certificate says its holder is: a SPIFFE id, a DNS name, a subject. Compared byte for byte.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CertificateIdentity(String);

impl CertificateIdentity {
    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CertificateIdentity {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let well_formed =
            !text.is_empty() && text.len() <= MAX_IDENTITY_BYTES && !text.chars().any(char::is_control);
        if well_formed { Ok(Self(text.to_owned())) } else { Err(Error::InvalidIdentity) }
    }
}

impl TryFrom<String> for CertificateIdentity {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<CertificateIdentity> for String {
    fn from(identity: CertificateIdentity) -> Self {
        identity.0
    }
}

impl fmt::Display for CertificateIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
