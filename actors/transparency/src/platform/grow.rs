use std::{collections::HashMap, sync::Arc, time::Duration};

use aesp_cluster::Fence;
use aesp_merkle::{Checkpoint, Edge, leaf_hash};
use aesp_proto::{Clock, Entropy, TenantId, Timestamp};
use aesp_storage::{Store, Transaction};
use data_encoding::HEXLOWER;

use super::{
    cosigned::{Cosigned, size_of},
    rows::{self, News, State},
};
use crate::{
    Error, LogKeys,
    rows::{State as LogState, Tree},
};

const PLATFORM: TenantId = TenantId::PLATFORM;

/// Bounds of a step. The default is right but for tests.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The shortest time between two checkpoints while no heads are left waiting.
    pub pace: Duration,
    /// Heads that one step takes.
    pub heads: usize,
    /// Tenants that one step looks at while it gathers what was sealed before there was a platform log.
    pub tenants: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { pace: Duration::from_secs(1), heads: 1_024, tenants: 256 }
    }
}

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Growth {
    /// Leaves that it appended.
    pub leaves: u64,
    /// Leaves that there are now.
    pub size: u64,
    /// Whether there is more to do at once.
    pub more: bool,
}

/// Appends to the platform log, at the home of the platform's shard.
#[derive(Clone)]
pub struct Grower {
    store: Store,
    clock: Arc<dyn Clock>,
    entropy: Entropy,
    options: Options,
}

impl Grower {
    /// Prepares to append.
    #[must_use]
    pub fn new(store: Store, clock: Arc<dyn Clock>, entropy: Entropy, options: Options) -> Self {
        Self { store, clock, entropy, options }
    }

    /// Appends the heads that wait, of each log the newest, and signs a checkpoint; not sooner than the pace allows.
    ///
    /// # Errors
    /// [`Error::Damaged`] if what is stored is not what was signed; [`Error::Key`]; the store's.
    pub async fn step(&self, fence: Fence) -> Result<Growth, Error> {
        let (now, options) = (self.clock.now(), self.options);
        let new_log = HEXLOWER.encode(&self.entropy.bytes());
        self.store
            .run(move |tx| {
                let new_log = new_log.clone();
                Box::pin(async move { grow(tx, fence, now, &new_log, options).await })
            })
            .await
    }
}

/// INVARIANT: never two different checkpoints of one size. The state's row is read and replaced in one serializable transaction, and a
/// checkpoint is only signed together with it.
async fn grow(
    tx: &Transaction,
    fence: Fence,
    now: Timestamp,
    new_log: &str,
    options: Options,
) -> Result<Growth, Error> {
    fence.check(tx).await?;
    let log_epoch = tx.log_epoch().await?;
    let newest = State::newest(tx).await?;
    let (mut state, mut texts) = match newest {
        Some((epoch, state)) if epoch == log_epoch => {
            // A clock that was set back must not hold the log up.
            let waits = !state.behind && state.signed_at <= now && now.since(state.signed_at) < options.pace;
            if waits {
                return Ok(Growth { leaves: 0, size: state.size, more: false });
            }
            (state, Vec::new())
        }
        // The store was restored: the log before may have been longer than anybody knows here.
        Some((_, before)) if before.size > 0 => {
            (begun(new_log), vec![LogKeys::opened(tx, &before.checkpoint).await?.text()])
        }
        _ => (begun(new_log), Vec::new()),
    };
    let gathering = state.gathering;
    let (news, more) = match state.gathering {
        Some(after) => gather(tx, &mut state, after, options.tenants).await?,
        None => {
            let (news, more) = rows::take(tx, options.heads).await?;
            (rows::unknown(tx, log_epoch, newest_each(news)).await?, more)
        }
    };
    if news.is_empty() && texts.is_empty() {
        if state.gathering != gathering {
            tx.put(PLATFORM, &log_epoch, &state).await?;
        }
        return Ok(Growth { leaves: 0, size: state.size, more });
    }
    let tree = Tree::of_heads(log_epoch);
    let mut edge = match state.size {
        0 => Edge::default(),
        size => {
            let signed = LogKeys::opened(tx, &state.checkpoint).await?;
            if (signed.origin, signed.size) != (rows::origin(&state.log_id), size) {
                return Err(Error::Damaged("the last checkpoint is of another log or size".into()));
            }
            tree.edge(tx, size, &signed.root).await?
        }
    };
    for one in &news {
        rows::put_head(tx, &one.head, log_epoch, edge.size() + texts.len() as u64)?;
        texts.push(one.head.text());
        if one.own {
            state.own = one.head.size;
        } else {
            state.others += 1;
        }
    }
    let mut tiles = Vec::new();
    for text in &texts {
        rows::put_entry(tx, log_epoch, edge.size(), text)?;
        edge.push(leaf_hash(text.as_bytes()), &mut tiles);
    }
    for tile in tiles.into_iter().chain(edge.tiles()) {
        tree.put(tx, &tile)?;
    }
    let head = Checkpoint { origin: rows::origin(&state.log_id), size: edge.size(), root: edge.root() };
    let note = head.sign(&LogKeys::signing(tx).await?).map_err(|_| Error::Key("it can't sign"))?;
    let quorate = size_of(Cosigned::of(tx, log_epoch).await?.quorate.as_ref());
    if quorate != state.quorate || state.size == 0 {
        (state.quorate, state.quorate_since) = (quorate, now);
    }
    state = State { size: head.size, signed_at: now, behind: more, checkpoint: note, ..state };
    tx.put(PLATFORM, &log_epoch, &state).await?;
    Ok(Growth { leaves: texts.len() as u64, size: head.size, more })
}

fn begun(log_id: &str) -> State {
    State {
        log_id: log_id.to_owned(),
        size: 0,
        signed_at: Timestamp(0),
        quorate: 0,
        quorate_since: Timestamp(0),
        behind: false,
        checkpoint: String::new(),
        gathering: Some(PLATFORM),
        others: 0,
        own: 0,
    }
}

/// Finds the heads of the next tenants' logs, from which nothing may come for a long time.
async fn gather(
    tx: &Transaction,
    state: &mut State,
    after: TenantId,
    limit: usize,
) -> Result<(Vec<News>, bool), Error> {
    let mut news = Vec::new();
    let first = (after == PLATFORM).then_some(PLATFORM);
    let tenants = tx.tenants_with_rows(Some(after), limit).await?;
    for tenant in first.into_iter().chain(tenants.iter().copied()) {
        if let Some((_, log)) = LogState::newest(tx, tenant).await? {
            let head = LogKeys::opened(tx, &log.checkpoint).await?;
            news.push(News { own: tenant == PLATFORM, head });
        }
    }
    state.gathering = tenants.last().copied().filter(|_| tenants.len() == limit);
    Ok((news, true))
}

/// Leaves of each log the newest head, in the order in which those were signed.
fn newest_each(news: Vec<News>) -> Vec<News> {
    let last: HashMap<String, u64> =
        news.iter().map(|one| (one.head.origin.clone(), one.head.size)).collect();
    let newest = |one: &News| last.get(&one.head.origin) == Some(&one.head.size);
    news.into_iter().filter(newest).collect()
}
