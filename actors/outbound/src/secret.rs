use aesp_keys::{Secret, SecretRef, SecretText, Secrets};
use tokio::sync::OnceCell;

use crate::{Cause, Failure};

/// The secret of one of the others, if it has one. It is read when it is first needed, and followed from then on: a place of secrets that is
/// away holds up what needs it and not the node.
pub struct LateSecret {
    secrets: Secrets,
    reference: Option<SecretRef>,
    followed: OnceCell<Secret>,
}

impl LateSecret {
    /// Prepares to read what the reference names; reads nothing yet.
    #[must_use]
    pub fn new(secrets: Secrets, reference: Option<SecretRef>) -> Self {
        Self { secrets, reference, followed: OnceCell::new() }
    }

    /// Returns the newest value, to be used at once and kept nowhere.
    ///
    /// # Errors
    /// Why it can't be read now.
    pub async fn newest(&self) -> Result<Option<SecretText>, Failure> {
        let Some(reference) = &self.reference else { return Ok(None) };
        let followed = self.followed.get_or_try_init(|| self.secrets.follow(reference)).await;
        followed.map(|secret| Some(secret.newest())).map_err(|error| {
            let cause = if error.away { Cause::Unreachable } else { Cause::Refused };
            Failure::new(cause, error.to_string())
        })
    }

    /// As [`newest`](Self::newest), where there must be one.
    ///
    /// # Errors
    /// As [`newest`](Self::newest), and that there is none.
    pub async fn needed(&self) -> Result<SecretText, Failure> {
        let newest = self.newest().await?;
        newest.ok_or_else(|| Failure::new(Cause::Refused, "its configuration has no secret"))
    }
}
