use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aesp_storage::{Error, KeyProvider, KeyVersion};
use async_trait::async_trait;
use tokio::{sync::Semaphore, time::timeout};
use zeroize::Zeroizing;

use super::{
    Pkcs11Config,
    token::{RefusedPin, Token},
};

/// An AES key of a hardware security module as master key: it can't leave the token.
///
/// Source: OASIS PKCS #11 2.40 and 3.0, `CKM_AES_GCM` with associated data.
pub struct Pkcs11 {
    config: Pkcs11Config,
    open: Arc<Mutex<Open>>,
    /// A module that hangs holds one thread, not all.
    turn: Arc<Semaphore>,
}

#[derive(Default)]
struct Open {
    token: Option<Token>,
    refused: RefusedPin,
}

/// How long a question may take. Below the time of a transaction.
const WITHIN: Duration = Duration::from_secs(3);
/// What stands before a wrapped key: then the version, 8 bytes.
const MARK: &[u8] = b"aesp-p11:";

impl Pkcs11 {
    /// Loads the module, logs in, and makes sure that there is a key that can't leave the token.
    ///
    /// # Errors
    /// [`Error::KeyProviderAway`], [`Error::KeyProviderDenied`], or [`Error::KeyProvider`] for what is wrong in the configuration.
    pub async fn open(config: Pkcs11Config) -> Result<Self, Error> {
        let provider = Self { config, open: Arc::default(), turn: Arc::new(Semaphore::new(1)) };
        provider.ask(Token::check).await?;
        Ok(provider)
    }

    /// Asks the token on a thread that may block; opens a session if there is none.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Token) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let late =
            || Error::KeyProviderAway(format!("no answer of the token within {} s", WITHIN.as_secs()).into());
        let answered = timeout(WITHIN, async {
            let turn = Arc::clone(&self.turn).acquire_owned().await.map_err(|_| late())?;
            let (open, config) = (Arc::clone(&self.open), self.config.clone());
            let asked = tokio::task::spawn_blocking(move || {
                let _turn = turn;
                let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
                let open = &mut *open;
                let token = match open.token.take() {
                    Some(token) => token,
                    None => Token::open(&config, &mut open.refused)?,
                };
                let answer = question(&token);
                // A session that failed is not used again: the token may have been taken out and put back.
                if !matches!(answer, Err(Error::KeyProviderAway(_) | Error::KeyProviderDenied(_))) {
                    open.token = Some(token);
                }
                answer
            });
            asked.await.map_err(|_| Error::KeyProviderAway("the PKCS#11 module panicked".into()))?
        });
        answered.await.map_err(|_| late())?
    }
}

/// Takes apart what was wrapped: the version, and what the token made.
fn parts(wrapped: &[u8]) -> Result<(u64, &[u8]), Error> {
    let rest = wrapped.strip_prefix(MARK).ok_or(Error::WrongMasterKey)?;
    let (version, sealed) = rest.split_first_chunk().ok_or(Error::WrongMasterKey)?;
    Ok((u64::from_be_bytes(*version), sealed))
}

#[async_trait]
impl KeyProvider for Pkcs11 {
    async fn wrap(&self, key: &[u8], aad: &[u8]) -> Result<Vec<u8>, Error> {
        let (key, aad) = (Zeroizing::new(key.to_vec()), aad.to_vec());
        let (version, sealed) = self.ask(move |token| token.wrap(&key, &aad)).await?;
        Ok([MARK, &version.to_be_bytes(), &sealed].concat())
    }

    async fn unwrap(&self, wrapped: &[u8], aad: &[u8]) -> Result<Vec<u8>, Error> {
        let (version, sealed) = parts(wrapped)?;
        let (sealed, aad) = (sealed.to_vec(), aad.to_vec());
        self.ask(move |token| token.unwrap(version, &sealed, &aad)).await
    }

    fn version_of(&self, wrapped: &[u8]) -> Result<KeyVersion, Error> {
        parts(wrapped).map(|(version, _)| version.into())
    }

    async fn current(&self) -> Result<KeyVersion, Error> {
        self.ask(Token::current).await.map(KeyVersion::from)
    }

    async fn rotate(&self) -> Result<KeyVersion, Error> {
        self.ask(Token::rotate).await.map(KeyVersion::from)
    }

    fn describe(&self) -> String {
        format!("pkcs11:{}/{}", self.config.token, self.config.key)
    }
}

impl std::fmt::Debug for Pkcs11 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pkcs11")
    }
}
