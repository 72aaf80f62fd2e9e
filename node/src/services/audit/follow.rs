//! Events as they are committed, for as long as the right to them holds.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aesp_audit::Query;
use aesp_call::Granted;
use aesp_proto::{
    Error, ErrorCode, TenantId, Timestamp,
    v1::{FollowEventsRequest, FollowEventsResponse},
};
use aesp_search::{Begin, Follow, News};
use futures::{Stream, StreamExt, stream};
use prometheus::IntGauge;
use tokio::time::{Instant, sleep};
use tonic::Status;

use super::filter;
use crate::services::Context;

pub(super) type Parts = Pin<Box<dyn Stream<Item = Result<FollowEventsResponse, Status>> + Send>>;

/// How often the log is looked at while nothing comes; it may be written at any node.
const LOOK: Duration = Duration::from_millis(150);
/// How often it is said how far it is while nothing fits the filter.
const SAY: Duration = Duration::from_secs(10);
/// Streams of one tenant's log, and of all, at one node.
const STREAMS_A_TENANT: usize = 32;
const STREAMS: usize = 512;
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Who follows which log at this node. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Followers {
    by_tenant: Arc<Mutex<HashMap<TenantId, usize>>>,
    gauge: IntGauge,
}

/// A follower's place; free again when dropped.
struct Place {
    followers: Followers,
    tenant: TenantId,
}

impl Followers {
    /// Begins without any; `gauge` shows how many there are.
    pub(crate) fn new(gauge: IntGauge) -> Self {
        Self { by_tenant: Arc::default(), gauge }
    }

    fn take(&self, tenant: TenantId) -> Result<Place, Error> {
        let mut all = self.by_tenant.lock().unwrap_or_else(PoisonError::into_inner);
        let own = all.get(&tenant).copied().unwrap_or_default();
        if own >= STREAMS_A_TENANT || all.values().sum::<usize>() >= STREAMS {
            let text = "too many follow the audit log at this node";
            return Err(Error::new(ErrorCode::ResourceUnavailable, text).retry_after(RETRY_AFTER));
        }
        all.insert(tenant, own + 1);
        self.gauge.inc();
        Ok(Place { followers: self.clone(), tenant })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self.followers.by_tenant.lock().unwrap_or_else(PoisonError::into_inner);
        self.followers.gauge.dec();
        if let Some(count) = all.get_mut(&self.tenant) {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.tenant);
            }
        }
    }
}

struct Following {
    context: Context,
    granted: Granted,
    follow: Follow,
    /// When it was last said how far it is.
    said: Option<Instant>,
    ended: bool,
    _place: Place,
}

/// Begins to follow under a grant. Nothing is read out before the first part is asked for.
pub(super) async fn begin(
    context: &Context,
    granted: Granted,
    asked: &FollowEventsRequest,
) -> Result<Parts, Error> {
    let query = Query { filter: filter::filter(asked.filter.as_ref())?, ..Query::new(granted.tenant()) };
    let begin = match (asked.cursor.as_str(), asked.start_ms) {
        ("", 0) => Begin::Now,
        ("", start) => Begin::At(Timestamp(start)),
        (cursor, _) => Begin::After(cursor.to_owned()),
    };
    let place = context.followers.take(granted.tenant())?;
    let follow = Follow::begin(&context.store, &query, begin).await?;
    let following =
        Following { context: context.clone(), granted, follow, said: None, ended: false, _place: place };
    let parts = stream::unfold(following, |mut following| async move {
        if following.ended {
            return None;
        }
        let part = following.part().await;
        following.ended = part.is_err();
        Some((part.map_err(Status::from), following))
    });
    Ok(parts.boxed())
}

impl Following {
    /// Waits for what is worth a message.
    async fn part(&mut self) -> Result<FollowEventsResponse, Error> {
        loop {
            let News { events, cursor, at_end } = self.follow.next().await?;
            let say = self.said.is_none_or(|said| said.elapsed() >= SAY);
            // INVARIANT R1: nothing waits between this and the message, and a silent stream ends with its right, too.
            self.context.access.still(&self.granted).await?;
            if !events.is_empty() || say {
                self.said = Some(Instant::now());
                return Ok(FollowEventsResponse { events, cursor });
            }
            if !self.context.ownership.holds_any() {
                let text = "this node is leaving; go on at another from the last cursor";
                return Err(Error::new(ErrorCode::ServiceUnavailable, text).retry_after(RETRY_AFTER));
            }
            if at_end {
                sleep(LOOK).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_by_tenant_and_given_back() {
        let followers = Followers::new(IntGauge::new("followers", "for the test").unwrap());
        let tenant = TenantId::from_bytes([1; 16]);
        let places: Vec<_> = (0..STREAMS_A_TENANT).map(|_| followers.take(tenant).unwrap()).collect();
        assert_eq!(followers.take(tenant).err().unwrap().code(), ErrorCode::ResourceUnavailable);
        let other = followers.take(TenantId::from_bytes([2; 16])).unwrap();
        assert_eq!(followers.gauge.get(), 33);
        drop((places, other));
        assert!(followers.by_tenant.lock().unwrap().is_empty());
        assert!(followers.take(tenant).is_ok());
    }
}
