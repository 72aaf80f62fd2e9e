use std::{sync::Arc, time::Duration};

use aesp_proto::chain;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::{sync::watch, time::Instant};
use tracing::{error, info, warn};

use crate::{
    Escalation, Metrics, Reply, Unavailable,
    child::Child,
    state::{End, History, Verdict},
    supervisor::Declared,
};

/// How long one child may take to stop.
const STOP: Duration = Duration::from_secs(2);

pub(crate) struct SupervisorActor;

pub(crate) struct Arguments {
    pub(crate) name: &'static str,
    pub(crate) declared: Declared,
    pub(crate) metrics: Metrics,
    /// Where the top of the tree tells that it gave up.
    pub(crate) root: Option<watch::Sender<Option<Escalation>>>,
}

pub(crate) enum Message {
    /// There are new declarations.
    Declared(Reply<()>),
    /// The pause before an incarnation is over.
    Start(usize),
    Started(usize, ActorCell),
    Ended(usize, Result<(), ActorProcessingErr>),
    Stop(Reply<()>),
}

pub(crate) struct State {
    arguments: Arguments,
    children: Vec<Supervised>,
    stopping: bool,
}

struct Supervised {
    child: Arc<dyn Child>,
    history: History,
    running: Option<ActorCell>,
}

impl Actor for SupervisorActor {
    type Msg = Message;
    type State = State;
    type Arguments = Arguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        arguments: Arguments,
    ) -> Result<State, ActorProcessingErr> {
        let mut state = State { arguments, children: Vec::new(), stopping: false };
        state.adopt(&myself);
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Declared(reply) => {
                state.adopt(&myself);
                reply.send(());
            }
            Message::Start(index) if !state.stopping => state.start(&myself, index),
            Message::Started(index, cell) => state.children[index].started(cell),
            Message::Ended(index, end) if !state.stopping => state.ended(&myself, index, end)?,
            Message::Start(_) | Message::Ended(..) => {}
            Message::Stop(reply) => state.stop(&myself, reply),
        }
        Ok(())
    }

    /// Ends come as messages, in order with the starts; ractor's own events are not needed.
    async fn handle_supervisor_evt(
        &self,
        _myself: ActorRef<Message>,
        _event: SupervisionEvent,
        _state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn post_stop(
        &self,
        myself: ActorRef<Message>,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        for supervised in state.children.iter().rev() {
            supervised.child.down(true);
            if let Some(cell) = &supervised.running
                && cell.stop_and_wait(None, Some(STOP)).await.is_err()
            {
                warn!(actor = supervised.child.kind(), "actor did not stop in time");
            }
        }
        myself.get_cell().stop_children_and_wait(None, Some(STOP)).await;
        Ok(())
    }
}

impl State {
    /// Takes on what was declared since the last time.
    fn adopt(&mut self, myself: &ActorRef<Message>) {
        while let Some(child) = self.arguments.declared.get(self.children.len()) {
            let history = History::new(child.restart());
            self.children.push(Supervised { child, history, running: None });
            self.start(myself, self.children.len() - 1);
        }
    }

    fn start(&self, myself: &ActorRef<Message>, index: usize) {
        let child = self.children[index].child.clone();
        let myself = myself.clone();
        tokio::spawn(async move {
            let supervisor = myself.clone();
            // A supervisor that is gone has no use for the news; its end stops the child too.
            let started = move |cell| drop(supervisor.send_message(Message::Started(index, cell)));
            let end = child.run(myself.get_cell(), Box::new(started)).await;
            drop(myself.send_message(Message::Ended(index, end)));
        });
    }

    fn ended(
        &mut self,
        myself: &ActorRef<Message>,
        index: usize,
        end: Result<(), ActorProcessingErr>,
    ) -> Result<(), ActorProcessingErr> {
        let supervised = &mut self.children[index];
        supervised.running = None;
        supervised.child.down(false);
        let kind = supervised.child.kind();
        let (end, cause) = match end {
            Ok(()) => (End::Crashed, "stopped by itself".to_owned()),
            Err(error) if error.is::<Unavailable>() => (End::Unavailable, chain(&*error)),
            Err(error) => (End::Crashed, chain(&*error)),
        };
        let metrics = &self.arguments.metrics;
        match supervised.history.ended(Instant::now(), end) {
            Verdict::Escalate => {
                metrics.escalations.with_label_values(&[kind]).inc();
                error!(supervisor = self.arguments.name, actor = kind, %cause, "actor crashed beyond its intensity");
                Err(self.escalate(Escalation { actor: kind, cause }))
            }
            Verdict::Restart(pause) => {
                let counter = if end == End::Crashed { &metrics.restarts } else { &metrics.parks };
                counter.with_label_values(&[kind]).inc();
                let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
                warn!(supervisor = self.arguments.name, actor = kind, %cause, pause_ms, "actor ended; restarting it");
                let _timer = myself.send_after(pause, move || Message::Start(index));
                Ok(())
            }
        }
    }

    /// Gives up; what is returned ends this supervisor, and with it the children.
    fn escalate(&mut self, escalation: Escalation) -> ActorProcessingErr {
        for supervised in &self.children {
            supervised.child.down(self.arguments.root.is_some());
        }
        if let Some(root) = &self.arguments.root {
            root.send_replace(Some(escalation.clone()));
        }
        Box::new(escalation)
    }

    fn stop(&mut self, myself: &ActorRef<Message>, reply: Reply<()>) {
        self.stopping = true;
        info!(supervisor = self.arguments.name, "supervisor stops");
        let myself = myself.clone();
        tokio::spawn(async move {
            // An error says that it is stopped already.
            let _ = myself.get_cell().stop_and_wait(None, None).await;
            reply.send(());
        });
    }
}

impl Supervised {
    fn started(&mut self, cell: ActorCell) {
        self.history.started();
        self.running = Some(cell);
    }
}
