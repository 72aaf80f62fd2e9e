//! The decisions of one session, without store, clock or chance.

use std::{collections::HashMap, sync::Arc};

use aesp_proto::{PrincipalId, Timestamp};

/// Names one running call within one life of the session's actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Ticket(pub(crate) u64);

/// A session in memory.
#[derive(Debug)]
pub(crate) struct State {
    principal: PrincipalId,
    expires_at: Timestamp,
    phase: Phase,
    running: HashMap<Arc<str>, Running>,
    next_ticket: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Active,
    /// Its end is being stored.
    Ending,
    Ended,
}

#[derive(Clone, Copy, Debug)]
struct Running {
    ticket: Ticket,
    digest: [u8; 32],
}

#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// Somebody wants to run a call.
    Begin { principal: PrincipalId, invocation: Arc<str>, digest: [u8; 32] },
    /// A running call is over.
    Finish { invocation: Arc<str>, ticket: Ticket },
    /// One call is to be cancelled.
    Cancel { invocation: Arc<str> },
    /// Every call is to be cancelled.
    CancelAll,
    /// Somebody wants to end the session.
    Destroy { force: bool },
    /// The end could not be stored.
    EndFailed,
    /// The end is stored.
    End,
    /// The store has a later expiry.
    Renewed { expires_at: Timestamp },
    /// Nobody used it for a while.
    Idle,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// The call may run.
    Started(Ticket),
    /// The same call runs already.
    Joined(Ticket),
    /// Nothing changes, for this reason.
    Refused(Refusal),
    /// Signal the call that nobody wants it any more. It runs until it finishes.
    Cancel(Ticket),
    /// Tell those who joined the call that it is over.
    Over(Ticket),
    /// The end may be stored; this many calls run.
    MayEnd { running: usize },
    /// Leave memory.
    Stop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It has expired, ended, is ending, or is not this principal's.
    Invalid,
    /// The invocation id runs with another digest.
    OtherArguments,
    /// Calls run, and the end was not forced.
    CallsRunning { running: usize },
}

impl State {
    pub(crate) fn new(principal: PrincipalId, expires_at: Timestamp) -> Self {
        Self { principal, expires_at, phase: Phase::Active, running: HashMap::new(), next_ticket: 0 }
    }

    /// Returns how many calls run.
    pub(crate) fn running(&self) -> usize {
        self.running.len()
    }

    /// Applies one event at `now`.
    pub(crate) fn step(&mut self, now: Timestamp, event: Event) -> Vec<Effect> {
        match event {
            Event::Begin { principal, invocation, digest } => {
                vec![self.begin(now, principal, invocation, digest)]
            }
            Event::Finish { invocation, ticket } => self.finish(&invocation, ticket),
            Event::Cancel { invocation } => {
                self.running.get(&invocation).map(|call| Effect::Cancel(call.ticket)).into_iter().collect()
            }
            Event::CancelAll => self.cancel_all(),
            Event::Destroy { force } => vec![self.destroy(force)],
            Event::EndFailed => {
                if self.phase == Phase::Ending {
                    self.phase = Phase::Active;
                }
                Vec::new()
            }
            Event::End => {
                self.phase = Phase::Ended;
                let mut effects = self.cancel_all();
                effects.extend(self.running.is_empty().then_some(Effect::Stop));
                effects
            }
            Event::Renewed { expires_at } => {
                self.expires_at = self.expires_at.max(expires_at);
                Vec::new()
            }
            Event::Idle => {
                let idle = self.phase != Phase::Ending && self.running.is_empty();
                idle.then_some(Effect::Stop).into_iter().collect()
            }
        }
    }

    fn begin(
        &mut self,
        now: Timestamp,
        principal: PrincipalId,
        invocation: Arc<str>,
        digest: [u8; 32],
    ) -> Effect {
        if self.phase != Phase::Active || now >= self.expires_at || principal != self.principal {
            return Effect::Refused(Refusal::Invalid);
        }
        if let Some(call) = self.running.get(&invocation) {
            return if call.digest == digest {
                Effect::Joined(call.ticket)
            } else {
                Effect::Refused(Refusal::OtherArguments)
            };
        }
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.running.insert(invocation, Running { ticket, digest });
        Effect::Started(ticket)
    }

    fn finish(&mut self, invocation: &str, ticket: Ticket) -> Vec<Effect> {
        if self.running.get(invocation).is_none_or(|call| call.ticket != ticket) {
            return Vec::new();
        }
        self.running.remove(invocation);
        let mut effects = vec![Effect::Over(ticket)];
        if self.phase == Phase::Ended && self.running.is_empty() {
            effects.push(Effect::Stop);
        }
        effects
    }

