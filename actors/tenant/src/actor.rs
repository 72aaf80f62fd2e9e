use std::{sync::Arc, time::Duration};

use aesp_supervision::{Reply, Restart};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tracing::warn;

use crate::{
    Usage,
    gate::{Gate, Lease},
    home::{Effect, Event, Home, Node},
};

/// How often a tenant's home may crash.
pub(crate) const RESTART: Restart = Restart { intensity: 5, within: Duration::from_secs(60) };

/// The only node there is; the cluster gives each incarnation its number.
const THIS_NODE: Node = Node(0);

/// A tenant's home: hands out leases on its quotas and adds up what is used.
pub(crate) struct TenantActor;

#[derive(Debug)]
pub(crate) enum Message {
    /// The quotas as the store has them.
    Quotas(Lease, Reply<()>),
    /// Asks what is used, by every lease-holder.
    Usage(Reply<Usage>),
}

pub(crate) struct State {
    home: Home,
    gate: Arc<Gate>,
}

impl State {
    fn ask(&mut self, whole: Lease) {
        match self.home.step(Event::Asked { node: THIS_NODE, whole }) {
            Effect::Grant { lease, .. } => self.gate.install(lease),
            Effect::Refuse { node } => warn!(node = node.0, "lease refused"),
        }
    }
}

impl Actor for TenantActor {
    type Msg = Message;
    type State = State;
    type Arguments = Arc<Gate>;

    /// Starts with the lease that this node holds, which outlives a crash of the home.
    async fn pre_start(&self, _: ActorRef<Message>, gate: Arc<Gate>) -> Result<State, ActorProcessingErr> {
        let held = gate.lease();
        let mut state = State { home: Home::default(), gate };
        state.ask(held);
        Ok(state)
    }

    async fn handle(
        &self,
        _: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Quotas(whole, reply) => {
                state.ask(whole);
                reply.send(());
            }
            Message::Usage(reply) => reply.send(state.gate.usage()),
        }
        Ok(())
    }
}
