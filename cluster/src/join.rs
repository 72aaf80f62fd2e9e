use std::{
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU64},
    },
    time::Duration,
};

use aesp_proto::{Incarnation, TenantId};
use aesp_storage::{Error, RightsPosition, SHARDS, Store};
use data_encoding::HEXLOWER;
use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    Cluster, Context, JoinError, Lease, Load, MemberState, Notice, Options, Ownership,
    cluster::{Inner, Intent, Seams, Wakes},
    eyes::Eyes,
    holdings::Holdings,
    look::View,
    moves::declare_dead,
    observer::LONGEST_LEASE,
    rows::{ID, NodeRow, Setting},
    skew::Skew,
};

/// The first renewal's number.
const FIRST_BEAT: u64 = 1;
/// The longest that a joining node waits for the others' clocks, in leases.
const CLOCK_WAIT_LEASES: u32 = 1;

/// What stands in the way of a node that wants to join.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Obstacle {
    SameName,
    /// This node would be alone, the other one is not.
    Clustered,
    /// The other one is alone, this node would not be.
    Lone,
}

impl Obstacle {
    fn find(row: &NodeRow, options: &Options) -> Option<Self> {
        if row.name == options.name {
            Some(Self::SameName)
        } else if options.endpoint.is_empty() {
            Some(Self::Clustered)
        } else if row.endpoint.is_empty() {
            Some(Self::Lone)
        } else {
            None
        }
    }

    fn into_error(self, node: Incarnation, name: &str) -> JoinError {
        let name = name.to_owned();
        match self {
            Self::SameName => JoinError::NameTaken { name, node },
            Self::Clustered => JoinError::NotAlone { name },
            Self::Lone => JoinError::LoneNodeLives { name },
        }
    }
}

impl Cluster {
    pub(crate) async fn join_on(
        context: Context,
        mut options: Options,
        seams: Seams,
    ) -> Result<Self, JoinError> {
        options.lease = options.lease.clamp(Duration::from_millis(100), LONGEST_LEASE);
        let store = &context.store;
        let own = store.run(|tx| Box::pin(async move { tx.next_incarnation().await }));
        let own = Incarnation(own.await?);
        let birth = HEXLOWER.encode(&context.entropy.bytes());
        let eyes = Eyes::default();
        let mut joining =
            Joining { context: &context, options: &options, seams: &seams, own, birth: &birth, eyes };
        let joined = joining.run().await?;
        let eyes = joining.eyes;
        let lease = Lease::new(Arc::clone(&seams.steady));
        let inner = Inner {
            ownership: Ownership::under(own, lease.clone()),
            holdings: Mutex::new(Holdings::new(own)),
            chains: (0..SHARDS).map(|_| tokio::sync::Mutex::new(())).collect(),
            eyes: Mutex::new(eyes),
            peers: watch::Sender::new(joined.view.peers()),
            views: watch::Sender::new(Arc::new(joined.view)),
            applied: watch::Sender::new(joined.rights),
            waiting: watch::Sender::new(0),
            intent: watch::Sender::new(Intent::Join),
            skew: watch::Sender::new(Skew::default()),
            late: AtomicU64::new(0),
            settled: AtomicBool::new(false),
            wakes: Wakes::default(),
            service: OnceLock::new(),
            stop: CancellationToken::new(),
            id: joined.id,
            own,
            birth,
            lease,
            seams,
            options,
            context,
        };
        let name = inner.options.name.clone();
        inner.notice(Notice::NodeJoined { node: own, name });
        Ok(Self::begin(inner, FIRST_BEAT))
    }
}

struct Joining<'a> {
    context: &'a Context,
    options: &'a Options,
    seams: &'a Seams,
    own: Incarnation,
    birth: &'a str,
    eyes: Eyes,
}

struct Joined {
    id: String,
    rights: RightsPosition,
    view: View,
}

