use std::panic::AssertUnwindSafe;

use futures::{FutureExt, future::BoxFuture};
use ractor::{Actor, ActorCell, ActorProcessingErr, SpawnErr};

use crate::{Address, Metrics, Restart, address::Slot, error::Panicked, guarded::Guarded};

/// A child that a supervisor keeps alive, whatever its type.
pub(crate) trait Child: Send + Sync {
    fn kind(&self) -> &'static str;
    fn restart(&self) -> Restart;
    /// Runs one incarnation under `supervisor` to its end, publishing it once it has started; tells why it ended.
    fn run(
        &self,
        supervisor: ActorCell,
        started: Box<dyn FnOnce(ActorCell) + Send>,
    ) -> BoxFuture<'_, Result<(), ActorProcessingErr>>;
    /// Publishes that it does not run, and whether it will again.
    fn down(&self, for_good: bool);
}

pub(crate) struct Permanent<A: Actor, F> {
    pub(crate) kind: &'static str,
    pub(crate) restart: Restart,
    pub(crate) metrics: Metrics,
    pub(crate) address: Address<A::Msg>,
    pub(crate) factory: F,
}

impl<A, F> Permanent<A, F>
where
    A: Actor,
    F: Fn() -> (A, A::Arguments) + Send + Sync,
{
    async fn incarnation(
        &self,
        supervisor: ActorCell,
        started: Box<dyn FnOnce(ActorCell) + Send>,
    ) -> Result<(), ActorProcessingErr> {
        let (actor, arguments) = (self.factory)();
        let (actor, failure) = Guarded::new(actor, self.kind, self.metrics.clone());
        let (actor, ended) = Actor::spawn_linked(None, actor, arguments, supervisor).await.map_err(cause)?;
        started(actor.get_cell());
        self.address.publish(Slot::Running(actor));
        // The actor's task never panics: everything in it is guarded.
        let _ = ended.await;
        failure.take().map_or(Ok(()), Err)
    }
}

impl<A, F> Child for Permanent<A, F>
where
    A: Actor,
    F: Fn() -> (A, A::Arguments) + Send + Sync,
{
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn restart(&self) -> Restart {
        self.restart
    }

    fn run(
        &self,
        supervisor: ActorCell,
        started: Box<dyn FnOnce(ActorCell) + Send>,
    ) -> BoxFuture<'_, Result<(), ActorProcessingErr>> {
        let guarded = AssertUnwindSafe(self.incarnation(supervisor, started)).catch_unwind();
        guarded.map(|end| end.unwrap_or_else(|_| Err(Box::new(Panicked("in the factory".into()))))).boxed()
    }

    fn down(&self, for_good: bool) {
        self.address.publish(if for_good { Slot::Ended } else { Slot::Starting });
    }
}

/// Returns what the actor itself said, without the spawner's wrapping.
pub(crate) fn cause(error: SpawnErr) -> ActorProcessingErr {
    match error {
        SpawnErr::StartupFailed(cause) => cause,
        other => Box::new(other),
    }
}
