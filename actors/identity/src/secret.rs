use std::fmt;

use aws_lc_rs::{constant_time::verify_slices_are_equal, rand};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::Error;

/// 128 bits each for the family and for the single token: both beyond guessing.
const FAMILY_BYTES: usize = 16;

/// 256 bits that only their holder knows. Shown by nothing, compared in constant time, wiped when dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Secret([u8; 32]);

impl Secret {
    /// Draws a secret from the cryptographic provider.
    ///
    /// # Errors
    /// [`Error::Cryptography`] if the system has no randomness to give.
    pub fn generate() -> Result<Self, Error> {
        let mut secret = Self([0; 32]);
        rand::fill(&mut secret.0).map_err(|_| Error::Cryptography("random bytes"))?;
        Ok(secret)
    }

    /// Returns the secret with these bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Draws a secret of the same family: the first half stays, the second is new.
    pub(crate) fn successor(&self) -> Result<Self, Error> {
        let mut next = Self::generate()?;
        next.0[..FAMILY_BYTES].copy_from_slice(self.family());
        Ok(next)
    }

    /// Returns the half that stays the same from one refresh token to the next.
    pub(crate) fn family(&self) -> &[u8] {
        &self.0[..FAMILY_BYTES]
    }

    /// Overwrites the secret.
    pub(crate) fn copy_from(&mut self, bytes: &[u8]) {
        self.0.copy_from_slice(bytes);
    }

    /// Returns the 32 bytes.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}
