use std::{fmt, sync::Arc, time::Duration};

use aesp_proto::{Entropy, Incarnation, Timestamp, TokenId};
use aesp_storage::Transaction;
use arc_swap::ArcSwap;
use aws_lc_rs::digest::{SHA256, digest};
use quick_cache::sync::Cache;
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use crate::{
    Claims, Error, Principal, Refusal,
    claims::{WireClaims, whole_seconds},
    key_set::{KeySet, Purpose},
    keys,
    voucher::Voucher,
};

/// The longest that an access token may live, whatever the configuration says: revocations are kept for as long.
pub(crate) const MAX_ACCESS_LIFETIME: Duration = Duration::from_secs(3600);

const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// What a Host's access tokens say of it, and how many of them a node remembers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenOptions {
    /// Who issues (`iss`), the same on all nodes of the cluster.
    pub issuer: String,
    /// Whom the tokens are for (`aud`).
    pub audience: String,
    /// How long a token lives, in whole seconds, at most an hour.
    pub lifetime: Duration,
    /// How many verified tokens are kept, at about 250 bytes each.
    pub remembered: usize,
}

impl Default for TokenOptions {
    fn default() -> Self {
        Self {
            issuer: "aesp".into(),
            audience: "aesp".into(),
            lifetime: Duration::from_secs(300),
            remembered: 50_000,
        }
    }
}

/// A fresh access token.
#[derive(Clone)]
pub struct AccessToken {
    /// What it says.
    pub claims: Arc<Claims>,
    text: Zeroizing<String>,
}

impl AccessToken {
    /// Returns the text, to be handed to its holder.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.text
    }

    /// Returns how long the token lives.
    #[must_use]
    pub fn lifetime(&self) -> Duration {
        self.claims.expires_at.since(self.claims.issued_at)
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "access token({:?}, redacted)", self.claims)
    }
}

/// Issues and verifies access tokens with the signing keys of the cluster.
///
/// Source: RFC 7519 (JWT), RFC 8037 (EdDSA), RFC 9068 (access tokens), RFC 8725 (best practices).
pub struct Tokens {
    options: TokenOptions,
    keys: ArcSwap<KeySet>,
    /// Held while the keys are loaded and put there, or an older load could take the place of a newer one.
    reloading: Mutex<()>,
    verified: Cache<[u8; 32], Verified>,
}

/// A token that was verified, with the keys that it was verified with: others forget it.
#[derive(Clone)]
struct Verified {
    claims: Arc<Claims>,
    keys: Arc<KeySet>,
}

impl Tokens {
    /// Loads the signing keys.
    ///
    /// # Errors
    /// [`Error::Cryptography`] if a key in the store is none; the store's.
    pub async fn load(tx: &Transaction, options: TokenOptions) -> Result<Self, Error> {
        let keys = KeySet::new(keys::load(tx).await?)?;
        Ok(Self {
            verified: Cache::new(options.remembered),
            keys: ArcSwap::from_pointee(keys),
            reloading: Mutex::new(()),
            options: TokenOptions { lifetime: options.lifetime.min(MAX_ACCESS_LIFETIME), ..options },
        })
    }

    /// Takes keys that no store holds.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn with_keys(keys: KeySet, options: TokenOptions) -> Self {
        let verified = Cache::new(options.remembered);
        Self { verified, keys: ArcSwap::from_pointee(keys), reloading: Mutex::new(()), options }
    }

    /// Loads the signing keys again, after this or another node rotated them. Not in the transaction that rotates: its
    /// commit may fail.
    ///
    /// # Errors
    /// As [`Tokens::load`]; the keys stay as they were.
    pub async fn reload(&self, tx: &Transaction) -> Result<(), Error> {
        let _turn = self.reloading.lock().await;
        let keys = KeySet::new(keys::load(tx).await?)?;
        self.keys.store(Arc::new(keys));
        self.verified.clear();
        Ok(())
    }

    /// Issues an access token for a principal that has just proven who it is.
    ///
    /// # Errors
    /// [`Error::NoSigningKey`], [`Error::Cryptography`].
    pub fn issue(
        &self,
        principal: &Principal,
        family: Option<TokenId>,
        entropy: &Entropy,
        now: Timestamp,
    ) -> Result<AccessToken, Error> {
        let issued_at = whole_seconds(now);
        let claims = Claims {
            token: TokenId::random(entropy),
            principal: principal.id,
            tenant: principal.tenant,
            issued_at,
            not_before: issued_at,
            expires_at: whole_seconds(issued_at.plus(self.options.lifetime)),
            family,
            generation: principal.generation,
        };
        let wire = WireClaims::new(&self.options.issuer, &self.options.audience, &claims);
        Ok(AccessToken { text: self.keys.load().sign(Purpose::Access, &wire)?, claims: Arc::new(claims) })
    }

    /// Verifies a token at `now`: its signature, algorithm, type, issuer, audience and time. Whether it was revoked is
    /// for [`Snapshot::check`](crate::Snapshot::check). A token that was verified before costs a hash and a look-up.
    ///
    /// # Errors
    /// [`Error::Token`].
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Arc<Claims>, Error> {
        self.verify_inner(token, now).map_err(Error::Token)
    }

    fn verify_inner(&self, token: &str, now: Timestamp) -> Result<Arc<Claims>, Refusal> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Refusal::TooLarge);
        }
        let keys = self.keys.load();
        let hash: [u8; 32] =
            digest(&SHA256, token.as_bytes()).as_ref().try_into().expect("SHA-256 has 32 bytes");
        if let Some(verified) = self.verified.get(&hash)
            && Arc::ptr_eq(&verified.keys, &keys)
        {
            if let Err(refusal) = verified.claims.check_time(now) {
                self.verified.remove(&hash);
                return Err(refusal);
            }
            return Ok(verified.claims);
        }
        let claims = keys.verify::<WireClaims>(Purpose::Access, token, &self.options, now)?.into_claims();
        claims.check_time(now)?;
        let claims = Arc::new(claims);
        self.verified.insert(hash, Verified { claims: Arc::clone(&claims), keys: Arc::clone(&keys) });
        Ok(claims)
    }

    /// Vouches to another node, for a minute, that a client connected to `gateway` showed this certificate.
    ///
    /// # Errors
    /// [`Error::NoSigningKey`], [`Error::Cryptography`].
    pub fn vouch(
        &self,
        certificate: &str,
        gateway: Incarnation,
        now: Timestamp,
    ) -> Result<Zeroizing<String>, Error> {
        let voucher = Voucher::new(&self.options, certificate, gateway, now);
        self.keys.load().sign(Purpose::Voucher, &voucher)
    }

    /// Returns the certificate identity that a node vouches for, if it is the node that the request came from.
    ///
    /// # Errors
    /// [`Error::Token`].
    pub fn vouched(&self, voucher: &str, gateway: Incarnation, now: Timestamp) -> Result<String, Error> {
        let keys = self.keys.load();
        let read = keys.verify::<Voucher>(Purpose::Voucher, voucher, &self.options, now);
        read.and_then(|voucher| voucher.certificate(gateway, now)).map_err(Error::Token)
    }

    /// Returns the public keys as a JSON Web Key Set.
    ///
    /// Source: RFC 7517 §5, RFC 8037 §2.
    #[must_use]
    pub fn jwks(&self) -> String {
        self.keys.load().jwks().to_owned()
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("options", &self.options).finish_non_exhaustive()
    }
}
