use std::{marker::PhantomData, ops::Deref, time::Duration};

use futures::future::BoxFuture;
use tokio::time::{Instant, sleep, timeout_at};

use crate::{Commit, Error, Store, Transaction, request::Request};

/// How long the runner tries before it gives up.
const RUN_TIME: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_micros(500);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// A [`Transaction`] whose closure may borrow for `'env`; see [`Store::run_borrowing`].
pub struct Borrowing<'env> {
    transaction: Transaction,
    around: PhantomData<&'env ()>,
}

impl Deref for Borrowing<'_> {
    type Target = Transaction;

    fn deref(&self) -> &Transaction {
        &self.transaction
    }
}

impl Store {
    /// Runs `body` in a transaction and commits what it wrote, durably. Runs it again after a conflict, so it must be
    /// pure but for the transaction; finds out what became of a commit whose outcome is unknown; gives up after about
    /// 10 seconds. When `body` returns an error, nothing is written.
    ///
    /// A failure of the engine is remembered, whatever `body` makes of it.
    ///
    /// # Errors
    /// That of `body`, or the [`Error`] of the store turned into it: [`Error::Timeout`] if others kept winning,
    /// [`Error::CommitUnknown`] if the outcome could not be found out in time.
    pub async fn run<T, E, F>(&self, body: F) -> Result<T, E>
    where
        F: for<'t> Fn(&'t Transaction) -> BoxFuture<'t, Result<T, E>> + Send + Sync,
        E: From<Error> + Send,
        T: Send,
    {
        self.run_borrowing(|tx: &Borrowing<'static>| body(tx)).await
    }

    /// As [`run`](Self::run), for a `body` that borrows from around it. (`run` must be ready for a transaction of any
    /// lifetime, also `'static`; here the transaction's type says that it does not outlive `'env`.)
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn run_borrowing<'env, T, E, F>(&self, body: F) -> Result<T, E>
    where
        F: for<'t> Fn(&'t Borrowing<'env>) -> BoxFuture<'t, Result<T, E>> + Send + Sync,
        E: From<Error> + Send,
        T: Send,
    {
        let give_up = Instant::now() + RUN_TIME;
        let mut request = self.new_request();
        let mut pause = FIRST_PAUSE;
        loop {
            let tx = Borrowing { transaction: Transaction::new(self.shared.clone()), around: PhantomData };
            let ran = timeout_at(tx.deadline().min(give_up), body(&tx)).await.map_err(|_| Error::Timeout)?;
            let committed = match (tx.failure(), ran) {
                (Some(Error::Conflict), _) => Err(Error::Conflict),
                (Some(failure), Ok(_)) => return Err(failure.into()),
                (_, Err(error)) => return Err(error),
                (None, Ok(out)) => self.commit(tx.transaction, &mut request, give_up).await.map(|()| out),
            };
            match committed {
                Ok(out) => return Ok(out),
                Err(Error::Conflict) if Instant::now() + pause < give_up => {
                    sleep(self.jittered(pause)).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Err(Error::Conflict) => return Err(Error::Timeout.into()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    pub(crate) fn new_request(&self) -> Request {
        Request::new(self.shared.clock.now(), &self.shared.entropy)
    }

    async fn commit(&self, tx: Transaction, request: &mut Request, give_up: Instant) -> Result<(), Error> {
        tx.check_time()?;
        let (commit, destroyed, made) = tx.into_commit(request);
        let Some(commit) = commit else { return Ok(()) };
        let committed = self.settle(commit, request, give_up).await;
        for tenant in destroyed {
            // Also when the commit failed: what is dropped from the cache is only read again.
            self.shared.keyring.forget(tenant);
        }
        if committed.is_ok() {
            made.committed();
        }
        committed
    }

    /// Commits, and looks the outcome up if it is unknown. A commit that did not land is a conflict.
    async fn settle(&self, commit: Commit, request: &mut Request, give_up: Instant) -> Result<(), Error> {
        match self.shared.engine.commit(commit).await {
            Err(Error::CommitUnknown) => {}
            other => return other.map(|_| ()),
        }
        Box::pin(self.find_out(request, give_up)).await
    }

    /// Looks up what became of a commit.
    async fn find_out(&self, request: &mut Request, give_up: Instant) -> Result<(), Error> {
        let mut pause = FIRST_PAUSE;
        loop {
            match timeout_at(give_up, self.resolve(request)).await {
                Ok(Ok(true)) => return Ok(()),
                Ok(Ok(false)) => {
                    // The old name is spent: whoever carries it can't commit any more.
                    *request = self.new_request();
                    return Err(Error::Conflict);
                }
                Ok(Err(error)) if Instant::now() + pause < give_up => {
                    tracing::debug!(%error, "outcome of a commit is still unknown");
                    sleep(self.jittered(pause)).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Ok(Err(_)) | Err(_) => return Err(Error::CommitUnknown),
            }
        }
    }

    fn jittered(&self, pause: Duration) -> Duration {
        let micros = u64::try_from(pause.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.shared.entropy.below(micros + 1))
    }
}