    fn destroy(&mut self, force: bool) -> Effect {
        let running = self.running.len();
        if self.phase != Phase::Active {
            return Effect::Refused(Refusal::Invalid);
        }
        if running > 0 && !force {
            return Effect::Refused(Refusal::CallsRunning { running });
        }
        self.phase = Phase::Ending;
        Effect::MayEnd { running }
    }

    fn cancel_all(&self) -> Vec<Effect> {
        self.running.values().map(|call| Effect::Cancel(call.ticket)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use proptest::prelude::*;

    use super::*;

    fn principal(number: u8) -> PrincipalId {
        PrincipalId::from_bytes([number; 16])
    }

    fn event() -> impl Strategy<Value = Event> {
        let invocation = || prop_oneof![Just("a"), Just("b"), Just("c")].prop_map(Arc::<str>::from);
        prop_oneof![
            6 => (0_u8..2, invocation(), 0_u8..2).prop_map(|(by, invocation, digest)| Event::Begin {
                principal: principal(by), invocation, digest: [digest; 32],
            }),
            4 => (invocation(), 0_u64..8)
                .prop_map(|(invocation, ticket)| Event::Finish { invocation, ticket: Ticket(ticket) }),
            1 => invocation().prop_map(|invocation| Event::Cancel { invocation }),
            1 => Just(Event::CancelAll),
            1 => any::<bool>().prop_map(|force| Event::Destroy { force }),
            1 => Just(Event::EndFailed),
            1 => Just(Event::End),
            1 => (0_i64..200).prop_map(|at| Event::Renewed { expires_at: Timestamp(at) }),
            1 => Just(Event::Idle),
        ]
    }

    proptest! {
        #[test]
        fn one_call_runs_an_invocation_id_and_an_ended_session_starts_nothing(
            steps in proptest::collection::vec((0_i64..8, event()), 1..80),
        ) {
            let mut state = State::new(principal(0), Timestamp(100));
            let (mut now, mut expires) = (0, 100);
            let mut running: HashMap<Arc<str>, (Ticket, [u8; 32])> = HashMap::new();
            let mut seen = HashSet::new();
            let (mut ended, mut ending) = (false, false);
            for (passed, event) in steps {
                now += passed;
                let effects = state.step(Timestamp(now), event.clone());
                match event {
                    Event::Begin { principal: by, invocation, digest } => {
                        let lives = now < expires && !ended && !ending && by == principal(0);
                        match effects[0] {
                            Effect::Started(ticket) => {
                                prop_assert!(lives, "an expired, ended or foreign session started a call");
                                prop_assert!(seen.insert(ticket), "a ticket was used twice");
                                let before = running.insert(invocation, (ticket, digest));
                                prop_assert!(before.is_none(), "two calls run under one id");
                            }
                            Effect::Joined(ticket) => {
                                prop_assert!(lives);
                                prop_assert_eq!(running.get(&invocation), Some(&(ticket, digest)));
                            }
                            Effect::Refused(Refusal::OtherArguments) => {
                                prop_assert_ne!(running[&invocation].1, digest);
                            }
                            Effect::Refused(Refusal::Invalid) => prop_assert!(!lives),
                            other => prop_assert!(false, "{:?}", other),
                        }
                    }
                    Event::Finish { invocation, ticket } => {
                        let ran = running.get(&invocation).is_some_and(|(held, _)| *held == ticket);
                        prop_assert_eq!(effects.contains(&Effect::Over(ticket)), ran);
                        if ran {
                            running.remove(&invocation);
                        }
                    }
                    Event::Destroy { force } => match effects[0] {
                        Effect::MayEnd { running: count } => {
                            prop_assert!(force || running.is_empty(), "ended over running calls");
                            prop_assert_eq!(count, running.len());
                            ending = true;
                        }
                        Effect::Refused(Refusal::CallsRunning { running: count }) => {
                            prop_assert!(!force && count > 0);
                        }
                        Effect::Refused(Refusal::Invalid) => prop_assert!(ending || ended),
                        other => prop_assert!(false, "{:?}", other),
                    },
                    Event::EndFailed => ending = false,
                    Event::End => {
                        ended = true;
                        ending = false;
                        let cancelled = effects.iter().filter(|e| matches!(e, Effect::Cancel(_))).count();
                        prop_assert_eq!(cancelled, running.len(), "the end cancels every call");
                    }
                    Event::Renewed { expires_at } => expires = expires.max(expires_at.0),
                    Event::Cancel { .. } | Event::CancelAll | Event::Idle => {}
                }
                if effects.contains(&Effect::Stop) {
                    prop_assert!(running.is_empty(), "left memory while calls run");
                }
                prop_assert_eq!(state.running(), running.len());
            }
        }
    }
}
