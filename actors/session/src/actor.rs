use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use aesp_proto::{Clock, PrincipalId, SessionId, TenantId, Timestamp};
use aesp_supervision::Reply;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    Error,
    begin::Started,
    live::{LiveSessions, Shared, forget},
    rows::SessionRow,
    state::{Effect, Event, Refusal, State, Ticket},
};

/// One session in memory.
pub(crate) struct SessionActor;

pub(crate) struct Arguments {
    pub(crate) key: (TenantId, SessionId),
    pub(crate) shared: Arc<Shared>,
    pub(crate) sessions: Arc<LiveSessions>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) idle: Duration,
}

#[derive(Debug)]
pub(crate) enum Message {
    Begin {
        principal: PrincipalId,
        invocation: Arc<str>,
        digest: [u8; 32],
        reply: Reply<Result<Begun, Error>>,
    },
    Finish {
        invocation: Arc<str>,
        ticket: Ticket,
    },
    Cancel {
        invocation: Arc<str>,
        reply: Reply<bool>,
    },
    CancelAll,
    Destroy {
        force: bool,
        reply: Reply<Result<usize, Error>>,
    },
    EndFailed,
    End,
    Renewed(Timestamp),
    Passivate,
    /// Leaves memory if no call runs; tells whether it does.
    Depart(Reply<bool>),
    /// The shard is another node's, or about to be: whatever runs is cancelled.
    Leave,
}

/// What came of a [`Message::Begin`].
#[derive(Debug)]
pub(crate) enum Begun {
    New(Started),
    Join { over: CancellationToken },
}

pub(crate) struct Acting {
    arguments: Arguments,
    state: State,
    calls: HashMap<Ticket, Call>,
}

/// The signals of a running call. Dropped with the actor, so that a crash cancels what nobody could cancel any more.
struct Call {
    cancel: DropGuard,
    /// There once somebody joined.
    over: Option<DropGuard>,
}

impl Actor for SessionActor {
    type Msg = Message;
    type State = Acting;
    type Arguments = Arguments;

    async fn pre_start(
        &self,
        _: ActorRef<Message>,
        arguments: Arguments,
    ) -> Result<Acting, ActorProcessingErr> {
        let row = arguments.shared.row.load();
        let state = State::new(row.principal, row.expires_at);
        drop(row);
        Ok(Acting { arguments, state, calls: HashMap::new() })
    }

    async fn handle(
        &self,
        myself: ActorRef<Message>,
        message: Message,
        acting: &mut Acting,
    ) -> Result<(), ActorProcessingErr> {
        if acting.perform(&myself, message) {
            let Arguments { sessions, key, shared, .. } = &acting.arguments;
            // First out of the map, so that who finds this one gone finds the next.
            forget(sessions, *key, shared);
            myself.stop(None);
        }
        Ok(())
    }
}

impl Acting {
    /// Performs one message; tells whether the actor is done.
    fn perform(&mut self, myself: &ActorRef<Message>, message: Message) -> bool {
        let now = self.arguments.clock.now();
        match message {
            Message::Begin { principal, invocation, digest, reply } => {
                self.arguments.shared.touch(now);
                let named = invocation.clone();
                let effects = self.state.step(now, Event::Begin { principal, invocation, digest });
                let begun = match effects.first() {
                    Some(effect) => self.begun(*effect, myself, named),
                    None => Err(Error::Invalid),
                };
                self.count();
                reply.send(begun);
                false
            }
            Message::Destroy { force, reply } => {
                let effects = self.state.step(now, Event::Destroy { force });
                reply.send(match effects.first() {
                    Some(Effect::MayEnd { running }) => Ok(*running),
                    Some(Effect::Refused(refusal)) => Err((*refusal).into()),
                    _ => Err(Error::Invalid),
                });
                false
            }
            Message::Cancel { invocation, reply } => {
                let effects = self.state.step(now, Event::Cancel { invocation });
                reply.send(!effects.is_empty());
                self.apply(effects)
            }
            Message::Finish { invocation, ticket } => {
                self.arguments.shared.touch(now);
                self.step(now, Event::Finish { invocation, ticket })
            }
            Message::CancelAll => self.step(now, Event::CancelAll),
            Message::EndFailed => self.step(now, Event::EndFailed),
            Message::End => {
                self.arguments.shared.end();
                self.step(now, Event::End)
            }
            Message::Renewed(expires_at) => {
                self.change(|row| row.expires_at = row.expires_at.max(expires_at));
                self.step(now, Event::Renewed { expires_at })
            }
            Message::Depart(reply) => {
                let idle = self.state.running() == 0;
                reply.send(idle);
                idle
            }
            // The signals of the running calls go with the actor, which cancels them.
            Message::Leave => true,
            Message::Passivate => {
                // It may have been used since this was sent.
                self.arguments.shared.is_idle(now, self.arguments.idle) && self.step(now, Event::Idle)
            }
        }
    }

