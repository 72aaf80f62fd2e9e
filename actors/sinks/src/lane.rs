//! The task of one lane: performs what its [`State`] says.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use aesp_audit::{Event as AuditEvent, Recorder};
use aesp_cluster::Fence;
use aesp_outbound::Failure;
use aesp_proto::{
    Clock, Entropy, TenantId,
    v1::{EventType, Outcome},
};
use aesp_storage::Blind;
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
    time::{Instant, sleep_until},
};

use crate::{
    Metrics,
    read::Reader,
    settle::settle,
    state::{Effect, Event, Settled, State},
};

/// The tenants whose logs have grown, until the lane hears of them: one entry each, however often.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    news: Mutex<HashMap<TenantId, Fence>>,
    wake: Notify,
}

impl Inbox {
    pub(crate) fn put(&self, tenant: TenantId, fence: Fence) {
        self.news.lock().unwrap_or_else(PoisonError::into_inner).insert(tenant, fence);
        self.wake.notify_one();
    }

    fn take(&self) -> HashMap<TenantId, Fence> {
        std::mem::take(&mut *self.news.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// How a lane fares, for everybody to see.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) pending: u64,
    pub(crate) lag: Duration,
    pub(crate) trouble: Option<Failure>,
}

/// Sums since the node's start.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    pub(crate) taken: AtomicU64,
    pub(crate) refused: AtomicU64,
}

/// One lane of a sink.
pub(crate) struct Lane {
    pub(crate) sink: String,
    pub(crate) id: Blind,
    pub(crate) reader: Arc<Reader>,
    pub(crate) recorder: Recorder,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Entropy,
    pub(crate) metrics: Metrics,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) seen: watch::Sender<Seen>,
    pub(crate) totals: Arc<Totals>,
}

const JITTER_STEPS: u64 = 1 << 20;
/// How often a lane tells how it fares: while nothing happens, and at the most.
const LOOK: Duration = Duration::from_millis(500);
const TELL: Duration = Duration::from_millis(100);

impl Lane {
    /// Runs until it is dropped.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut state = State::new(self.reader.limits.clone());
        let mut working: JoinSet<Event> = JoinSet::new();
        let mut told = Instant::now();
        loop {
            let now = Instant::now();
            let wake = state.wake_at().map_or(now + LOOK, |at| at.min(now + LOOK));
            let events: Vec<Event> = tokio::select! {
                done = working.join_next(), if !working.is_empty() => match done {
                    Some(Ok(event)) => vec![event],
                    // A task of ours has panicked: the lane begins anew from its cursors.
                    Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
                    None => Vec::new(),
                },
                () = self.inbox.wake.notified() => {
                    let news = self.inbox.take().into_iter();
                    news.map(|(tenant, fence)| Event::News { tenant, fence }).collect()
                }
                () = sleep_until(wake) => vec![Event::Woken],
            };
            for event in events {
                let jitter = self.entropy.below(JITTER_STEPS) as f64 / JITTER_STEPS as f64;
                for effect in state.step(Instant::now(), jitter, event) {
                    self.perform(effect, &mut working);
                }
            }
            if told.elapsed() < TELL {
                continue;
            }
            told = Instant::now();
            self.seen.send_replace(Seen {
                pending: state.pending() as u64,
                lag: state.lag(Instant::now(), self.clock.now()),
                trouble: state.trouble().cloned(),
            });
        }
    }

    fn perform(self: &Arc<Self>, effect: Effect, working: &mut JoinSet<Event>) {
        let lane = Arc::clone(self);
        match effect {
            Effect::Read { tenant, fence, after } => {
                working.spawn(async move { lane.reader.read(tenant, fence, after).await });
            }
            Effect::Send(parcels) => {
                working.spawn(async move {
                    let timer = lane.metrics.delivery_seconds.with_label_values(&[&lane.sink]).start_timer();
                    let answer = lane.reader.transport.deliver(&parcels).await;
                    timer.observe_duration();
                    if let Err(failure) = &answer {
                        let labels = [lane.sink.as_str(), failure.cause.name()];
                        lane.metrics.failures.with_label_values(&labels).inc();
                    }
                    Event::Answered(answer)
                });
            }
            Effect::Commit(settled) => {
                working.spawn(async move { lane.commit(settled).await });
            }
            Effect::Troubled(failure) => {
                tracing::warn!(sink = lane.sink, %failure, "an audit sink takes nothing; tried again until it does");
                self.tell(
                    "failed",
                    Outcome::Failure,
                    &failure.why,
                    &[("cause", failure.cause.name().into())],
                );
            }
            Effect::Recovered => {
                tracing::info!(sink = lane.sink, "an audit sink takes events again");
                self.tell("recovered", Outcome::Success, "", &[]);
            }
        }
    }

    async fn commit(&self, settled: Settled) -> Event {
        let noted = match settle(&self.reader.store, &*self.clock, self.id, &settled).await {
            Ok(noted) => noted,
            Err(error) => {
                tracing::warn!(sink = self.sink, %error, "what an audit sink took is not noted yet");
                return Event::NotCommitted;
            }
        };
        let kept = |tenant: &TenantId| !noted.lost.iter().any(|(lost, _)| lost == tenant);
        let taken: u64 = settled.cursors.iter().filter(|c| kept(&c.tenant)).map(|c| c.taken).sum();
        let refused: Vec<_> = settled.refused.iter().filter(|r| kept(&r.tenant)).collect();
        self.totals.taken.fetch_add(taken, Ordering::Relaxed);
        self.totals.refused.fetch_add(refused.len() as u64, Ordering::Relaxed);
        self.metrics.delivered.with_label_values(&[&self.sink]).inc_by(taken);
        self.metrics.dead_letters.with_label_values(&[&self.sink]).inc_by(refused.len() as u64);
        // An event about a refused event about a refused event … would never end.
        if let Some(last) = refused.iter().rfind(|refusal| !refusal.about_sinks) {
            let count = ("events", refused.len().to_string());
            let fields = [count, ("last_event_id", last.event.to_string())];
            self.tell("dead_letter", Outcome::Failure, &last.why, &fields);
        }
        Event::Committed { lost: noted.lost }
    }

    /// Puts on record what befell the sink, in the platform's log.
    fn tell(&self, what: &str, outcome: Outcome, reason: &str, fields: &[(&str, String)]) {
        let action = format!("{}{what}", crate::read::ABOUT_SINKS);
        let kind = EventType::SystemEvent;
        let mut event = AuditEvent::new(&self.entropy, TenantId::PLATFORM, kind, action, outcome);
        event.details.resource = format!("audit-sink:{}", self.sink);
        event.details.reason = reason.to_owned();
        event.details.fields =
            fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let recorder = self.recorder.clone();
        tokio::spawn(async move {
            if let Err(error) = recorder.append(vec![event]).await {
                tracing::warn!(%error, "an event about an audit sink is not on record");
            }
        });
    }
}
