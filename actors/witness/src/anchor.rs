use std::{sync::Arc, time::Duration};

use aesp_backup::{Credentials, Error as StoreError, Files};
use aesp_cluster::Fence;
use aesp_keys::Secrets;
use aesp_merkle::sha256;
use aesp_proto::{Clock, TenantId, Timestamp};
use aesp_storage::{Kind, Row, Store};
use aesp_transparency::platform::Status;
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};
use zeroize::Zeroizing;

use crate::{Anchor, Metrics, teller::Teller};

const PLATFORM: TenantId = TenantId::PLATFORM;
/// How long the log may grow without a newer checkpoint with its quorum before the newest is anchored with what cosignatures there are.
const PATIENCE: Duration = Duration::from_secs(10);

/// The last checkpoint that was anchored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnchorRow {
    /// The origin of the platform log.
    pub origin: String,
    /// Leaves of it.
    pub size: u64,
    /// When it was anchored.
    pub at: Timestamp,
    /// The weight of the log then.
    pub weight: u64,
    /// The name of the object; empty where there is none.
    pub object: String,
}

impl Row for AnchorRow {
    const KIND: Kind = Kind::ANCHOR;
    const SEALED: bool = false;
    type Key = ();
}

/// Writes checkpoints where even who has every key can't change them.
pub struct Anchors {
    pub(crate) config: Anchor,
    pub(crate) secrets: Secrets,
    pub(crate) store: Store,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) teller: Teller,
    pub(crate) metrics: Metrics,
    /// What failed last: it is on record once.
    pub(crate) failing: Option<String>,
}

/// Returns the name of an anchor: a folder a log, in it the sizes in order, and the start of the content's hash.
#[must_use]
pub fn name(origin: &str, size: u64, note: &str) -> String {
    let log = origin.rsplit('/').next().unwrap_or_default();
    format!("{log}/{size:020}-{}.checkpoint", HEXLOWER.encode(&sha256(&[note.as_bytes()])[..8]))
}

impl Anchors {
    /// Anchors the newest checkpoint if it is time.
    pub(crate) async fn step(&mut self, fence: Fence, status: &Status, quorum: bool) {
        let last =
            self.store.run(|tx| Box::pin(async move { tx.get::<AnchorRow>(PLATFORM, &()).await })).await;
        let last = match last {
            Ok(last) => last.filter(|last| last.origin == status.head.origin),
            Err(error) => return warn!(%error, "the last anchor can't be read"),
        };
        let now = self.clock.now();
        self.metrics
            .anchored_size
            .set(last.as_ref().map_or(0, |last| i64::try_from(last.size).unwrap_or(i64::MAX)));
        if last.as_ref().is_some_and(|last| !self.due(last, status, now)) {
            return;
        }
        // The newest with its quorum, unless there was none for some time.
        let before = last.as_ref().map_or(0, |last| last.size);
        let quorate =
            status.quorate.as_ref().and_then(|note| Some((aesp_merkle::Checkpoint::glance(note)?, note)));
        let (head, note) = match quorate.filter(|(head, _)| head.size > before) {
            Some(found) if quorum => found,
            _ if quorum && now.since(status.quorate_since) < PATIENCE => return,
            _ => (status.head.clone(), &status.note),
        };
        let object =
            if self.config.target.is_empty() { String::new() } else { name(&head.origin, head.size, note) };
        match self.write(&object, note).await {
            Ok(()) => {}
            Err(why) => {
                self.metrics.anchor_failures.inc();
                if self.failing.as_ref() != Some(&why) {
                    warn!(why, "a checkpoint is not anchored; tried again until it is");
                    self.teller.alert("log.anchor_failed", "platform-log", &why, &[]).await;
                    self.failing = Some(why);
                }
                return;
            }
        }
        let fields = [
            ("origin", head.origin.clone()),
            ("size", head.size.to_string()),
            ("checkpoint", note.clone()),
            ("object", object.clone()),
        ];
        if !self.teller.well("log.anchored", "platform-log", &fields).await {
            return;
        }
        if self.failing.take().is_some() {
            info!("checkpoints are anchored again");
        }
        self.metrics.anchored.inc();
        // Of an older checkpoint it is not known how much it weighed: the newest follows it when it is time again.
        let weight = if head.size == status.head.size { status.weight } else { 0 };
        let row = AnchorRow { origin: head.origin, size: head.size, at: now, weight, object };
        let kept = self.store.run(|tx| {
            let row = row.clone();
            Box::pin(async move {
                fence.check(tx).await?;
                tx.put(PLATFORM, &(), &row).await
            })
        });
        if let Err(error) = kept.await {
            warn!(%error, "the last anchor is not kept");
        }
    }

    /// Tells whether enough time has passed, and whether more is new than the record of the last anchor itself.
    fn due(&self, last: &AnchorRow, status: &Status, now: Timestamp) -> bool {
        let waited = now < last.at || now.since(last.at) >= self.config.every();
        waited && status.head.size > last.size && status.weight > last.weight + 1
    }

    async fn write(&self, object: &str, note: &str) -> Result<(), String> {
        if object.is_empty() {
            return Ok(());
        }
        let roots = self.config.ca.as_deref().map(std::fs::read_to_string).transpose();
        let secret = match &self.config.secret {
            None => None,
            Some(reference) => Some(self.secrets.read(reference).await.map_err(|error| error.to_string())?),
        };
        let credentials = Credentials {
            id: Some(self.config.user.clone()).filter(|id| !id.is_empty()),
            secret: secret.map(|secret| Zeroizing::new(secret.expose().to_owned())),
            roots_pem: roots.map_err(|error| format!("ca can't be read: {error}"))?,
            ..Credentials::default()
        };
        let files = Files::open(&self.config.at(credentials).map_err(words)?).map_err(words)?;
        if files.create(object, note.to_owned().into()).await.map_err(words)? {
            return Ok(());
        }
        Err(format!("{object} has another content than it was given"))
    }
}

fn words(error: StoreError) -> String {
    match error {
        StoreError::Target(what) => what,
        error => error.to_string(),
    }
}
