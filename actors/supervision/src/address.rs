use std::{fmt, sync::Arc};

use ractor::{ActorRef, Message};
use tokio::sync::watch;

/// Where a supervised actor can be found now.
pub(crate) enum Slot<M> {
    /// It is being started, restarted, or parked.
    Starting,
    /// It runs.
    Running(ActorRef<M>),
    /// It will not come back.
    Ended,
}

enum Kind<M> {
    /// A supervisor publishes each incarnation.
    Supervised(watch::Sender<Slot<M>>),
    /// One incarnation only.
    Temporary(ActorRef<M>),
}

/// Names an actor across its restarts. Cheap to clone.
pub struct Address<M>(Arc<Kind<M>>);

impl<M: Message> Address<M> {
    /// Returns the address of an actor that is not restarted.
    #[must_use]
    pub fn temporary(actor: ActorRef<M>) -> Self {
        Self(Arc::new(Kind::Temporary(actor)))
    }

    pub(crate) fn supervised() -> Self {
        Self(Arc::new(Kind::Supervised(watch::Sender::new(Slot::Starting))))
    }

    /// Publishes where the actor is; without effect on a temporary one.
    pub(crate) fn publish(&self, slot: Slot<M>) {
        if let Kind::Supervised(sender) = &*self.0 {
            sender.send_replace(slot);
        }
    }

    /// Returns the running actor, if it runs.
    pub(crate) fn current(&self) -> Option<ActorRef<M>> {
        match &*self.0 {
            Kind::Temporary(actor) => Some(actor.clone()),
            Kind::Supervised(sender) => match &*sender.borrow() {
                Slot::Running(actor) => Some(actor.clone()),
                Slot::Starting | Slot::Ended => None,
            },
        }
    }

    /// Waits for an incarnation other than `stale`; nothing if there will be none.
    pub(crate) async fn next(&self, stale: Option<ActorRef<M>>) -> Option<ActorRef<M>> {
        let Kind::Supervised(sender) = &*self.0 else { return None };
        let stale = stale.map(|actor| actor.get_id());
        let mut changes = sender.subscribe();
        let settled = |slot: &Slot<M>| match slot {
            Slot::Starting => false,
            Slot::Running(actor) => Some(actor.get_id()) != stale,
            Slot::Ended => true,
        };
        match &*changes.wait_for(settled).await.ok()? {
            Slot::Running(actor) => Some(actor.clone()),
            Slot::Starting | Slot::Ended => None,
        }
    }
}

impl<M> Clone for Address<M> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<M> fmt::Debug for Address<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Address")
    }
}
