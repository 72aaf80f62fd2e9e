use std::time::Duration;

use aesp_cluster::Fence;
use aesp_proto::TenantId;
use async_trait::async_trait;

use crate::Error;

/// Something that is built behind each tenant's log, at the tenant's home.
#[async_trait]
pub trait Follower: Send + Sync + 'static {
    /// Returns its name, a label of metrics.
    fn name(&self) -> &'static str;

    /// Builds on, some way towards the end of the tenant's log, in transactions that check `fence`; says whether there is more.
    /// It is never called twice at once for one tenant on one node; another node may still be at it until it meets the fence.
    ///
    /// # Errors
    /// Tried again later, unless the tenant has another home by then.
    async fn advance(&self, tenant: TenantId, fence: Fence) -> Result<Advance, Error>;
}

/// How far a step of a follower came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advance {
    /// To the end of the log, as it was when the step read it.
    AtEnd,
    /// There is more: go on as soon as others had their turn.
    More,
    /// There is more, which is not to be built yet: go on after this time.
    Later(Duration),
}
