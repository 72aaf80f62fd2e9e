use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
};

use aesp_storage::Transaction;
use futures::{FutureExt, future::BoxFuture};
use tokio::sync::oneshot;

use crate::{Error, Event, Receipt};

/// A unit failed by itself; the reason waits inside it for [`Unit::settle`].
#[derive(Debug)]
pub(crate) struct Failed;

/// One caller's change with its events, whatever its types.
pub(crate) trait Unit: Send + Sync {
    /// Runs the change in the batch's transaction. May be called several times; the last outcome counts.
    fn run<'t>(&'t self, tx: &'t Transaction) -> BoxFuture<'t, Result<Arc<Vec<Event>>, Failed>>;
    /// Returns about how many bytes it writes besides its events: a change writes a row or two.
    fn guessed_bytes(&self) -> usize;
    /// Replaces the outcome of the last run by a failure of its own.
    fn refuse(&self, error: Error);
    /// Tells the caller the outcome of the last run, once the batch is durable, with the receipt of its last event.
    fn settle(&self, receipt: Option<Receipt>);
    /// Tells the caller that the batch failed.
    fn fail(&self, error: Error);
}

/// A change, the outcome of its last run, and the caller who waits for it.
pub(crate) struct Change<T, E, F> {
    change: F,
    progress: Mutex<Progress<T, E>>,
}

struct Progress<T, E> {
    outcome: Option<Result<T, E>>,
    caller: Option<oneshot::Sender<Settled<T, E>>>,
}

/// What a caller hears: the value of its change, and the receipt if there was an event.
type Settled<T, E> = Result<(T, Option<Receipt>), E>;

impl<T, E, F> Change<T, E, F> {
    /// Returns the change and where its outcome will arrive.
    pub(crate) fn new(change: F) -> (Self, oneshot::Receiver<Settled<T, E>>) {
        let (caller, receiver) = oneshot::channel();
        let progress = Mutex::new(Progress { outcome: None, caller: Some(caller) });
        (Self { change, progress }, receiver)
    }

    fn with<R>(&self, act: impl FnOnce(&mut Progress<T, E>) -> R) -> R {
        act(&mut self.progress.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<T, E> Progress<T, E> {
    fn answer(&mut self, outcome: Settled<T, E>) {
        if let Some(caller) = self.caller.take() {
            // A caller that went away misses the answer; the record stands.
            drop(caller.send(outcome));
        }
    }
}

impl<T, E, F> Unit for Change<T, E, F>
where
    F: for<'t> Fn(&'t Transaction) -> BoxFuture<'t, Result<(T, Vec<Event>), E>> + Send + Sync,
    T: Send,
    E: From<Error> + Send,
{
    fn run<'t>(&'t self, tx: &'t Transaction) -> BoxFuture<'t, Result<Arc<Vec<Event>>, Failed>> {
        Box::pin(async move {
            // The call itself may panic as well as the future that it returns.
            let change = async { (self.change)(tx).await };
            let outcome = match AssertUnwindSafe(change).catch_unwind().await {
                Ok(outcome) => outcome,
                Err(panic) => Err(E::from(Error::Panicked(panic_text(panic.as_ref())))),
            };
            let (outcome, events) = match outcome {
                Ok((value, events)) => (Ok(value), Ok(Arc::new(events))),
                Err(error) => (Err(error), Err(Failed)),
            };
            self.with(|progress| progress.outcome = Some(outcome));
            events
        })
    }

    fn guessed_bytes(&self) -> usize {
        500
    }

    fn refuse(&self, error: Error) {
        self.with(|progress| progress.outcome = Some(Err(error.into())));
    }

    fn settle(&self, receipt: Option<Receipt>) {
        self.with(|progress| {
            let outcome = progress.outcome.take().unwrap_or_else(|| Err(Error::Lost.into()));
            progress.answer(outcome.map(|value| (value, receipt)));
        });
    }

    fn fail(&self, error: Error) {
        self.with(|progress| progress.answer(Err(error.into())));
    }
}

/// Events that come with no other change.
pub(crate) struct Events {
    events: Arc<Vec<Event>>,
    progress: Mutex<Progress<(), Error>>,
}

impl Events {
    /// Returns the events as a unit and where its outcome will arrive.
    pub(crate) fn new(events: Vec<Event>) -> (Self, oneshot::Receiver<Settled<(), Error>>) {
        let (caller, receiver) = oneshot::channel();
        let progress = Mutex::new(Progress { outcome: None, caller: Some(caller) });
        (Self { events: Arc::new(events), progress }, receiver)
    }

    fn with<R>(&self, act: impl FnOnce(&mut Progress<(), Error>) -> R) -> R {
        act(&mut self.progress.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Unit for Events {
    fn run<'t>(&'t self, _: &'t Transaction) -> BoxFuture<'t, Result<Arc<Vec<Event>>, Failed>> {
        self.with(|progress| progress.outcome = Some(Ok(())));
        Box::pin(std::future::ready(Ok(Arc::clone(&self.events))))
    }

    fn guessed_bytes(&self) -> usize {
        0
    }

    fn refuse(&self, error: Error) {
        self.with(|progress| progress.outcome = Some(Err(error)));
    }

    fn settle(&self, receipt: Option<Receipt>) {
        self.with(|progress| {
            let outcome = progress.outcome.take().unwrap_or(Err(Error::Lost));
            progress.answer(outcome.map(|()| ((), receipt)));
        });
    }

    fn fail(&self, error: Error) {
        self.with(|progress| progress.answer(Err(error)));
    }
}

/// Returns what a panic said.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no text".to_owned())
}
