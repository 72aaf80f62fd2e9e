use std::{sync::Arc, time::Duration};

use aesp_proto::{Clock, Timestamp};
use rustls::{pki_types::UnixTime, time_provider::TimeProvider};

/// The Host's clock in the form that rustls asks for.
#[derive(Debug)]
pub(super) struct TlsClock(pub(super) Arc<dyn Clock>);

impl TimeProvider for TlsClock {
    fn current_time(&self) -> Option<UnixTime> {
        unix_time(self.0.now())
    }
}

/// Returns the time for a verifier; none before 1970.
pub(super) fn unix_time(now: Timestamp) -> Option<UnixTime> {
    let milliseconds = u64::try_from(now.0).ok()?;
    Some(UnixTime::since_unix_epoch(Duration::from_millis(milliseconds)))
}
