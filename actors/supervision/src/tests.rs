use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use prometheus::Registry;
use ractor::{Actor, ActorProcessingErr, ActorRef};

use crate::{Error, Handle, Mailbox, Metrics, Reply, Restart, Supervisor, Unavailable};

const RESTART: Restart = Restart { intensity: 3, within: Duration::from_secs(10) };

/// Counts its incarnations; does as it is told.
struct Child;

enum Message {
    Incarnation(Reply<u32>),
    Panic,
    Fail,
    Never(Reply<()>),
}

#[derive(Clone, Default)]
struct World {
    starts: Arc<AtomicU32>,
    /// How many starts find the store away.
    outage: Arc<AtomicU32>,
}

impl Actor for Child {
    type Msg = Message;
    type State = (u32, Vec<Reply<()>>);
    type Arguments = World;

    async fn pre_start(&self, _: ActorRef<Message>, world: World) -> Result<Self::State, ActorProcessingErr> {
        let away = world.outage.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if away.is_ok() {
            return Err(Unavailable::because("the store is away"));
        }
        Ok((world.starts.fetch_add(1, Ordering::SeqCst) + 1, Vec::new()))
    }

    async fn handle(
        &self,
        _: ActorRef<Message>,
        message: Message,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Incarnation(reply) => reply.send(state.0),
            Message::Panic => panic!("told to"),
            Message::Fail => return Err("told to fail".into()),
            Message::Never(reply) => state.1.push(reply),
        }
        Ok(())
    }
}

async fn root() -> (Supervisor, Metrics) {
    let metrics = Metrics::new(&Registry::new()).unwrap();
    (Supervisor::root("test", metrics.clone()).await.unwrap(), metrics)
}

async fn child(supervisor: &Supervisor, world: World) -> Handle<Message> {
    let address = supervisor.start("child", RESTART, move || (Child, world.clone())).await.unwrap();
    Handle::new(address, Mailbox { capacity: 2, deadline: Duration::from_secs(30) })
}

