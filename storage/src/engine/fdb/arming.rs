use std::sync::Arc;

use foundationdb::Database;
use tokio::{
    runtime::Handle,
    sync::{oneshot, watch},
};

use super::{failure, space::Space};
use crate::{Error, engine::Watch};

/// Watches on their way to the cluster.
///
/// A watch counts from the moment of the call, but the cluster knows the value that it starts from only after a round trip.
/// Whatever the process reads or commits after the call waits for that, so that no change comes in between unseen.
#[derive(Clone)]
pub(super) struct Arming(Arc<watch::Sender<usize>>);

/// One watch that is on its way, until it is dropped.
struct OnItsWay(Arming);

impl Arming {
    pub(super) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }

    fn begin(&self) -> OnItsWay {
        self.0.send_modify(|count| *count += 1);
        OnItsWay(self.clone())
    }

    /// Waits until every watch has arrived, or failed.
    pub(super) async fn settled(&self) {
        if *self.0.borrow() > 0 {
            // The sender lives in `self`, so the wait can't end without a value.
            self.0.subscribe().wait_for(|count| *count == 0).await.ok();
        }
    }

    /// Watches a key. The work is done in `runtime` from now on, whether the watch is polled or not.
    pub(super) fn watch(
        &self,
        runtime: &Handle,
        database: Arc<Database>,
        space: &Space,
        key: &[u8],
    ) -> Watch {
        let on_its_way = self.begin();
        let key = space.key(key);
        let (armed, waiting) = oneshot::channel();
        runtime.spawn(async move {
            let watch = arm(&database, &key).await;
            drop(on_its_way);
            // Whoever asked may have gone; the watch then ends with this value.
            armed.send(watch).ok();
        });
        Box::pin(async move {
            let watch = waiting.await.map_err(|_| Error::unavailable("the store was closed"))??;
            match watch.await {
                Ok(()) => Ok(()),
                Err(error) if failure::is_hint(error) => Ok(()),
                Err(error) => Err(failure::of_read(error)),
            }
        })
    }
}

impl Drop for OnItsWay {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| *count -= 1);
    }
}

/// Reads the value that the watch starts from, and leaves the watch with the cluster.
async fn arm(
    database: &Database,
    key: &[u8],
) -> Result<impl Future<Output = Result<(), foundationdb::FdbError>> + Send + use<>, Error> {
    let transaction = database.create_trx().map_err(failure::of_read)?;
    let watch = transaction.watch(key);
    // It writes nothing, so nothing can be unknown about it.
    transaction.commit().await.map_err(|error| failure::of_read(error.into()))?;
    Ok(watch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn readers_wait_for_watches_that_are_on_their_way() {
        let arming = Arming::new();
        arming.settled().await;
        let (one, two) = (arming.begin(), arming.begin());
        let waiting = {
            let arming = arming.clone();
            tokio::spawn(async move { arming.settled().await })
        };
        drop(one);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(two);
        waiting.await.unwrap();
    }
}