impl Joining<'_> {
    /// Watches the others until nothing stands in the way, and joins.
    async fn run(&mut self) -> Result<Joined, JoinError> {
        let first = self.seams.steady.now();
        let mut last = first;
        loop {
            let (view, now) = self.look().await?;
            if now.saturating_sub(last) > self.options.lease / 2 {
                self.eyes.observer.restart(now);
            }
            last = now;
            if self.is_clear(&view, now).await? {
                let waited = now.saturating_sub(first);
                if self.clock_is_right(&view, now, waited)?
                    && let Some((id, rights)) = self.commit().await?
                {
                    let (view, _) = self.look().await?;
                    return Ok(Joined { id, rights, view });
                }
            }
            sleep(self.options.lease / 8).await;
        }
    }

    async fn look(&mut self) -> Result<(View, Duration), Error> {
        let view = View::take(&self.context.store).await?;
        let now = self.seams.steady.now();
        self.eyes.see(&view, now);
        Ok((view, now))
    }

    /// Tells whether nothing stands in the way. Nodes that do and are silent for too long are declared dead.
    async fn is_clear(&mut self, view: &View, now: Duration) -> Result<bool, JoinError> {
        let mut clear = true;
        for (node, row) in view.rows() {
            let Some(obstacle) = Obstacle::find(row, self.options) else { continue };
            clear = false;
            if self.eyes.observer.lives(node) {
                let name = row.name.clone();
                self.notice(match obstacle {
                    Obstacle::SameName => Notice::IdentityContested { name, node },
                    Obstacle::Clustered | Obstacle::Lone => Notice::StoreContested { name, node },
                });
                return Err(obstacle.into_error(node, &row.name));
            }
        }
        if clear {
            return Ok(true);
        }
        for (node, bytes) in self.eyes.observer.silent(now) {
            let Some(row) = view.row(node) else { continue };
            if Obstacle::find(row, self.options).is_some() {
                let at = self.context.clock.now();
                if declare_dead(&self.context.store, node, &bytes, self.own, at).await? {
                    self.context.metrics.deaths.inc();
                    self.notice(Notice::NodeDied { node, name: row.name.clone(), by: self.own });
                }
            }
        }
        Ok(false)
    }

    /// Tells whether this node's clock is close enough to the members'; false as long as they have to be read.
    fn clock_is_right(&self, view: &View, now: Duration, waited: Duration) -> Result<bool, JoinError> {
        let unread =
            view.rows().any(|(node, row)| row.state != MemberState::Joining && !self.eyes.clocks.knows(node));
        if unread && waited < self.options.lease * CLOCK_WAIT_LEASES {
            return Ok(false);
        }
        let skew_ms = self.eyes.skew_ms(view, None, self.context.clock.now(), now);
        if Duration::from_millis(skew_ms.unsigned_abs()) > self.options.skew {
            self.notice(Notice::ClockSkewed { skew_ms });
            return Err(JoinError::ClockSkewed { skew_ms });
        }
        Ok(true)
    }

    /// Writes this node's row, unless somebody has come who stands in the way.
    async fn commit(&self) -> Result<Option<(String, RightsPosition)>, Error> {
        let row = NodeRow {
            name: self.options.name.clone(),
            beat: FIRST_BEAT,
            state: MemberState::Joining,
            endpoint: self.options.endpoint.clone(),
            version: self.options.version.clone(),
            lease_ms: u64::try_from(self.options.lease.as_millis()).unwrap_or(u64::MAX),
            applied: RightsPosition::default(),
            wall: self.context.clock.now(),
            load: Load::default(),
            birth: self.birth.to_owned(),
            locality: self.options.locality.clone(),
        };
        let id = HEXLOWER.encode(&self.context.entropy.bytes());
        write(&self.context.store, self.own, &row, &id, self.options).await
    }

    fn notice(&self, notice: Notice) {
        tracing::info!(?notice, "cluster");
        self.context.metrics.notices.with_label_values(&[notice.name()]).inc();
        self.context.notices.noticed(notice);
    }
}

/// Returns the cluster's id and the end of the log of rights, or nothing if somebody stands in the way.
async fn write(
    store: &Store,
    own: Incarnation,
    row: &NodeRow,
    new_id: &str,
    options: &Options,
) -> Result<Option<(String, RightsPosition)>, Error> {
    store
        .run_borrowing(|tx| {
            Box::pin(async move {
                // With a conflict: of two that want to join at once, one sees the other.
                let others = tx.find_all::<NodeRow>(TenantId::PLATFORM).await?;
                let mut rows = others.iter().filter_map(|(_, found)| found.row.as_ref().ok());
                if rows.any(|other| Obstacle::find(other, options).is_some()) {
                    return Ok(None);
                }
                let key = ID.to_owned();
                let id = match tx.get::<Setting>(TenantId::PLATFORM, &key).await? {
                    Some(setting) => setting.value,
                    None => {
                        let setting = Setting { value: new_id.to_owned() };
                        tx.put(TenantId::PLATFORM, &key, &setting).await?;
                        setting.value
                    }
                };
                let rights = tx.rights_position().await?;
                let row = NodeRow { applied: rights, ..row.clone() };
                tx.put(TenantId::PLATFORM, &own, &row).await?;
                tx.tell_cluster()?;
                Ok(Some((id, rights)))
            })
        })
        .await
}
