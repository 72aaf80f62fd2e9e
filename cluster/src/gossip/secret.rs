use std::fmt;

use aws_lc_rs::hkdf;
use xaes_256_gcm::{
    Key, Nonce, Tag, Xaes256Gcm,
    aead::{AeadInOut, KeyInit},
};
use zeroize::Zeroizing;

/// The shortest secret, in bytes; shorter ones could be guessed by who records datagrams.
pub const SHORTEST_SECRET_BYTES: usize = 32;

pub(super) const MARK_BYTES: usize = 4;
pub(super) const NONCE_BYTES: usize = 24;
pub(super) const TAG_BYTES: usize = 16;

/// The cluster's secrets, the newest first: it seals, all of them open. To rotate, every node first gets the new one behind the
/// old one, then before it, and then the old one is left out.
#[derive(Clone)]
pub struct Secrets(Vec<Zeroizing<Vec<u8>>>);

impl Secrets {
    /// Takes secrets of at least [`SHORTEST_SECRET_BYTES`], the newest first; returns `None` if there is none or one is shorter.
    #[must_use]
    pub fn new(secrets: impl IntoIterator<Item = Vec<u8>>) -> Option<Self> {
        let secrets: Vec<_> = secrets.into_iter().map(Zeroizing::new).collect();
        let long = secrets.iter().all(|secret| secret.len() >= SHORTEST_SECRET_BYTES);
        (!secrets.is_empty() && long).then_some(Self(secrets))
    }

    /// Derives the keys for one cluster.
    pub(super) fn keys(&self, cluster: &str) -> Vec<ClusterKey> {
        self.0.iter().map(|secret| ClusterKey::derive(secret, cluster)).collect()
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({})", self.0.len())
    }
}

/// What one secret makes for one cluster: the key that seals, and two marks that tell keys and clusters apart before anything is
/// opened. XAES-256-GCM, because its nonces may be random for practically any number of datagrams.
pub(super) struct ClusterKey {
    pub(super) secret_mark: [u8; MARK_BYTES],
    pub(super) cluster_mark: [u8; MARK_BYTES],
    key: Xaes256Gcm,
}

impl ClusterKey {
    fn derive(secret: &[u8], cluster: &str) -> Self {
        let derived = hkdf::Salt::new(hkdf::HKDF_SHA256, b"aesp gossip 1").extract(secret);
        let mut key = Zeroizing::new([0; 32]);
        expand(&derived, &[b"key", cluster.as_bytes()], key.as_mut_slice());
        let (mut secret_mark, mut cluster_mark) = ([0; MARK_BYTES], [0; MARK_BYTES]);
        expand(&derived, &[b"secret"], &mut secret_mark);
        expand(&derived, &[b"cluster", cluster.as_bytes()], &mut cluster_mark);
        Self { secret_mark, cluster_mark, key: Xaes256Gcm::new(&Key::<Xaes256Gcm>::from(*key)) }
    }

    /// Encrypts `body` in place and returns its tag.
    pub(super) fn seal(
        &self,
        nonce: [u8; NONCE_BYTES],
        aad: &[u8],
        body: &mut [u8],
    ) -> Option<[u8; TAG_BYTES]> {
        self.key.encrypt_inout_detached(&Nonce::from(nonce), aad, body.into()).ok().map(Into::into)
    }

    /// Decrypts `body` in place; returns `false` and leaves nothing to use if it was not sealed under this key with this `aad`.
    pub(super) fn open(
        &self,
        nonce: [u8; NONCE_BYTES],
        aad: &[u8],
        body: &mut [u8],
        tag: [u8; TAG_BYTES],
    ) -> bool {
        self.key.decrypt_inout_detached(&Nonce::from(nonce), aad, body.into(), &Tag::from(tag)).is_ok()
    }
}

fn expand(derived: &hkdf::Prk, info: &[&[u8]], out: &mut [u8]) {
    struct Length(usize);
    impl hkdf::KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }
    derived
        .expand(info, Length(out.len()))
        .and_then(|okm| okm.fill(out))
        .expect("HKDF gives up to 255 blocks, and this is at most one");
}