    /// Changes what others see.
    fn change(&self, change: impl Fn(&mut SessionRow)) {
        self.arguments.shared.row.rcu(|row| {
            let mut row = SessionRow::clone(row);
            change(&mut row);
            row
        });
    }

    fn step(&mut self, now: Timestamp, event: Event) -> bool {
        let effects = self.state.step(now, event);
        self.apply(effects)
    }

    fn apply(&mut self, effects: Vec<Effect>) -> bool {
        let mut stop = false;
        for effect in effects {
            match effect {
                Effect::Cancel(ticket) => self.cancel(ticket),
                Effect::Over(ticket) => self.over(ticket),
                Effect::Stop => stop = true,
                Effect::Started(_) | Effect::Joined(_) | Effect::Refused(_) | Effect::MayEnd { .. } => {}
            }
        }
        self.count();
        stop
    }

    fn begun(
        &mut self,
        effect: Effect,
        myself: &ActorRef<Message>,
        invocation: Arc<str>,
    ) -> Result<Begun, Error> {
        match effect {
            Effect::Started(ticket) => {
                let cancelled = CancellationToken::new();
                let call = Call { cancel: cancelled.clone().drop_guard(), over: None };
                self.calls.insert(ticket, call);
                Ok(Begun::New(Started { actor: myself.clone(), invocation, ticket, cancelled }))
            }
            Effect::Joined(ticket) => {
                let call = self.calls.get_mut(&ticket).ok_or(Error::Invalid)?;
                let over = match call.over.take() {
                    Some(guard) => guard.disarm(),
                    None => CancellationToken::new(),
                };
                call.over = Some(over.clone().drop_guard());
                Ok(Begun::Join { over })
            }
            Effect::Refused(refusal) => Err(refusal.into()),
            Effect::Cancel(_) | Effect::Over(_) | Effect::MayEnd { .. } | Effect::Stop => Err(Error::Invalid),
        }
    }

    fn cancel(&mut self, ticket: Ticket) {
        if let Some(call) = self.calls.remove(&ticket) {
            let Call { cancel, over } = call;
            let cancelled = cancel.disarm();
            cancelled.cancel();
            self.calls.insert(ticket, Call { cancel: cancelled.drop_guard(), over });
        }
    }

    fn over(&mut self, ticket: Ticket) {
        if let Some(Call { cancel, over }) = self.calls.remove(&ticket) {
            // It ended by itself; what its caller still does with the signal is no cancellation.
            cancel.disarm();
            drop(over);
            self.count();
            self.arguments.shared.ended.notify_waiters();
        }
    }

    fn count(&self) {
        let running = u32::try_from(self.state.running()).unwrap_or(u32::MAX);
        self.arguments.shared.in_flight.store(running, Ordering::Relaxed);
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Invalid => Self::Invalid,
            Refusal::OtherArguments => Self::OtherArguments,
            Refusal::CallsRunning { running } => Self::CallsRunning { running },
        }
    }
}
