use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aesp_audit::{
    Event, Recorder, checkpoints,
    checkpoints::{Head, Kept},
    events,
};
use aesp_cluster::Fence;
use aesp_follow::{Advance, Follower};
use aesp_merkle::{Checkpoint, Edge};
use aesp_proto::{
    Clock, Entropy, TenantId, Timestamp,
    v1::{EventType, Outcome},
};
use aesp_storage::{Store, Transaction};
use async_trait::async_trait;
use data_encoding::HEXLOWER;
use tracing::{error, warn};

use crate::{
    Error, LogKeys, Metrics,
    grow::grow,
    platform,
    rows::{self, State, Tree},
};

/// Bounds of the sealer. The default is right but for tests.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The shortest time between two checkpoints of a log whose end was reached.
    pub pace: Duration,
    /// Events that one step seals.
    pub events: usize,
    /// Bytes of events after which a step reads no more.
    pub bytes: usize,
    /// Of the checkpoints of such a time the last is kept; zero keeps all.
    pub keep_each: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            pace: Duration::from_secs(1),
            events: 4_096,
            bytes: 4_000_000,
            keep_each: Duration::from_secs(60),
        }
    }
}

/// Seals the logs of the tenants whose home this node is.
pub struct Sealer {
    store: Store,
    recorder: Recorder,
    clock: Arc<dyn Clock>,
    entropy: Entropy,
    metrics: Metrics,
    options: Options,
    /// Tenants whose logs were found damaged: it is on record once.
    damaged: Mutex<HashSet<TenantId>>,
}

impl Sealer {
    /// Prepares to seal; makes the log key if there is none. `recorder` hears of damaged logs.
    ///
    /// # Errors
    /// The store's, or [`Error::Key`].
    pub async fn new(
        store: Store,
        recorder: Recorder,
        clock: Arc<dyn Clock>,
        entropy: Entropy,
        metrics: Metrics,
        options: Options,
    ) -> Result<Self, Error> {
        LogKeys::ensure(&store, clock.now()).await?;
        Ok(Self { store, recorder, clock, entropy, metrics, options, damaged: Mutex::default() })
    }

    /// Notes whether the log was found damaged; puts it on record when it is new.
    async fn note(&self, tenant: TenantId, outcome: &Result<Sealed, Error>) {
        let damage = match outcome {
            Err(Error::Damaged(what)) => Some(what),
            Err(_) => return,
            Ok(_) => None,
        };
        let new = {
            let mut known = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
            match damage {
                Some(_) => known.insert(tenant),
                None => {
                    known.remove(&tenant);
                    return;
                }
            }
        };
        let Some(what) = damage else { return };
        self.metrics.damaged.inc();
        if !new {
            return;
        }
        error!(%tenant, what, "the stored log is not what was signed: nothing more is sealed of it");
        let (kind, outcome) = (EventType::SecurityAlert, Outcome::Failure);
        let mut event = Event::new(&self.entropy, TenantId::PLATFORM, kind, "log.damaged", outcome);
        event.details.resource = format!("tenant:{tenant}");
        event.details.reason = what.clone();
        if let Err(error) = self.recorder.append(vec![event]).await {
            warn!(%tenant, %error, "a damaged log is not on record");
            self.damaged.lock().unwrap_or_else(PoisonError::into_inner).remove(&tenant);
        }
    }
}

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sealed {
    leaves: u64,
    next: Advance,
}

impl Sealed {
    fn nothing(next: Advance) -> Self {
        Self { leaves: 0, next }
    }
}

#[async_trait]
impl Follower for Sealer {
    fn name(&self) -> &'static str {
        "sealer"
    }

    async fn advance(&self, tenant: TenantId, fence: Fence) -> Result<Advance, aesp_follow::Error> {
        let step = Step {
            tenant,
            fence,
            now: self.clock.now(),
            new_log: HEXLOWER.encode(&self.entropy.bytes()),
            options: self.options,
        };
        let timer = self.metrics.seconds.start_timer();
        let sealed = self.store.run(move |tx| {
            let step = step.clone();
            Box::pin(async move { step.seal(tx).await })
        });
        let sealed = sealed.await;
        self.note(tenant, &sealed).await;
        match sealed {
            Ok(sealed) if sealed.leaves == 0 => {
                timer.stop_and_discard();
                Ok(sealed.next)
            }
            Ok(sealed) => {
                timer.observe_duration();
                self.metrics.leaves.inc_by(sealed.leaves);
                self.metrics.checkpoints.inc();
                Ok(sealed.next)
            }
            Err(error) => {
                timer.stop_and_discard();
                Err(error.into())
            }
        }
    }
}

