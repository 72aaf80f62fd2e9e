use std::{
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex},
    task::{Poll, Waker},
};

use futures::future::BoxFuture;
use tokio::task::AbortHandle;

use crate::cluster::Spawn;

/// What tasks of simulated processes have panicked with: a runtime would only keep it to itself.
pub(super) type Panics = Arc<Mutex<Vec<String>>>;

/// A simulated process: its tasks can be stopped in the middle, go on later, or be killed.
#[derive(Clone)]
pub(super) struct Gate {
    state: Arc<Mutex<State>>,
    panics: Panics,
}

#[derive(Default)]
struct State {
    frozen: bool,
    killed: bool,
    wakers: Vec<Waker>,
    tasks: Vec<AbortHandle>,
}

impl Gate {
    pub(super) fn new(panics: &Panics) -> Self {
        Self { state: Arc::default(), panics: Arc::clone(panics) }
    }

    pub(super) fn spawn(&self, mut task: BoxFuture<'static, ()>) {
        let gate = self.clone();
        let gated = poll_fn(move |context| {
            {
                let mut state = gate.state.lock().unwrap();
                if state.frozen {
                    state.wakers.push(context.waker().clone());
                    return Poll::Pending;
                }
            }
            catch_unwind(AssertUnwindSafe(|| task.as_mut().poll(context))).unwrap_or_else(|panic| {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                gate.panics.lock().unwrap().push(text.unwrap_or_default());
                Poll::Ready(())
            })
        });
        let mut state = self.state.lock().unwrap();
        if !state.killed {
            state.tasks.push(tokio::spawn(gated).abort_handle());
        }
    }

    pub(super) fn spawner(&self) -> Spawn {
        let gate = self.clone();
        Arc::new(move |task| gate.spawn(task))
    }

    pub(super) fn freeze(&self) {
        self.state.lock().unwrap().frozen = true;
    }

    pub(super) fn thaw(&self) {
        let mut state = self.state.lock().unwrap();
        state.frozen = false;
        state.wakers.drain(..).for_each(Waker::wake);
    }

    pub(super) fn kill(&self) {
        let mut state = self.state.lock().unwrap();
        // Nothing of it runs between now and the moment at which its tasks are dropped.
        (state.frozen, state.killed) = (true, true);
        state.tasks.drain(..).for_each(|task| task.abort());
    }
}
