use std::time::Duration;

use aesp_cluster::{Changed, Load};
use aesp_proto::{Error, ShardId};
use async_trait::async_trait;

use crate::services::Context;

/// What the cluster asks of this node, done by its components.
pub(crate) struct Duties(pub(crate) Context);

#[async_trait]
impl aesp_cluster::Duties for Duties {
    async fn apply(&self, changed: &Changed) -> Result<(), Error> {
        self.0.hold(changed).await
    }

    async fn arrive(&self, _shard: ShardId) {
        self.0.sessions.arrive();
    }

    async fn hand_over(&self, shard: ShardId, grace: Duration) {
        self.0.sessions.hand_over(shard, grace).await;
    }

    fn lose(&self, shards: &[ShardId]) {
        self.0.sessions.lose(shards);
    }

    fn load(&self) -> Load {
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Load { sessions: count(self.0.sessions.in_memory()), calls: count(self.0.calls.in_flight()) }
    }
}