/// One step, which may run several times until it commits.
#[derive(Clone, Debug)]
struct Step {
    tenant: TenantId,
    fence: Fence,
    now: Timestamp,
    /// The id of a log that begins.
    new_log: String,
    options: Options,
}

impl Step {
    /// INVARIANT: never two different checkpoints of one size. The state's row is read and replaced in one serializable transaction, and
    /// a checkpoint is only signed together with it; the fence keeps the steps of a home that is over from being made in vain.
    async fn seal(&self, tx: &Transaction) -> Result<Sealed, Error> {
        self.fence.check(tx).await?;
        let state = State::newest(tx, self.tenant).await?;
        if let Some((_, state)) = &state
            && !state.behind
        {
            let rest = self.options.pace.saturating_sub(self.now.since(state.sealed_at));
            // A clock that was set back must not hold the log up.
            if !rest.is_zero() && state.sealed_at <= self.now {
                return Ok(Sealed::nothing(Advance::Later(rest)));
            }
        }
        let Options { events, bytes, .. } = self.options;
        let last = state.as_ref().map(|(_, state)| state.last()).transpose()?;
        let mut found = events::after(tx, self.tenant, last, events, bytes).await?;
        let Some(log_epoch) = found.first().map(|(position, _)| events::log_epoch(position)) else {
            return Ok(Sealed::nothing(Advance::AtEnd));
        };
        let full = found.len() == events || found.iter().map(|(_, leaf)| leaf.len()).sum::<usize>() >= bytes;
        // What a restored store wrote later belongs to another tree.
        let read = found.len();
        found.truncate(found.partition_point(|(position, _)| events::log_epoch(position) == log_epoch));
        let behind = full || found.len() < read;
        let before = state.filter(|(epoch, _)| *epoch == log_epoch).map(|(_, state)| state);
        let tree = Tree::of_events(self.tenant, log_epoch);
        let mut edge = match &before {
            Some(state) => edge(tx, tree, state).await?,
            None => Edge::default(),
        };
        let growth = grow(&mut edge, &found);
        for tile in &growth.tiles {
            tree.put(tx, tile)?;
        }
        for (index, first) in &growth.bundles {
            rows::put_bundle(tx, self.tenant, log_epoch, *index, *first)?;
        }
        for (event, index) in &growth.leaves {
            rows::put_leaf(tx, self.tenant, *event, log_epoch, *index)?;
        }
        let log_id = before.as_ref().map_or_else(|| self.new_log.clone(), |state| state.log_id.clone());
        let head = Checkpoint { origin: rows::origin(&log_id), size: edge.size(), root: edge.root() };
        let note = head.sign(&LogKeys::signing(tx).await?).map_err(|_| Error::Key("it can't sign"))?;
        if let Some(state) = before.filter(|state| self.replaces(state)) {
            checkpoints::drop(tx, self.tenant, Head { log_epoch, size: state.size })?;
        }
        let kept = Kept { head: Head { log_epoch, size: head.size }, at: self.now, note };
        checkpoints::keep(tx, self.tenant, &kept)?;
        platform::announce(tx, self.tenant, &head).await?;
        let (last, _) = found.last().expect("there is a first");
        let state = State::new(log_id, (head.size, *last), self.now, behind, kept.note);
        tx.put(self.tenant, &log_epoch, &state).await?;
        let next = if behind { Advance::More } else { Advance::AtEnd };
        Ok(Sealed { leaves: found.len() as u64, next })
    }

    /// Tells whether the checkpoint of this step stands for that one as well.
    fn replaces(&self, state: &State) -> bool {
        let each = i64::try_from(self.options.keep_each.as_millis()).unwrap_or(i64::MAX);
        each > 0 && state.sealed_at.0.div_euclid(each) == self.now.0.div_euclid(each)
    }
}

/// Takes up the right edge of the tree, which must have the root that was signed.
async fn edge(tx: &Transaction, tree: Tree, state: &State) -> Result<Edge, Error> {
    let signed = LogKeys::opened(tx, &state.checkpoint).await?;
    if (signed.origin, signed.size) != (rows::origin(&state.log_id), state.size) {
        return Err(Error::Damaged("the last checkpoint is of another log or size".into()));
    }
    tree.edge(tx, state.size, &signed.root).await
}
