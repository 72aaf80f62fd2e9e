use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};

use crate::{SecretRef, SecretText, Unresolved};

/// How often a secret is read again, unless somebody says otherwise.
const REFRESH: Duration = Duration::from_secs(60);

/// A place of secrets on another machine.
#[async_trait]
pub trait SecretPlace: Send + Sync + 'static {
    /// Tells whether the reference is to a secret of this place.
    fn has(&self, reference: &SecretRef) -> bool;

    /// Reads a secret.
    async fn read(&self, reference: &SecretRef) -> Result<SecretText, Unresolved>;
}

/// Reads secrets where their references say that they lie, and again and again, so that a rotation needs no restart. Cheap to clone.
#[derive(Clone)]
pub struct Secrets {
    places: Arc<[Arc<dyn SecretPlace>]>,
    refresh: Duration,
}

impl Secrets {
    /// Reads from this machine and from these places.
    #[must_use]
    pub fn new(places: Vec<Arc<dyn SecretPlace>>) -> Self {
        Self { places: places.into(), refresh: REFRESH }
    }

    /// Reads again so often.
    #[must_use]
    pub fn refreshed_every(mut self, refresh: Duration) -> Self {
        self.refresh = refresh;
        self
    }

    /// Reads a secret once.
    ///
    /// # Errors
    /// [`Unresolved`] if it isn't there, may not be read, or its place is away or not configured.
    pub async fn read(&self, reference: &SecretRef) -> Result<SecretText, Unresolved> {
        if reference.is_here() {
            return reference.read_here();
        }
        match self.places.iter().find(|place| place.has(reference)) {
            Some(place) => place.read(reference).await,
            None => Err(reference.unresolved("no such place of secrets is configured".into())),
        }
    }

    /// Reads a secret now, and from then on follows its changes. What can't be read again stays as it was, with a warning.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub async fn follow(&self, reference: &SecretRef) -> Result<Secret, Unresolved> {
        let first = self.read(reference).await?;
        let (newest, receiver) = watch::channel(first);
        let (secrets, reference) = (self.clone(), reference.clone());
        let following = tokio::spawn(async move {
            let mut ticks = interval(secrets.refresh);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks.tick().await;
            loop {
                ticks.tick().await;
                match secrets.read(&reference).await {
                    Ok(read) => {
                        let changed = newest.send_if_modified(|held| {
                            let changed = *held != read;
                            *held = read;
                            changed
                        });
                        if changed {
                            tracing::info!(%reference, "a secret was replaced");
                        }
                    }
                    Err(error) => tracing::warn!(%error, "a secret stays as it was"),
                }
            }
        });
        Ok(Secret { newest: receiver, _following: Following(following) })
    }
}

/// A secret that is followed: always the newest that could be read. Ends its reading when it is dropped.
pub struct Secret {
    newest: watch::Receiver<SecretText>,
    _following: Following,
}

struct Following(JoinHandle<()>);

impl Drop for Following {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Secret {
    /// Returns the newest value, to be used at once and kept nowhere.
    #[must_use]
    pub fn newest(&self) -> SecretText {
        self.newest.borrow().clone()
    }

    /// Waits until it is another.
    pub async fn changed(&mut self) -> SecretText {
        // The sender lives as long as this.
        if self.newest.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        self.newest.borrow_and_update().clone()
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, fs};

    use super::*;

    /// Secrets that lie in memory.
    #[derive(Default)]
    struct HeldSecrets(HashMap<SecretRef, SecretText>);

    impl HeldSecrets {
        fn with(mut self, reference: SecretRef, text: &str) -> Self {
            self.0.insert(reference, SecretText::new(text.to_owned()));
            self
        }
    }

    #[async_trait]
    impl SecretPlace for HeldSecrets {
        fn has(&self, reference: &SecretRef) -> bool {
            self.0.contains_key(reference)
        }

        async fn read(&self, reference: &SecretRef) -> Result<SecretText, Unresolved> {
            self.0.get(reference).cloned().ok_or_else(|| reference.unresolved("it is not there".into()))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_secret_is_followed_and_outlives_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        fs::write(&path, "one\n").unwrap();
        let secrets = Secrets::new(Vec::new());
        let mut secret = secrets.follow(&SecretRef::File(path.clone())).await.unwrap();
        assert_eq!(secret.newest().expose(), "one");
        fs::write(&path, "two\n").unwrap();
        assert_eq!(secret.changed().await.expose(), "two");
        fs::remove_file(&path).unwrap();
        tokio::time::sleep(REFRESH * 3).await;
        assert_eq!(secret.newest().expose(), "two", "better than none");
        assert_eq!(format!("{secret:?}"), "Secret");
    }

    #[tokio::test]
    async fn each_place_is_asked_for_its_own() {
        let reference: SecretRef = "vault:secret/ldap#password".parse().unwrap();
        let other: SecretRef = "azkv:ldap".parse().unwrap();
        let secrets = Secrets::new(vec![Arc::new(HeldSecrets::default().with(reference.clone(), "hunter2"))]);
        assert_eq!(secrets.read(&reference).await.unwrap().expose(), "hunter2");
        let why = secrets.read(&other).await.unwrap_err().to_string();
        assert!(why.contains("azkv:ldap") && why.contains("no such place"), "{why}");
    }
}
