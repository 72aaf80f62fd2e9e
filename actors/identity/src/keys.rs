use std::time::Duration;

use aesp_proto::{Entropy, TenantId, Timestamp, TokenId};
use aesp_storage::{Scan, Transaction};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use data_encoding::{BASE64, BASE64URL_NOPAD};

use crate::{
    Error,
    rows::{PrivateKey, SigningKeyRow, SigningKeyState},
    tokens::MAX_ACCESS_LIFETIME,
};

/// How long a node that has not heard of a rotation may go on signing with the old key.
const HANDOVER: Duration = Duration::from_secs(600);

/// Returns the key that signs access tokens; creates it when the store is new.
///
/// # Errors
/// [`Error::Cryptography`]; the store's.
pub async fn ensure_signing_key(
    tx: &Transaction,
    entropy: &Entropy,
    now: Timestamp,
) -> Result<TokenId, Error> {
    let keys = load(tx).await?;
    match keys.iter().find(|(_, row)| row.state == SigningKeyState::Active) {
        Some((id, _)) => Ok(*id),
        None => rotate_signing_key(tx, entropy, now).await,
    }
}

/// Creates the key that signs from now on. The one before verifies until the last token that it signed has ended; its
/// private half is gone at once. Every node must [`reload`](crate::Tokens::reload) before the call that rotates returns.
///
/// # Errors
/// [`Error::Cryptography`]; the store's.
pub async fn rotate_signing_key(
    tx: &Transaction,
    entropy: &Entropy,
    now: Timestamp,
) -> Result<TokenId, Error> {
    for (id, mut row) in load(tx).await? {
        row.state = match row.state {
            SigningKeyState::Active => {
                SigningKeyState::VerifyingUntil(now.plus(MAX_ACCESS_LIFETIME).plus(HANDOVER))
            }
            SigningKeyState::VerifyingUntil(until) if until <= now => SigningKeyState::Retired,
            _ => continue,
        };
        row.private = None;
        tx.put(TenantId::PLATFORM, &id, &row).await?;
    }
    let id = TokenId::random(entropy);
    tx.put(TenantId::PLATFORM, &id, &generate(now)?).await?;
    tx.bump_revision(TenantId::PLATFORM).await?;
    Ok(id)
}

/// Ends a key that must not verify any more, because its private half has leaked. Tokens that it signed end with it.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::KeyActive`] if it is the one that signs: rotate first; the store's.
pub async fn retire_signing_key(tx: &Transaction, key: TokenId) -> Result<(), Error> {
    tx.use_reserve();
    let mut row = tx.get::<SigningKeyRow>(TenantId::PLATFORM, &key).await?.ok_or(Error::NotFound)?;
    if row.state == SigningKeyState::Active {
        return Err(Error::KeyActive);
    }
    row.state = SigningKeyState::Retired;
    tx.put(TenantId::PLATFORM, &key, &row).await?;
    tx.bump_revision(TenantId::PLATFORM).await?;
    Ok(())
}

/// Returns every signing key, retired ones too.
pub(crate) async fn load(tx: &Transaction) -> Result<Vec<(TokenId, SigningKeyRow)>, Error> {
    Ok(tx.scan::<SigningKeyRow>(TenantId::PLATFORM, Scan::default()).await?)
}

fn generate(now: Timestamp) -> Result<SigningKeyRow, Error> {
    let failed = |_| Error::Cryptography("Ed25519 key generation");
    let pair = Ed25519KeyPair::generate().map_err(failed)?;
    let private = pair.to_pkcs8().map_err(failed)?;
    Ok(SigningKeyRow {
        state: SigningKeyState::Active,
        created_at: now,
        public: BASE64URL_NOPAD.encode(pair.public_key().as_ref()),
        private: Some(PrivateKey(BASE64.encode(private.as_ref()))),
    })
}

#[cfg(test)]
mod tests {
    use aesp_storage::Store;

    use super::*;

    #[tokio::test]
    async fn only_the_key_that_signs_has_its_private_half() {
        let store = Store::for_tests();
        let mut states = Vec::new();
        for hours in [0, 1, 2] {
            let now = Timestamp(1_800_000_000_000).plus(Duration::from_secs(hours * 5_000));
            let entropy = Entropy::from_seed(hours);
            let rows = store
                .run::<_, Error, _>(|tx| {
                    let entropy = entropy.clone();
                    Box::pin(async move {
                        rotate_signing_key(tx, &entropy, now).await?;
                        load(tx).await
                    })
                })
                .await
                .unwrap();
            states = rows.into_iter().map(|(_, row)| (row.state, row.private.is_some())).collect();
            assert_eq!(states.iter().filter(|(state, _)| *state == SigningKeyState::Active).count(), 1);
            assert!(states.iter().all(|(state, private)| *private == (*state == SigningKeyState::Active)));
        }
        assert_eq!(states.len(), 3);
        assert!(states.contains(&(SigningKeyState::Retired, false)));
    }
}
