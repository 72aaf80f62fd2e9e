use std::{
    any::Any,
    future::Future,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
};

use futures::FutureExt;
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tracing::error;

use crate::{Metrics, error::Panicked};

/// An actor whose panics are caught, counted and turned into an error that tells them from other failures.
pub(crate) struct Guarded<A> {
    actor: A,
    kind: &'static str,
    metrics: Metrics,
    failure: Failure,
}

/// Why the actor failed. Kept here because the supervision event of a short-lived actor overtakes the news of its start.
#[derive(Clone, Default)]
pub(crate) struct Failure(Arc<Mutex<Option<ActorProcessingErr>>>);

impl Failure {
    pub(crate) fn take(&self) -> Option<ActorProcessingErr> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Stands for the failure in ractor's own event, which nobody reads.
#[derive(Debug, thiserror::Error)]
#[error("failed; its supervisor has the reason")]
struct Failed;

impl<A> Guarded<A> {
    pub(crate) fn new(actor: A, kind: &'static str, metrics: Metrics) -> (Self, Failure) {
        let failure = Failure::default();
        (Self { actor, kind, metrics, failure: failure.clone() }, failure)
    }

    /// Catches panics.
    async fn catch<T>(
        &self,
        work: impl Future<Output = Result<T, ActorProcessingErr>> + Send,
    ) -> Result<T, ActorProcessingErr> {
        // The state that a panic may have left half changed goes down with the actor.
        AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|panic| {
            self.metrics.panics.with_label_values(&[self.kind]).inc();
            let text = text(&*panic);
            error!(actor = self.kind, panic = %text, "actor panicked");
            Err(Box::new(Panicked(text)))
        })
    }

    /// Catches panics and keeps the failure for the supervisor.
    async fn guard(
        &self,
        work: impl Future<Output = Result<(), ActorProcessingErr>> + Send,
    ) -> Result<(), ActorProcessingErr> {
        self.catch(work).await.map_err(|failure| {
            *self.failure.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
            Failed.into()
        })
    }
}

fn text(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a value that is no text".into())
}

impl<A: Actor> Actor for Guarded<A> {
    type Msg = A::Msg;
    type State = A::State;
    type Arguments = A::Arguments;

    async fn pre_start(
        &self,
        myself: ActorRef<A::Msg>,
        arguments: A::Arguments,
    ) -> Result<A::State, ActorProcessingErr> {
        // A failure to start goes to the spawner as it is.
        self.catch(self.actor.pre_start(myself, arguments)).await
    }

    async fn post_start(
        &self,
        myself: ActorRef<A::Msg>,
        state: &mut A::State,
    ) -> Result<(), ActorProcessingErr> {
        self.guard(self.actor.post_start(myself, state)).await
    }

    async fn post_stop(
        &self,
        myself: ActorRef<A::Msg>,
        state: &mut A::State,
    ) -> Result<(), ActorProcessingErr> {
        self.guard(self.actor.post_stop(myself, state)).await
    }

    async fn handle(
        &self,
        myself: ActorRef<A::Msg>,
        message: A::Msg,
        state: &mut A::State,
    ) -> Result<(), ActorProcessingErr> {
        self.guard(async {
            if let Some(before) = &self.metrics.before_message {
                before(self.kind);
            }
            self.actor.handle(myself, message, state).await
        })
        .await
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<A::Msg>,
        event: SupervisionEvent,
        state: &mut A::State,
    ) -> Result<(), ActorProcessingErr> {
        self.guard(self.actor.handle_supervisor_evt(myself, event, state)).await
    }
}
