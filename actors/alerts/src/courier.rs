//! Telling one receiver: message after message, with pauses after failures that hold up nobody else.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use aesp_audit::Event;
use aesp_cluster::Fence;
use aesp_outbound::{Backoff, Cause, Failure};
use aesp_proto::{
    DeliveryId, TenantId,
    v1::{EventType, Outcome as Ended},
};
use tokio::time::{Instant, sleep};

use crate::{
    Alert,
    config::Receiver,
    desk::Changes,
    home::{Held, Homes},
    note::{NoteKey, Tell},
    rows::{Delivery, Outcome},
    store::{NotWritten, Writing},
    transport::{Message, Transport},
};

/// Tells one receiver.
pub(crate) struct Courier {
    pub(crate) homes: Arc<Homes>,
    pub(crate) receiver: Receiver,
    pub(crate) transport: Arc<dyn Transport>,
}

/// The pause after a first failure, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// How often it is looked for messages when nobody says that there are any.
const LOOK: Duration = Duration::from_secs(1);
/// The pause when there was nothing to tell after all.
const NOTHING: Duration = Duration::from_millis(50);
const JITTER_STEPS: u64 = 1 << 20;

impl Courier {
    /// Runs until it is dropped.
    pub(crate) async fn run(&self) {
        let mut backoff = Backoff::new(PAUSES.0, PAUSES.1);
        loop {
            let wake = self.homes.wake.notified();
            let now = self.homes.clock.now();
            let (at, tenant, key) = match self.homes.first_note(&self.receiver.name) {
                Some(first) if first.0 <= now => first,
                first => {
                    let rest = first.map_or(LOOK, |(at, ..)| at.since(now)).min(LOOK);
                    tokio::select! {
                        () = wake => {}
                        () = sleep(rest) => {}
                    }
                    continue;
                }
            };
            match self.tell(tenant, &key).await {
                Ok(None) => backoff.reset(),
                Ok(Some(failure)) => {
                    let jitter = self.homes.entropy.below(JITTER_STEPS) as f64 / JITTER_STEPS as f64;
                    let pause = backoff.fail(jitter, failure.retry_after);
                    if let Err(error) = self.note_failure(tenant, &key, &failure, pause).await {
                        tracing::warn!(receiver = self.receiver.name, %tenant, %error, "that a receiver of alerts was not told is not noted");
                    }
                    sleep(pause).await;
                }
                Err(error) => {
                    tracing::warn!(receiver = self.receiver.name, %tenant, due = %at, %error, "what a receiver of alerts was told is not noted; it is told again");
                    sleep(PAUSES.0).await;
                }
            }
        }
    }

    /// Tells the receiver what it is to be told of a group, and notes that it was; returns why it was not.
    async fn tell(&self, tenant: TenantId, key: &NoteKey) -> Result<Option<Failure>, NotWritten> {
        let message = self
            .homes
            .with(tenant, async |held, _| Ok(held.desk.message(key, self.homes.clock.now())))
            .await?;
        let alerts = match message {
            Some(alerts) if !alerts.is_empty() => alerts,
            nothing => {
                if nothing.is_none() {
                    self.homes.drop_slot(tenant);
                }
                // Whatever is to be told is looked for anew, and not in a hurry.
                sleep(NOTHING).await;
                return Ok(None);
            }
        };
        let began = Instant::now();
        let message = Message { tenant, group: key.group.clone(), alerts };
        let told = self.transport.deliver(&message).await;
        let took = began.elapsed();
        self.homes.metrics.seconds.with_label_values(&[&self.receiver.name]).observe(took.as_secs_f64());
        let failure = match told {
            Ok(()) => None,
            Err(failure) => {
                let labels = [self.receiver.name.as_str(), failure.cause.name()];
                self.homes.metrics.failures.with_label_values(&labels).inc();
                // What it does not understand it will not understand later.
                if failure.cause != Cause::Content {
                    return Ok(Some(failure));
                }
                Some(failure)
            }
        };
        let noted = self
            .homes
            .with(tenant, async |held, fence| {
                self.settle(held, fence, key, &message.alerts, failure.as_ref(), took).await
            })
            .await;
        noted.map(|_| None)
    }