async fn incarnation(handle: &Handle<Message>) -> u32 {
    handle.ask(Message::Incarnation).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_handle_finds_the_next_incarnation_and_the_panic_is_counted() {
    let (supervisor, metrics) = root().await;
    let handle = child(&supervisor, World::default()).await;
    assert_eq!(incarnation(&handle).await, 1);
    handle.tell(Message::Panic).unwrap();
    // Either it is told that the old one went away, or the next one answers; never the old one.
    let next = loop {
        match handle.ask(Message::Incarnation).await {
            Ok(next) => break next,
            Err(error) => assert_eq!(error, Error::Gone),
        }
    };
    assert_eq!(next, 2);
    assert_eq!(metrics.panics.with_label_values(&["child"]).get(), 1);
    assert_eq!(metrics.restarts.with_label_values(&["child"]).get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_panic_before_a_message_is_a_crash_of_its_actor() {
    let ordered = Arc::new(AtomicU32::new(1));
    let left = Arc::clone(&ordered);
    let metrics = Metrics::new(&Registry::new()).unwrap().before_each_message(Arc::new(move |kind| {
        let hit = kind == "child"
            && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        assert!(!hit, "told to");
    }));
    let supervisor = Supervisor::root("test", metrics.clone()).await.unwrap();
    let handle = child(&supervisor, World::default()).await;
    assert_eq!(handle.ask(Message::Incarnation).await, Err(Error::Gone));
    assert_eq!(wait_for(&handle, 2).await, 2);
    assert_eq!(metrics.panics.with_label_values(&["child"]).get(), 1);
}

#[tokio::test(start_paused = true)]
async fn more_crashes_than_the_intensity_escalate_and_the_handle_learns_it() {
    let (supervisor, metrics) = root().await;
    let handle = child(&supervisor, World::default()).await;
    for crash in 1..=4 {
        assert_eq!(wait_for(&handle, crash).await, crash);
        handle.tell(Message::Fail).unwrap();
    }
    let escalation = supervisor.escalated().await;
    assert_eq!(escalation.actor, "child");
    assert!(escalation.cause.contains("told to fail"));
    assert_eq!(metrics.escalations.with_label_values(&["child"]).get(), 1);
    assert_eq!(metrics.panics.with_label_values(&["child"]).get(), 0);
    assert_eq!(handle.ask(Message::Incarnation).await, Err(Error::Gone));
}

#[tokio::test(start_paused = true)]
async fn a_nested_supervisor_that_escalates_is_restarted_with_its_children() {
    let (supervisor, metrics) = root().await;
    let nested = supervisor.nest("nested", RESTART).await.unwrap();
    let handle = child(&nested, World::default()).await;
    for crash in 1..=4 {
        wait_for(&handle, crash).await;
        handle.tell(Message::Fail).unwrap();
    }
    assert_eq!(wait_for(&handle, 5).await, 5);
    assert_eq!(metrics.escalations.with_label_values(&["child"]).get(), 1);
    assert_eq!(metrics.restarts.with_label_values(&["nested"]).get(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_outage_parks_a_child_and_is_no_crash() {
    let (supervisor, metrics) = root().await;
    let world = World::default();
    world.outage.store(10, Ordering::SeqCst);
    let address = {
        let world = world.clone();
        supervisor.start("child", RESTART, move || (Child, world.clone())).await.unwrap()
    };
    let handle = Handle::new(address, Mailbox { capacity: 2, deadline: Duration::from_secs(3_600) });
    assert_eq!(incarnation(&handle).await, 1);
    assert_eq!(metrics.parks.with_label_values(&["child"]).get(), 10);
    assert_eq!(metrics.restarts.with_label_values(&["child"]).get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_full_mailbox_refuses_at_once_even_when_callers_gave_up() {
    let (supervisor, _) = root().await;
    let handle = child(&supervisor, World::default()).await;
    assert_eq!(handle.ask(Message::Never).await, Err(Error::TimedOut));
    assert_eq!(handle.ask(Message::Never).await, Err(Error::TimedOut));
    // The actor still has both requests before it, so there is no place for a third.
    let refused = handle.ask(Message::Incarnation).await;
    assert!(matches!(refused, Err(Error::Overloaded { retry_after }) if retry_after > Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_temporary_child_is_not_restarted_but_its_panic_is_counted() {
    let (supervisor, metrics) = root().await;
    let world = World::default();
    let actor = supervisor.spawn("connection", Child, world.clone()).await.unwrap();
    let handle = Handle::new(crate::Address::temporary(actor.clone()), Mailbox::default());
    assert_eq!(incarnation(&handle).await, 1);
    handle.tell(Message::Panic).unwrap();
    actor.wait(None).await.unwrap();
    assert_eq!(handle.ask(Message::Incarnation).await, Err(Error::Gone));
    assert_eq!(world.starts.load(Ordering::SeqCst), 1);
    assert_eq!(metrics.panics.with_label_values(&["connection"]).get(), 1);
    // The supervisor outlives it.
    assert_eq!(incarnation(&child(&supervisor, World::default()).await).await, 1);
}

#[tokio::test(start_paused = true)]
async fn stopping_ends_every_child_for_good() {
    let (supervisor, metrics) = root().await;
    let handle = child(&supervisor, World::default()).await;
    let temporary = supervisor.spawn("connection", Child, World::default()).await.unwrap();
    assert_eq!(incarnation(&handle).await, 1);
    supervisor.stop().await.unwrap();
    assert_eq!(handle.ask(Message::Incarnation).await, Err(Error::Gone));
    temporary.wait(Some(Duration::from_secs(5))).await.unwrap();
    assert_eq!(metrics.restarts.with_label_values(&["child"]).get(), 0);
}

/// Waits until this incarnation answers.
async fn wait_for(handle: &Handle<Message>, wanted: u32) -> u32 {
    let answer = async {
        loop {
            match handle.ask(Message::Incarnation).await {
                Ok(now) if now >= wanted => return now,
                Ok(_) | Err(Error::Gone) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), answer).await.expect("it comes back")
}
