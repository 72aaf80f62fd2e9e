//! The tenants' desks at their homes: events and times are taken in, and what comes of them is stored, in steps under the homes' fences.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aesp_audit::{Event, ReadFrom, Recorder, Tail, tail};
use aesp_cluster::{Fence, Ownership};
use aesp_follow::Advance;
use aesp_proto::{
    AlertId, Clock, Entropy, TenantId, Timestamp,
    v1::{EventType, Outcome},
};
use aesp_storage::{Error as StoreError, Store};
use tokio::{
    sync::{Mutex as AsyncMutex, MutexGuard, Notify},
    time::Instant,
};

use crate::{
    Metrics,
    desk::{Book, Changes, Desk, News},
    note::NoteKey,
    rows::{Cursor, Head},
    store::{Loaded, NotWritten, Writing, load},
};

/// Bounds of the duty. The default is right but for tests.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The shortest time between two looks at a log whose end was reached.
    pub pace: Duration,
    /// Events that one step takes in.
    pub events: usize,
    /// Bytes of events after which a step reads no more.
    pub bytes: usize,
    /// How often it is looked what time alone has changed.
    pub tick: Duration,
    /// How often it is stored how far a log was looked through in which nothing was found.
    pub note_cursor: Duration,
    /// How long ended alerts and records of deliveries are kept.
    pub keep: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            pace: Duration::from_millis(500),
            events: 500,
            bytes: 1_000_000,
            tick: Duration::from_millis(250),
            note_cursor: Duration::from_secs(5),
            keep: Duration::from_secs(30 * 86_400),
        }
    }
}

/// What homes work with.
pub(crate) struct Homes {
    pub(crate) store: Store,
    pub(crate) recorder: Recorder,
    pub(crate) ownership: Ownership,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Entropy,
    pub(crate) metrics: Metrics,
    pub(crate) book: Arc<Book>,
    pub(crate) options: Options,
    slots: Mutex<HashMap<TenantId, Arc<Slot>>>,
    /// Wakes those who tell receivers.
    pub(crate) wake: Notify,
}

/// A tenant's place at this node.
pub(crate) struct Slot {
    pub(crate) tenant: TenantId,
    held: AsyncMutex<Option<Held>>,
    due: Mutex<Due>,
}

/// When something is to be done for a tenant, for those who must not wait for its desk.
#[derive(Clone, Debug, Default)]
struct Due {
    look: Option<Timestamp>,
    notes: Vec<(NoteKey, Timestamp)>,
    firing: Vec<&'static str>,
    rules: usize,
}

/// A desk, as it is in the store but for what its next step changes.
pub(crate) struct Held {
    pub(crate) desk: Desk,
    fence: Fence,
    head: Head,
    cursor: Cursor,
    /// Differs from what is stored, because nothing was found since.
    read: Cursor,
    loaded: Option<Pending>,
    stepped: Option<Instant>,
    noted: Instant,
}

/// What taking the desk out has changed, until that is stored.
struct Pending {
    changes: Changes,
    orphans: Vec<aesp_storage::Blind>,
    since: Vec<crate::rows::SinceRow>,
}

/// The most alerts that begin or end in one step, after which it takes no more events in.
const STEP_NEWS: usize = 100;
/// Desks that are kept though nothing is at work on them.
const IDLE_DESKS: usize = 1_000;

impl Homes {
    pub(crate) fn new(
        store: Store,
        recorder: Recorder,
        ownership: Ownership,
        clock: Arc<dyn Clock>,
        entropy: Entropy,
        metrics: Metrics,
        book: Arc<Book>,
        options: Options,
    ) -> Self {
        Self {
            store,
            recorder,
            ownership,
            clock,
            entropy,
            metrics,
            book,
            options,
            slots: Mutex::default(),
            wake: Notify::new(),
        }
    }

