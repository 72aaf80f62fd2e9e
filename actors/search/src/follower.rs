//! The index among what is built behind the logs.

use aesp_cluster::Fence;
use aesp_follow::{Advance, Follower};
use aesp_proto::TenantId;
use async_trait::async_trait;

use crate::{Error, Index, Step};

#[async_trait]
impl Follower for Index {
    fn name(&self) -> &'static str {
        "search"
    }

    async fn advance(&self, tenant: TenantId, fence: Fence) -> Result<Advance, aesp_follow::Error> {
        match Self::advance(self, tenant, fence).await {
            Ok(Step::More) => Ok(Advance::More),
            Ok(Step::AtEnd) => Ok(Advance::AtEnd),
            Err(Error::Store(error)) => Err(error.into()),
            Err(Error::Audit(error)) => Err(error.into()),
            Err(error) => Err(aesp_follow::Error::Damaged(error.to_string())),
        }
    }
}
