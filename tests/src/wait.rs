use std::time::Duration;

use anyhow::Context;
use tokio::time::{Instant, sleep, timeout};

/// How long anything that is waited for may take, on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(20);

/// Waits for `future`.
///
/// # Errors
/// When it is not ready within [`DEADLINE`].
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> anyhow::Result<T> {
    timeout(DEADLINE, future).await.with_context(|| format!("waited {DEADLINE:?} in vain: {what}"))
}

/// Asks again and again until there is an answer.
///
/// # Errors
/// When there is none within [`DEADLINE`], with the last reason.
pub async fn until<T, F, Fut>(what: &str, mut ask: F) -> anyhow::Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = anyhow::Result<T>>,
{
    let end = Instant::now() + DEADLINE;
    loop {
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(error) if Instant::now() >= end => {
                return Err(error.context(format!("waited {DEADLINE:?} in vain: {what}")));
            }
            Err(_) => sleep(PAUSE).await,
        }
    }
}