    fn slots(&self) -> std::sync::MutexGuard<'_, HashMap<TenantId, Arc<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn slot(&self, tenant: TenantId) -> Arc<Slot> {
        let new = || Arc::new(Slot { tenant, held: AsyncMutex::new(None), due: Mutex::default() });
        Arc::clone(self.slots().entry(tenant).or_insert_with(new))
    }

    /// Takes in what is new in a tenant's log, and what time has changed.
    ///
    /// # Errors
    /// Tried again later, unless the tenant has another home by then.
    pub(crate) async fn step(&self, tenant: TenantId, fence: Fence) -> Result<Advance, aesp_follow::Error> {
        let slot = self.slot(tenant);
        let mut held = slot.held.lock().await;
        let result = self.step_held(tenant, fence, &mut held).await;
        if result.is_err() {
            *held = None;
        }
        self.publish(&slot, held.as_ref());
        let idle = held.as_ref().is_none_or(|held| held.desk.is_idle() && held.read == held.cursor);
        drop(held);
        self.forget_idle(tenant, idle);
        match result {
            Ok(advance) => Ok(advance),
            // Nothing is left to look through, and nobody to tell.
            Err(NotWritten::Store(StoreError::KeyDestroyed { .. })) => Ok(Advance::AtEnd),
            Err(NotWritten::Stale) => Ok(Advance::More),
            Err(NotWritten::Store(error)) => Err(error.into()),
            Err(NotWritten::Log(error)) => Err(error.into()),
        }
    }

    async fn step_held(
        &self,
        tenant: TenantId,
        fence: Fence,
        held: &mut MutexGuard<'_, Option<Held>>,
    ) -> Result<Advance, NotWritten> {
        let now = self.clock.now();
        if let Some(known) = held.as_ref().filter(|known| known.fence == fence)
            && let Some(rest) = known.stepped.and_then(|at| self.options.pace.checked_sub(at.elapsed()))
            && !rest.is_zero()
        {
            return Ok(Advance::Later(rest));
        }
        let tail = loop {
            if held.as_ref().is_none_or(|known| known.fence != fence) {
                **held = Some(self.load(tenant, fence, now).await?);
            }
            let known = held.as_ref().expect("it was just loaded");
            let (from, head) = (known.read, known.head);
            let (events, bytes) = (self.options.events, self.options.bytes);
            let read = self.store.run(move |tx| {
                Box::pin(async move {
                    fence.check(tx).await?;
                    let is = tx.get::<Head>(tenant, &()).await?.unwrap_or_default();
                    let from = from.position.map_or(ReadFrom::About(from.at), ReadFrom::After);
                    Ok::<_, aesp_audit::Error>((is == head, tail(tx, tenant, from, events, bytes).await?))
                })
            });
            match read.await? {
                (true, tail) => break tail,
                // Somebody changed the rules, a silence or an alert.
                (false, _) => **held = None,
            }
        };
        let known = held.as_mut().expect("it was just there");
        let more = self.take_in(known, tail, now);
        self.store_changes(known, fence).await?;
        if more {
            return Ok(Advance::More);
        }
        known.stepped = Some(Instant::now());
        Ok(Advance::AtEnd)
    }

    async fn load(&self, tenant: TenantId, fence: Fence, now: Timestamp) -> Result<Held, StoreError> {
        let book = Arc::clone(&self.book);
        let loaded = self.store.run(move |tx| {
            let book = Arc::clone(&book);
            Box::pin(async move { load(tx, tenant, fence, book, now).await })
        });
        let Loaded { desk, head, cursor, changes, orphans, since } = loaded.await?;
        let pending = !changes.is_empty() || !orphans.is_empty() || !since.is_empty();
        Ok(Held {
            desk,
            fence,
            head,
            cursor,
            read: cursor,
            loaded: pending.then_some(Pending { changes, orphans, since }),
            stepped: None,
            noted: Instant::now(),
        })
    }

    /// Takes events in, and the time if all were; tells whether there may be more events.
    fn take_in(&self, known: &mut Held, tail: Tail, now: Timestamp) -> bool {
        let mut loaded = known.loaded.take().unwrap_or_else(|| Pending {
            changes: Changes::default(),
            orphans: Vec::new(),
            since: Vec::new(),
        });
        let changes = &mut loaded.changes;
        let entropy = self.entropy.clone();
        let mut ids = |at: Timestamp| AlertId::timed(at, &entropy);
        let mut more = tail.more;
        for (position, event) in tail.events {
            if changes.news.len() >= STEP_NEWS {
                more = true;
                break;
            }
            match event {
                Ok(event) => known.desk.observe(&event, &mut ids, changes),
                Err(error) => {
                    tracing::warn!(tenant = %known.desk.tenant, %error, "an event can't be read: no alert rule sees it");
                }
            }
            known.read.position = Some(position);
        }
        if !more {
            known.desk.advance(now, &mut ids, changes);
        }
        known.read.at = known.desk.now;
        known.loaded = Some(loaded);
        more
    }

    async fn store_changes(&self, known: &mut Held, fence: Fence) -> Result<(), NotWritten> {
        let Some(Pending { changes, orphans, since }) = known.loaded.take() else { return Ok(()) };
        let found = !changes.is_empty() || !orphans.is_empty() || !since.is_empty();
        let moved = known.read.position != known.cursor.position;
        let due = moved && known.noted.elapsed() >= self.options.note_cursor;
        if !found && !due {
            return Ok(());
        }
        let mut writing = Writing::of(&known.desk, &changes).with(orphans, since);
        writing.events = changes.news.iter().map(|news| self.event(known.desk.tenant, news)).collect();
        self.count(&changes);
        self.write(known, fence, writing).await?;
        known.noted = Instant::now();
        Ok(())
    }

    /// Stores what was changed, together with what is to be on record of it.
    ///
    /// # Errors
    /// The desk is not what is stored then: it must be taken out anew.
    pub(crate) async fn write(
        &self,
        known: &mut Held,
        fence: Fence,
        writing: Writing,
    ) -> Result<(), NotWritten> {
        let (tenant, head, before) = (known.desk.tenant, known.head, known.cursor);
        let after = Cursor { step: before.step + 1, ..known.read };
        if writing.events.is_empty() {
            let written = self.store.run(move |tx| {
                let writing = writing.clone();
                Box::pin(async move { writing.write(tx, tenant, fence, (head, before, after)).await })
            });
            written.await?;
        } else {
            let written = self.recorder.record_for(tenant, move |tx| {
                let writing = writing.clone();
                Box::pin(async move {
                    writing.write(tx, tenant, fence, (head, before, after)).await?;
                    Ok::<_, NotWritten>(((), writing.events))
                })
            });
            written.await?;
        }
        known.cursor = after;
        known.read = after;
        Ok(())
    }

    fn count(&self, changes: &Changes) {
        for news in &changes.news {
            match news {
                News::Fired(alert) => self.metrics.fired.with_label_values(&[alert.severity.name()]).inc(),
                News::Resolved(alert) => {
                    self.metrics.resolved.with_label_values(&[alert.severity.name()]).inc()
                }
                News::Escalated(..) => self.metrics.escalated.inc(),
                News::Undeliverable(..) => self.metrics.undeliverable.inc(),
            }
            if let News::Fired(alert) = news
                && alert.labels.contains_key("overflow")
            {
                self.metrics.overflows.inc();
            }
        }
    }

    fn event(&self, tenant: TenantId, news: &News) -> Event {
        let new = |kind, action: &str, outcome| Event::new(&self.entropy, tenant, kind, action, outcome);
        let (mut event, alert) = match news {
            News::Fired(alert) => (new(EventType::SecurityAlert, "alert.fired", Outcome::Success), alert),
            News::Resolved(alert) => {
                let mut event = new(EventType::SystemEvent, "alert.resolved", Outcome::Success);
                event.details.reason.clone_from(&alert.ended_because);
                (event, alert)
            }
            News::Escalated(alert, receivers) => {
                let mut event = new(EventType::SystemEvent, "alert.escalated", Outcome::Success);
                event.details.fields.push(("receivers".into(), receivers.join(", ")));
                (event, alert)
            }
            News::Undeliverable(alert, receiver, why) => {
                let mut event = new(EventType::SystemEvent, "alert.undeliverable", Outcome::Failure);
                event.details.reason = (*why).to_owned();
                event.details.fields.push(("receiver".into(), receiver.clone()));
                (event, alert)
            }
        };
        event.details.resource = format!("alert:{}", alert.id);
        if matches!(news, News::Fired(_)) {
            event.details.reason = alert.summary();
            event.details.fields.push(("value".into(), alert.value.clone()));
            event
                .details
                .fields
                .extend(alert.labels.iter().map(|(name, value)| (name.clone(), value.clone())));
        } else {
            event.details.fields.push(("alertname".into(), alert.rule.clone()));
        }
        event
    }

    /// Lets others see when something is to be done.
    fn publish(&self, slot: &Slot, held: Option<&Held>) {
        let due = held.map_or_else(Due::default, |held| Due {
            look: held.desk.next_look(),
            notes: held.desk.due(self.clock.now()),
            firing: held
                .desk
                .alerts
                .values()
                .filter(|alert| alert.is_firing())
                .map(|alert| alert.severity.name())
                .collect(),
            rules: held.desk.rules.len(),
        });
        let any = !due.notes.is_empty();
        *slot.due.lock().unwrap_or_else(PoisonError::into_inner) = due;
        if any {
            self.wake.notify_waiters();
        }
    }

    fn forget_idle(&self, tenant: TenantId, idle: bool) {
        let mut slots = self.slots();
        if idle && slots.len() > IDLE_DESKS {
            // Whoever holds it works on; the next step takes the desk out anew.
            slots.remove(&tenant);
        }
    }

    /// Returns the tenants for which time alone has changed something.
    pub(crate) fn due_looks(&self, now: Timestamp) -> Vec<TenantId> {
        let slots = self.slots();
        let due = |slot: &&Arc<Slot>| {
            slot.due.lock().unwrap_or_else(PoisonError::into_inner).look.is_some_and(|at| at <= now)
        };
        slots.values().filter(due).map(|slot| slot.tenant).collect()
    }

    /// Returns the tenants that have a place here.
    pub(crate) fn tenants(&self) -> Vec<TenantId> {
        self.slots().keys().copied().collect()
    }

    /// Forgets a tenant whose home is elsewhere.
    pub(crate) fn drop_slot(&self, tenant: TenantId) {
        self.slots().remove(&tenant);
    }

    /// Forgets all tenants whose homes are elsewhere: nobody here is to show or tell their alerts.
    pub(crate) fn drop_foreign(&self) {
        self.slots().retain(|tenant, _| self.ownership.running_fence(tenant.as_bytes()).is_ok());
    }

    /// Returns the message to a receiver that is due first.
    pub(crate) fn first_note(&self, receiver: &str) -> Option<(Timestamp, TenantId, NoteKey)> {
        let slots = self.slots();
        let of = |slot: &Arc<Slot>| {
            let due = slot.due.lock().unwrap_or_else(PoisonError::into_inner);
            let own = due.notes.iter().filter(|(key, _)| key.receiver == receiver);
            own.min_by_key(|(_, at)| *at).map(|(key, at)| (*at, slot.tenant, key.clone()))
        };
        slots.values().filter_map(of).min_by_key(|(at, ..)| *at)
    }

    /// Tells metrics how things stand at this node.
    pub(crate) fn show(&self, now: Timestamp) {
        let (mut firing, mut rules) = (HashMap::<&str, i64>::new(), 0);
        let mut notes = HashMap::<String, (i64, f64)>::new();
        for slot in self.slots().values() {
            let due = slot.due.lock().unwrap_or_else(PoisonError::into_inner);
            due.firing.iter().for_each(|severity| *firing.entry(severity).or_default() += 1);
            rules += due.rules;
            for (key, at) in due.notes.iter().filter(|(_, at)| *at <= now) {
                let (count, late) = notes.entry(key.receiver.clone()).or_default();
                *count += 1;
                *late = late.max(now.since(*at).as_secs_f64());
            }
        }
        for severity in ["informational", "low", "medium", "high", "critical"] {
            let count = firing.get(severity).copied().unwrap_or_default();
            self.metrics.firing.with_label_values(&[severity]).set(count);
        }
        self.metrics.rules.set(i64::try_from(rules).unwrap_or(i64::MAX));
        for receiver in self.book.manners.keys() {
            let (count, late) = notes.get(receiver).copied().unwrap_or_default();
            self.metrics.pending.with_label_values(&[receiver]).set(count);
            self.metrics.late_seconds.with_label_values(&[receiver]).set(late);
        }
    }

    /// Has something done with a tenant's desk, if this node is its home; takes it out if it is not.
    ///
    /// # Errors
    /// What was done may not be stored then.
    pub(crate) async fn with<T>(
        &self,
        tenant: TenantId,
        act: impl AsyncFnOnce(&mut Held, Fence) -> Result<T, NotWritten>,
    ) -> Result<Option<T>, NotWritten> {
        let Ok(fence) = self.ownership.fence(tenant.as_bytes()) else { return Ok(None) };
        let slot = self.slot(tenant);
        let mut held = slot.held.lock().await;
        if held.as_ref().is_none_or(|known| known.fence != fence) {
            *held = Some(self.load(tenant, fence, self.clock.now()).await?);
        }
        let known = held.as_mut().expect("it was just loaded");
        let result = act(known, fence).await;
        if result.is_err() {
            *held = None;
        }
        self.publish(&slot, held.as_ref());
        result.map(Some)
    }
}
