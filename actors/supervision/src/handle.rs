use std::{fmt, sync::Arc};

use ractor::{Message, MessagingErr};
use tokio::{sync::Semaphore, time};

use crate::{Address, Error, Mailbox, Reply};

/// Reaches an actor: bounds the requests in flight, sets a deadline on each, and finds the actor again after a restart. Cheap
/// to clone; clones share the bound.
pub struct Handle<M> {
    address: Address<M>,
    places: Arc<Semaphore>,
    mailbox: Mailbox,
}

impl<M: Message> Handle<M> {
    /// Creates a handle on the actor at `address`.
    #[must_use]
    pub fn new(address: Address<M>, mailbox: Mailbox) -> Self {
        Self { address, places: Arc::new(Semaphore::new(mailbox.capacity)), mailbox }
    }

    /// Sends the message that `message` makes around a [`Reply`], and waits for the answer. While the actor is being
    /// restarted the request waits for it, within the deadline.
    ///
    /// # Errors
    /// Those of [`Error`]; after anything but `Overloaded` the request may have been handled.
    pub async fn ask<T: Send + 'static>(&self, message: impl FnOnce(Reply<T>) -> M) -> Result<T, Error> {
        let place = self.places.clone().try_acquire_owned().map_err(|_| self.overloaded())?;
        let (reply, answer) = Reply::new(place);
        let message = message(reply);
        let exchange = async {
            if let Some(message) = self.send(message)? {
                Box::pin(self.deliver(message)).await?;
            }
            answer.await.map_err(|_| Error::Gone)
        };
        time::timeout(self.mailbox.deadline, exchange).await.unwrap_or(Err(Error::TimedOut))
    }

    /// Sends a message that nobody waits for. Takes no place in the mailbox, so it is only for what ends or follows up an
    /// admitted request; what outsiders can start must be asked.
    ///
    /// # Errors
    /// [`Error::Gone`] if the actor does not run at this moment; nothing was sent.
    pub fn tell(&self, message: M) -> Result<(), Error> {
        match self.send(message)? {
            None => Ok(()),
            Some(_) => Err(Error::Gone),
        }
    }

    /// Sends to the current incarnation; gives the message back if there is none.
    fn send(&self, message: M) -> Result<Option<M>, Error> {
        let Some(actor) = self.address.current() else { return Ok(Some(message)) };
        match actor.send_message(message) {
            Ok(()) => Ok(None),
            Err(MessagingErr::SendErr(message)) => Ok(Some(message)),
            Err(MessagingErr::ChannelClosed | MessagingErr::InvalidActorType) => Err(Error::Gone),
        }
    }

    /// Waits for an incarnation that takes the message.
    async fn deliver(&self, mut message: M) -> Result<(), Error> {
        let mut stale = self.address.current().filter(|actor| !accepts(actor.get_status()));
        loop {
            let actor = self.address.next(stale).await.ok_or(Error::Gone)?;
            match actor.send_message(message) {
                Ok(()) => return Ok(()),
                Err(MessagingErr::SendErr(back)) => message = back,
                Err(MessagingErr::ChannelClosed | MessagingErr::InvalidActorType) => return Err(Error::Gone),
            }
            stale = Some(actor);
        }
    }

    fn overloaded(&self) -> Error {
        Error::Overloaded { retry_after: self.mailbox.deadline / 10 }
    }
}

fn accepts(status: ractor::ActorStatus) -> bool {
    status < ractor::ActorStatus::Stopping
}

impl<M> Clone for Handle<M> {
    fn clone(&self) -> Self {
        Self { address: self.address.clone(), places: self.places.clone(), mailbox: self.mailbox }
    }
}

impl<M> fmt::Debug for Handle<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("mailbox", &self.mailbox).finish_non_exhaustive()
    }
}
