use std::fmt;

use aesp_storage::TenantKeys;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use data_encoding::HEXLOWER;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use zeroize::Zeroizing;

use crate::{Credential, CredentialKind};

/// What the store keeps of a secret: its HMAC-SHA-256 under the tenant's digest key.
///
/// A slow hash such as argon2id protects secrets that people choose and that can be guessed. These are 256 random bits
/// (or 128, see [`Fingerprint::of_family`]), so guessing is hopeless at any speed, and a slow hash would only hand
/// strangers a way to burn 20 ms and 19 MiB of the Host with every false key. The key of the HMAC keeps a stolen store
/// from being checked against leaked credentials, and makes the fingerprints of an erased tenant meaningless.
#[derive(Clone)]
pub(crate) struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Returns the fingerprint of the whole credential.
    pub(crate) fn of<K: CredentialKind>(keys: &TenantKeys, credential: &Credential<K>) -> Self {
        Self::new(keys, K::PREFIX, credential, credential.secret().expose())
    }

    /// Returns the fingerprint of the half of the secret that a family of refresh tokens has in common. It proves that a
    /// token, however old, once was the family's: only then may its reappearance end the family.
    pub(crate) fn of_family<K: CredentialKind>(keys: &TenantKeys, credential: &Credential<K>) -> Self {
        Self::new(keys, "family", credential, credential.secret().family())
    }

    fn new<K: CredentialKind>(
        keys: &TenantKeys,
        purpose: &str,
        credential: &Credential<K>,
        secret: &[u8],
    ) -> Self {
        let mut input = Zeroizing::new(Vec::with_capacity(96));
        input.extend_from_slice(purpose.as_bytes());
        input.push(0);
        input.extend_from_slice(credential.tenant().as_bytes());
        input.extend_from_slice(credential.id().as_bytes());
        input.extend_from_slice(secret);
        Self(keys.digest(&input))
    }

    /// Tells whether both are of the same secret, in constant time.
    pub(crate) fn matches(&self, other: &Self) -> bool {
        verify_slices_are_equal(&self.0, &other.0).is_ok()
    }

    /// A fingerprint of nothing, to compare with where no row was found.
    pub(crate) const fn absent() -> Self {
        Self([0; 32])
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprint")
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&HEXLOWER.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        let bytes = HEXLOWER.decode(text.as_bytes()).map_err(de::Error::custom)?;
        bytes.try_into().map(Self).map_err(|_| de::Error::custom("a fingerprint has 32 bytes"))
    }
}