    /// Notes that the receiver was told, or will not be.
    async fn settle(
        &self,
        held: &mut Held,
        fence: Fence,
        key: &NoteKey,
        told: &[(Alert, Tell)],
        failure: Option<&Failure>,
        took: Duration,
    ) -> Result<(), NotWritten> {
        let now = self.homes.clock.now();
        let Some(note) = held.desk.notes.get_mut(key) else { return Ok(()) };
        let attempts = note.trouble.as_ref().map_or(0, |trouble| trouble.attempts).saturating_add(1);
        let had_trouble = note.trouble.is_some();
        let tells: Vec<_> = told.iter().map(|(alert, tell)| (alert.id, *tell)).collect();
        note.told(&tells, now);
        let outcome = if failure.is_some() { Outcome::Dead } else { Outcome::Delivered };
        let routine = tells.iter().all(|(_, tell)| matches!(tell, Tell::Again | Tell::Still));
        let forgets = held.desk.book.manners.get(&key.receiver).is_some_and(|manner| manner.forgets);
        if outcome == Outcome::Delivered && routine && forgets && !had_trouble {
            // It was only kept from forgetting: no news, and nothing that another home would have to know.
            return Ok(());
        }
        self.write(held, fence, key, told, (outcome, attempts, failure, took)).await
    }

    /// Notes that the receiver could not be told, if that is news; gives up after a time.
    async fn note_failure(
        &self,
        tenant: TenantId,
        key: &NoteKey,
        failure: &Failure,
        pause: Duration,
    ) -> Result<(), NotWritten> {
        let noted = self.homes.with(tenant, async |held, fence| {
            let now = self.homes.clock.now();
            let told = held.desk.message(key, now);
            let Some(note) = held.desk.notes.get_mut(key) else { return Ok(()) };
            let news = note.failed(failure.cause.name(), now, now.plus(pause));
            let trouble = note.trouble.clone().expect("it was just noted");
            if now.since(trouble.since) >= self.receiver.give_up() {
                let tells: Vec<_> = told.iter().map(|(alert, tell)| (alert.id, *tell)).collect();
                note.told(&tells, now);
                let what = (Outcome::Dead, trouble.attempts, Some(failure), Duration::ZERO);
                return self.write(held, fence, key, &told, what).await;
            }
            if !news {
                return Ok(());
            }
            let what = (Outcome::Failed, trouble.attempts, Some(failure), Duration::ZERO);
            self.write(held, fence, key, &told, what).await
        });
        noted.await.map(|_| ())
    }

    async fn write(
        &self,
        held: &mut Held,
        fence: Fence,
        key: &NoteKey,
        told: &[(Alert, Tell)],
        (outcome, attempts, failure, took): (Outcome, u32, Option<&Failure>, Duration),
    ) -> Result<(), NotWritten> {
        let now = self.homes.clock.now();
        let mut changes = Changes::default();
        changes.notes.insert(key.clone());
        held.desk.tidy(&mut changes);
        let delivery = Delivery {
            id: DeliveryId::timed(now, &self.homes.entropy),
            at: now,
            receiver: key.receiver.clone(),
            group: key.group.clone(),
            alerts: told
                .iter()
                .map(|(alert, tell)| (alert.id, tell.name().to_owned()))
                .collect::<BTreeMap<_, _>>(),
            outcome,
            attempts,
            cause: failure.map(|failure| failure.cause.name().to_owned()).unwrap_or_default(),
            why: failure.map(|failure| failure.why.clone()).unwrap_or_default(),
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        };
        self.homes.metrics.deliveries.with_label_values(&[&self.receiver.name, outcome.name()]).inc();
        if let Some(failure) = failure {
            tracing::warn!(receiver = self.receiver.name, tenant = %held.desk.tenant, %failure, outcome = outcome.name(), "a receiver of alerts was not told");
        }
        let event = self.event(held.desk.tenant, &delivery);
        let mut writing = Writing::of(&held.desk, &changes);
        writing.delivery = Some(delivery);
        writing.events = vec![event];
        self.homes.write(held, fence, writing).await
    }

    fn event(&self, tenant: TenantId, delivery: &Delivery) -> Event {
        let (action, ended) = match delivery.outcome {
            Outcome::Delivered => ("alert.delivered", Ended::Success),
            Outcome::Failed | Outcome::Dead => ("alert.delivery_failed", Ended::Failure),
        };
        let mut event = Event::new(&self.homes.entropy, tenant, EventType::SystemEvent, action, ended);
        event.details.resource = format!("alert-receiver:{}", delivery.receiver);
        if !delivery.cause.is_empty() {
            event.details.reason = format!("{}: {}", delivery.cause, delivery.why);
        }
        let field = |name: &str, value: String| (name.to_owned(), value);
        // Enough to find the rest with: a message may be about a hundred.
        let alerts: Vec<String> =
            delivery.alerts.iter().take(10).map(|(id, tell)| format!("{id} {tell}")).collect();
        event.details.fields = vec![
            field("delivery", delivery.id.to_string()),
            field("group", delivery.group.clone()),
            field("outcome", delivery.outcome.name().to_owned()),
            field("attempts", delivery.attempts.to_string()),
            field("alerts", delivery.alerts.len().to_string()),
            field("first_alerts", alerts.join(", ")),
        ];
        event
    }
}
