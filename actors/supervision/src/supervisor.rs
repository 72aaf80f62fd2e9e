use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::watch;

use crate::{
    Address, Error, Handle, Mailbox, Metrics, Restart,
    actor::{Arguments, Message, SupervisorActor},
    child::{Child, Permanent, cause},
    guarded::Guarded,
};

/// A child crashed beyond its declared intensity, and so did every supervisor above it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("actor {actor} crashed beyond its restart intensity: {cause}")]
pub struct Escalation {
    /// The kind of the child.
    pub actor: &'static str,
    /// The texts of its last failure and of that one's causes.
    pub cause: String,
}

/// What a supervisor was told to keep alive. Shared and not in the actor, because it outlives the supervisor's restarts.
#[derive(Clone, Default)]
pub(crate) struct Declared(Arc<Mutex<Vec<Arc<dyn Child>>>>);

impl Declared {
    fn add(&self, child: Arc<dyn Child>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(child);
    }

    /// Returns the child at `index`, in the order of declaration.
    pub(crate) fn get(&self, index: usize) -> Option<Arc<dyn Child>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(index).cloned()
    }
}

/// Keeps actors alive: restarts permanent children, owns temporary ones, escalates what keeps crashing. Cheap to clone.
#[derive(Clone)]
pub struct Supervisor {
    handle: Handle<Message>,
    address: Address<Message>,
    declared: Declared,
    metrics: Metrics,
    escalated: watch::Receiver<Option<Escalation>>,
}

impl Supervisor {
    /// Starts the supervisor at the top of a tree.
    ///
    /// # Errors
    /// [`Error::Gone`] if the runtime is shutting down.
    pub async fn root(name: &'static str, metrics: Metrics) -> Result<Self, Error> {
        let declared = Declared::default();
        let (sender, escalated) = watch::channel(None);
        let arguments =
            Arguments { name, declared: declared.clone(), metrics: metrics.clone(), root: Some(sender) };
        let (actor, _failure) = Guarded::new(SupervisorActor, "supervisor", metrics.clone());
        let (actor, _join) = Actor::spawn(None, actor, arguments).await.map_err(|_| Error::Gone)?;
        let address = Address::temporary(actor);
        let handle = Handle::new(address.clone(), Mailbox::default());
        Ok(Self { handle, address, declared, metrics, escalated })
    }

    /// Starts a supervisor below this one. When it escalates it is restarted, with its permanent children, as `restart` says.
    ///
    /// # Errors
    /// [`Error::Gone`] if this supervisor ended.
    pub async fn nest(&self, name: &'static str, restart: Restart) -> Result<Self, Error> {
        let declared = Declared::default();
        let (metrics, kept) = (self.metrics.clone(), declared.clone());
        let factory = move || {
            let (declared, metrics) = (kept.clone(), metrics.clone());
            (SupervisorActor, Arguments { name, declared, metrics, root: None })
        };
        let address = self.start(name, restart, factory).await?;
        let handle = Handle::new(address.clone(), Mailbox::default());
        let escalated = self.escalated.clone();
        Ok(Self { handle, address, declared, metrics: self.metrics.clone(), escalated })
    }

    /// Adds a permanent child and returns its address at once; what is sent to it waits until it has started. `factory` makes
    /// the actor and its arguments for each incarnation.
    ///
    /// # Errors
    /// [`Error::Gone`] if this supervisor ended.
    pub async fn start<A, F>(
        &self,
        kind: &'static str,
        restart: Restart,
        factory: F,
    ) -> Result<Address<A::Msg>, Error>
    where
        A: Actor,
        F: Fn() -> (A, A::Arguments) + Send + Sync + 'static,
    {
        let address = Address::supervised();
        let metrics = self.metrics.clone();
        self.declared.add(Arc::new(Permanent { kind, restart, metrics, address: address.clone(), factory }));
        self.handle.ask(Message::Declared).await?;
        Ok(address)
    }

    /// Starts a temporary child: it is not restarted, its panics are caught and counted, and it ends with this supervisor.
    ///
    /// # Errors
    /// What its `pre_start` returned, or that this supervisor ended.
    pub async fn spawn<A: Actor>(
        &self,
        kind: &'static str,
        actor: A,
        arguments: A::Arguments,
    ) -> Result<ActorRef<A::Msg>, ActorProcessingErr> {
        let parent = match self.address.current() {
            Some(parent) => parent,
            None => self.address.next(None).await.ok_or(Error::Gone)?,
        };
        let (actor, _failure) = Guarded::new(actor, kind, self.metrics.clone());
        let spawned = Actor::spawn_linked(None, actor, arguments, parent.get_cell()).await;
        spawned.map(|(actor, _join)| actor).map_err(cause)
    }

    /// Resolves when the tree has given up; the process should then end with an error, so that its own supervisor restarts it.
    /// Never resolves after an orderly [`Supervisor::stop`].
    pub async fn escalated(&self) -> Escalation {
        let mut escalated = self.escalated.clone();
        match escalated.wait_for(Option::is_some).await.ok().and_then(|seen| seen.clone()) {
            Some(escalation) => escalation,
            None => std::future::pending().await,
        }
    }

    /// Stops the children, the last started first, and then the supervisor.
    ///
    /// # Errors
    /// [`Error::TimedOut`] if they took longer than 5 seconds; they are stopping.
    pub async fn stop(&self) -> Result<(), Error> {
        self.handle.ask(Message::Stop).await
    }
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Supervisor")
    }
}
