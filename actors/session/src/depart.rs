use std::{sync::atomic::Ordering, time::Duration};

use aesp_proto::{SessionId, ShardId, TenantId, Timestamp};
use tokio::time::{Instant, sleep, timeout_at};

use crate::{Sessions, actor::Message, live::Live};

/// How long an overloaded session is left before it is asked again whether it may leave.
const ASK_AGAIN: Duration = Duration::from_millis(10);

impl Sessions {
    /// Takes note of a shard that has become this node's: what is due for its sessions is due here.
    pub fn arrive(&self) {
        self.0.arrived.store(true, Ordering::Release);
        for tenancy in &self.0.tenancies {
            tenancy.due(Timestamp(i64::MIN));
        }
    }

    /// Waits until no call runs in the shard's sessions, at most for `grace`; then they leave memory, and what still runs is
    /// cancelled. The shard must be [`Held::Leaving`](aesp_cluster::Held::Leaving), so that nothing new begins.
    pub async fn hand_over(&self, shard: ShardId, grace: Duration) {
        let until = Instant::now() + grace;
        for (_, live) in self.live_in(&[shard]) {
            let idle = async {
                loop {
                    let ended = live.shared.ended.notified();
                    tokio::pin!(ended);
                    ended.as_mut().enable();
                    // In its turn, behind whatever has begun.
                    match live.handle.ask(Message::Depart).await {
                        Ok(false) => ended.await,
                        Ok(true) | Err(aesp_supervision::Error::Gone) => return,
                        Err(_) => sleep(ASK_AGAIN).await,
                    }
                }
            };
            if timeout_at(until, idle).await.is_err() {
                tracing::warn!(%shard, "calls did not end within the grace of a hand-over and are cancelled");
            }
        }
        self.lose(&[shard]);
    }

    /// Lets the shards' sessions leave memory at once; what runs in them is cancelled, and can't be recorded any more.
    pub fn lose(&self, shards: &[ShardId]) {
        for (_, live) in self.live_in(shards) {
            // One that is gone has left already.
            let _ = live.handle.tell(Message::Leave);
        }
    }

    fn live_in(&self, shards: &[ShardId]) -> Vec<((TenantId, SessionId), Live)> {
        let own = shards.iter().flat_map(|shard| self.0.live.within(*shard).iter());
        own.filter_map(|entry| Some((*entry.key(), entry.value().get()?.clone()))).collect()
    }
}
