use std::{fmt, marker::PhantomData, str::FromStr, sync::OnceLock};

use aesp_proto::{TenantId, TokenId};
use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::{Encoding, Specification};
use zeroize::Zeroizing;

use crate::Secret;

const PAYLOAD_BYTES: usize = 64;
const CHECKSUM_BYTES: usize = 4;
const BYTES: usize = PAYLOAD_BYTES + CHECKSUM_BYTES;
/// 68 bytes are 109 characters of 5 bits.
const CHARACTERS: usize = (BYTES * 8).div_ceil(5);

/// Tells one kind of credential from another, in the type and in the text.
pub trait CredentialKind: 'static {
    /// What the text starts with.
    const PREFIX: &'static str;
    /// What a person calls it.
    const NOUN: &'static str;
}

/// The kinds of credentials.
pub mod kind {
    use super::CredentialKind;

    /// Of a principal, until it is rotated.
    #[derive(Debug)]
    pub enum ApiKey {}
    /// Good for one refresh.
    #[derive(Debug)]
    pub enum RefreshToken {}
    /// Lets one node join the cluster.
    #[derive(Debug)]
    pub enum JoinToken {}

    impl CredentialKind for ApiKey {
        const PREFIX: &'static str = "aesp_";
        const NOUN: &'static str = "API key";
    }
    impl CredentialKind for RefreshToken {
        const PREFIX: &'static str = "aespr_";
        const NOUN: &'static str = "refresh token";
    }
    impl CredentialKind for JoinToken {
        const PREFIX: &'static str = "aespj_";
        const NOUN: &'static str = "join token";
    }
}

/// A text that proves who presents it: a prefix and, in base 32, the tenant's id (16 bytes), the credential's own id
/// (16), the secret (32) and a checksum (4) that tells a typing error from a wrong secret.
pub struct Credential<K> {
    tenant: TenantId,
    id: TokenId,
    secret: Secret,
    kind: PhantomData<fn() -> K>,
}

/// A long-lived key of one principal; its id is the key's.
pub type ApiKey = Credential<kind::ApiKey>;
/// A token that is replaced at each use; its id is its family's.
pub type RefreshToken = Credential<kind::RefreshToken>;
/// A token with which a node joins, once; its id is the token's, its tenant the platform.
pub type JoinToken = Credential<kind::JoinToken>;

/// The text is not a credential of the expected kind, whatever the store holds. It was cut, mistyped, or is something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MalformedCredential {
    /// Another prefix.
    #[error("{noun} must start with {prefix}")]
    Prefix {
        /// What a person calls the credential.
        noun: &'static str,
        /// What it starts with.
        prefix: &'static str,
    },
    /// Too short, too long, or characters that never occur.
    #[error("{noun} must have {CHARACTERS} characters from 0-9 and a-v after its prefix")]
    Form {
        /// What a person calls the credential.
        noun: &'static str,
    },
    /// A character is wrong.
    #[error("{noun} has a typing error: its checksum does not match")]
    Checksum {
        /// What a person calls the credential.
        noun: &'static str,
    },
}

impl<K: CredentialKind> Credential<K> {
    /// Puts a credential together.
    #[must_use]
    pub fn new(tenant: TenantId, id: TokenId, secret: Secret) -> Self {
        Self { tenant, id, secret, kind: PhantomData }
    }

    /// Returns the tenant that the credential says it is of.
    #[must_use]
    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// Returns the id of the key or family.
    #[must_use]
    pub fn id(&self) -> TokenId {
        self.id
    }

    /// Returns the secret.
    #[must_use]
    pub fn secret(&self) -> &Secret {
        &self.secret
    }

    /// Returns the text, to be shown once to its holder.
    #[must_use]
    pub fn reveal(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new([0; BYTES]);
        bytes[..16].copy_from_slice(self.tenant.as_bytes());
        bytes[16..32].copy_from_slice(self.id.as_bytes());
        bytes[32..PAYLOAD_BYTES].copy_from_slice(self.secret.expose());
        let checksum = checksum::<K>(&bytes[..PAYLOAD_BYTES]);
        bytes[PAYLOAD_BYTES..].copy_from_slice(&checksum);
        let mut text = Zeroizing::new(String::with_capacity(K::PREFIX.len() + CHARACTERS));
        text.push_str(K::PREFIX);
        base32().encode_append(bytes.as_slice(), &mut text);
        text
    }
}

impl<K: CredentialKind> FromStr for Credential<K> {
    type Err = MalformedCredential;

    fn from_str(text: &str) -> Result<Self, MalformedCredential> {
        let noun = K::NOUN;
        let digits =
            text.strip_prefix(K::PREFIX).ok_or(MalformedCredential::Prefix { noun, prefix: K::PREFIX })?;
        if digits.len() != CHARACTERS {
            return Err(MalformedCredential::Form { noun });
        }
        let mut bytes = Zeroizing::new([0; BYTES]);
        base32()
            .decode_mut(digits.as_bytes(), bytes.as_mut_slice())
            .map_err(|_| MalformedCredential::Form { noun })?;
        if checksum::<K>(&bytes[..PAYLOAD_BYTES]) != bytes[PAYLOAD_BYTES..] {
            return Err(MalformedCredential::Checksum { noun });
        }
        let mut secret = Secret::from_bytes([0; 32]);
        secret.copy_from(&bytes[32..PAYLOAD_BYTES]);
        Ok(Self::new(
            TenantId::from_slice(&bytes[..16]).expect("16 bytes"),
            TokenId::from_slice(&bytes[16..32]).expect("16 bytes"),
            secret,
        ))
    }
}

impl<K: CredentialKind> fmt::Debug for Credential<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({}, {}, redacted)", K::NOUN, self.tenant, self.id)
    }
}

impl<K> Clone for Credential<K> {
    fn clone(&self) -> Self {
        Self { tenant: self.tenant, id: self.id, secret: self.secret.clone(), kind: PhantomData }
    }
}

/// The first bytes of SHA-256 over prefix and payload: an unkeyed guard against typing errors, no more.
fn checksum<K: CredentialKind>(payload: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut input = Zeroizing::new([0; 8 + PAYLOAD_BYTES]);
    input[..K::PREFIX.len()].copy_from_slice(K::PREFIX.as_bytes());
    input[8..].copy_from_slice(payload);
    let mut out = [0; CHECKSUM_BYTES];
    out.copy_from_slice(&digest(&SHA256, input.as_slice()).as_ref()[..CHECKSUM_BYTES]);
    out
}

/// The alphabet of the ids: RFC 4648 "extended hex" in lower case, without padding. One text for one credential.
fn base32() -> &'static Encoding {
    static ENCODING: OnceLock<Encoding> = OnceLock::new();
    ENCODING.get_or_init(|| {
        let mut specification = Specification::new();
        specification.symbols.push_str("0123456789abcdefghijklmnopqrstuv");
        specification.encoding().expect("32 distinct symbols")
    })
}
