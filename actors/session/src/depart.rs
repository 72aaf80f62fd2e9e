use std::{sync::atomic::Ordering, time::Duration};

use aesp_proto::{SessionId, ShardId, TenantId, Timestamp};
use aesp_storage::shard_of;
use tokio::time::{Instant, timeout_at};

use crate::{Sessions, actor::Message, live::Live};

impl Sessions {
    /// Takes note of a shard that has become this node's: what is due for its sessions is due here.
    pub fn arrive(&self) {
        for tenancy in &self.0.tenancies {
            tenancy.due(Timestamp(i64::MIN));
        }
    }

    /// Waits until no call runs in the shard's sessions, at most for `grace`; then they leave memory, and what still runs is
    /// cancelled. The shard must be [`Held::Leaving`](aesp_cluster::Held::Leaving), so that nothing new begins.
    pub async fn hand_over(&self, shard: ShardId, grace: Duration) {
        let until = Instant::now() + grace;
        for (_, live) in self.live_in(shard) {
            let idle = async {
                loop {
                    let ended = live.shared.ended.notified();
                    tokio::pin!(ended);
                    ended.as_mut().enable();
                    if live.shared.in_flight.load(Ordering::Acquire) == 0 {
                        return;
                    }
                    ended.await;
                }
            };
            if timeout_at(until, idle).await.is_err() {
                tracing::warn!(%shard, "calls did not end within the grace of a hand-over and are cancelled");
            }
        }
        self.lose(shard);
    }

    /// Lets the shard's sessions leave memory at once; what runs in them is cancelled, and can't be recorded any more.
    pub fn lose(&self, shard: ShardId) {
        for (_, live) in self.live_in(shard) {
            // One that is gone has left already.
            let _ = live.handle.tell(Message::Leave);
        }
    }

    fn live_in(&self, shard: ShardId) -> Vec<((TenantId, SessionId), Live)> {
        let own = self.0.live.iter().filter(|entry| shard_of(entry.key().1.as_bytes()) == shard);
        own.filter_map(|entry| Some((*entry.key(), entry.value().get()?.clone()))).collect()
    }
}
