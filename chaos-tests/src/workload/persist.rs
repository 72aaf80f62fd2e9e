use std::time::Duration;

use aesp_proto::Error;
use aesp_sdk::ErrorCode;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::Status;

const ATTEMPT: Duration = Duration::from_secs(8);
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(200);

/// Sends a request until it is answered or refused for good. `None` when neither came in time, or before `stop`.
pub(super) async fn persist<T, F, Fut>(stop: &CancellationToken, ask: F) -> Option<Result<T, ErrorCode>>
where
    F: Fn() -> Fut,
    Fut: Future<Output = Result<T, Status>>,
{
    let begun = Instant::now();
    loop {
        if let Ok(answer) = timeout(ATTEMPT, ask()).await {
            match answer {
                Ok(answer) => return Some(Ok(answer)),
                Err(status) => match Error::from_status(&status).code() {
                    code if is_final(code) => return Some(Err(code)),
                    _ => {}
                },
            }
        }
        if stop.is_cancelled() || begun.elapsed() > PATIENCE {
            return None;
        }
        sleep(PAUSE).await;
    }
}

/// Tells whether an administrator hears the same when asking again.
fn is_final(code: ErrorCode) -> bool {
    use ErrorCode as E;
    matches!(
        code,
        E::StateConflict
            | E::NotFound
            | E::InvalidRequest
            | E::AuthorizationDenied
            | E::PermissionDenied
            | E::InsufficientPermissions
            | E::QuotaExceeded
    )
}
