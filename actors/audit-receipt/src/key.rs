use aesp_merkle::sha256;
use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};

/// Names a public key: the first 8 bytes of its SHA-256 hash.
pub type KeyId = [u8; 8];

/// The 32 bytes of an Ed25519 public key that signs audit logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PublicKey(pub [u8; 32]);

impl PublicKey {
    /// Returns the key's name.
    #[must_use]
    pub fn id(&self) -> KeyId {
        let mut id = [0; 8];
        id.copy_from_slice(&sha256(&[&self.0])[..8]);
        id
    }

    /// Tells whether this key signed the message.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.0).verify(message, signature).is_ok()
    }
}
