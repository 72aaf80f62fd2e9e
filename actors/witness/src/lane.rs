use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aesp_cluster::Fence;
use aesp_merkle::{CosignatureError, Cosigned, Cosigner, witness::AddCheckpoint};
use aesp_proto::{Clock, Entropy, Timestamp};
use aesp_storage::Store;
use aesp_transparency::{
    Error as LogError,
    platform::{PlatformLog, Status, cosign},
};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tracing::{error, info, warn};

use crate::{
    Config, Metrics, WitnessRow,
    backoff::Backoff,
    client::{Answer, Client, Trouble},
    teller::Teller,
};

/// How often a lane looks by itself.
const LOOK: Duration = Duration::from_secs(2);
/// How far the time of a cosignature may be from this node's.
const CLOCKS_APART: u64 = 300;
/// How often one round asks again from what the witness says it saw.
const ROUNDS: usize = 3;

/// What all lanes use.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) log: PlatformLog,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Entropy,
    pub(crate) teller: Teller,
    pub(crate) metrics: Metrics,
    pub(crate) cosigners: Arc<[Cosigner]>,
    pub(crate) quorum: usize,
    pub(crate) standing: Standings,
}

/// How the witnesses stand, by their names.
#[derive(Clone, Default)]
pub(crate) struct Standings(Arc<Mutex<BTreeMap<String, Standing>>>);

/// How a witness stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Since when there is a checkpoint that it has not cosigned.
    pub(crate) behind_since: Option<Timestamp>,
    /// Whether it is sent nothing.
    pub(crate) contradicts: bool,
}

impl Standings {
    pub(crate) fn all(&self) -> Vec<(String, Standing)> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().map(|(name, standing)| (name.clone(), *standing)).collect()
    }

    pub(crate) fn note(&self, name: &str, change: impl FnOnce(&mut Standing)) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(all.entry(name.to_owned()).or_default());
    }
}

/// Brings one witness each new checkpoint, for as long as this node is the platform's home.
pub(crate) struct Lane {
    pub(crate) config: Config,
    pub(crate) cosigner: Cosigner,
    pub(crate) client: Client,
    pub(crate) shared: Shared,
}

/// How an attempt ended.
#[derive(Debug, PartialEq, Eq)]
enum Attempt {
    /// The witness has cosigned the newest checkpoint.
    UpToDate,
    /// It has cosigned one; there may be a newer one.
    Cosigned,
    /// It is sent nothing.
    Contradicts,
    /// It is tried again after a pause.
    Failed,
}

/// What is to be made of an answer.
enum Verdict {
    Cosigned(Cosigned),
    /// It is to be asked again from this size on.
    From(u64),
    /// It remembers another history.
    Contradiction(String),
    /// It answered with something that is no cosignature of its own over the checkpoint.
    Refused(&'static str, String),
    Trouble(Trouble),
}

fn other_root(size: u64) -> Verdict {
    Verdict::Contradiction(format!(
        "it remembers another root of the first {size} leaves than this log has: the log was rewritten"
    ))
}

impl Lane {
    /// Goes on until it is dropped, or another node is the home.
    pub(crate) async fn run(self, fence: Fence, mut heads: watch::Receiver<u64>) {
        let mut backoff = Backoff::default();
        loop {
            heads.mark_unchanged();
            match self.attempt(fence).await {
                Attempt::Cosigned => backoff.reset(),
                Attempt::UpToDate => {
                    backoff.reset();
                    // Whether there is word or only time has passed, it looks again.
                    drop(timeout(LOOK, heads.changed()).await);
                }
                Attempt::Contradicts => sleep(LOOK).await,
                Attempt::Failed => {
                    let jitter = f64::from(self.shared.entropy.bytes()[0]) / 256.0;
                    sleep(backoff.fail(jitter)).await;
                }
            }
        }
    }

    async fn attempt(&self, fence: Fence) -> Attempt {
        let name = self.config.name.as_str();
        let row = self.shared.store.run_borrowing(|tx| Box::pin(WitnessRow::of(tx, name))).await;
        let (row, status) = match (row, self.shared.log.status().await) {
            (Ok(row), Ok(status)) => (row, status),
            (_, Err(LogError::Empty)) => return Attempt::UpToDate,
            (Err(error), _) => {
                warn!(%error, witness = name, "what is known of a witness can't be read");
                return Attempt::Failed;
            }
            (_, Err(error)) => {
                warn!(%error, "the platform log can't be read");
                return Attempt::Failed;
            }
        };
        let contradicts = row.contradiction.is_some();
        let behind = row.seen(&status.head.origin) != status.head.size;
        self.shared.standing.note(name, |standing| {
            standing.contradicts = contradicts;
            standing.behind_since =
                if behind { standing.behind_since.or(Some(self.shared.clock.now())) } else { None };
        });
        if contradicts {
            return Attempt::Contradicts;
        }
        if !behind {
            return Attempt::UpToDate;
        }
        let asked_at = self.shared.clock.now();
        let verdict = self.ask(&row, &status).await;
        self.settle(fence, row, (&status, asked_at), verdict).await
    }

    /// Asks the witness until it is clear what it says.
    async fn ask(&self, row: &WitnessRow, status: &Status) -> Verdict {
        let cosigned = row.seen(&status.head.origin);
        if cosigned > status.head.size {
            return Verdict::Contradiction(format!(
                "it cosigned {cosigned} leaves of this log, which has {} now: the end of the log was cut off",
                status.head.size
            ));
        }
        let mut old = cosigned;
        for _ in 0..ROUNDS {
            match self.judge(old, cosigned, status).await {
                // It has this size and refuses it: its root must be another one.
                Verdict::From(size) if size == old && size == status.head.size => return other_root(size),
                Verdict::From(size) if size == old => break,
                Verdict::From(size) => old = size,
                verdict => return verdict,
            }
        }
        Verdict::Trouble(Trouble::new(
            "garbled",
            format!("it saw {old} leaves, it says, and refuses a proof from there"),
        ))
    }

    async fn judge(&self, old: u64, cosigned: u64, status: &Status) -> Verdict {
        let proof = match old {
            0 => Vec::new(),
            old => match self.shared.log.consistency(old, status.head.size).await {
                Ok(made) => made.proof,
                Err(error) => return Verdict::Trouble(Trouble::new("log", error.to_string())),
            },
        };
        let asked = AddCheckpoint { old, proof, note: status.note.clone() };
        match self.client.add(&asked).await {
            Err(trouble) => Verdict::Trouble(trouble),
            Ok(Answer::Cosigned(lines)) => self.believe(&lines, status),
            Ok(Answer::Unknown(why)) => Verdict::Trouble(Trouble::new("unknown", why)),
            Ok(Answer::Saw(size)) if size < cosigned => Verdict::Contradiction(format!(
                "it cosigned {cosigned} leaves and says that it saw {size}: it forgets what it saw"
            )),
            Ok(Answer::Saw(size)) if size > status.head.size => self.beyond(size).await,
            Ok(Answer::Saw(size)) => Verdict::From(size),
            Ok(Answer::Inconsistent) if old > 0 => other_root(old),
            Ok(Answer::Conflict) if old == status.head.size => other_root(old),
            Ok(Answer::Conflict) => {
                Verdict::Trouble(Trouble::new("garbled", "it speaks of a conflict and names no size"))
            }
            Ok(Answer::Inconsistent) => {
                Verdict::Trouble(Trouble::new("refused", "it refuses a first checkpoint"))
            }
        }
    }

    /// The witness saw more than the log had when it was asked: another home may have been faster, or the log was longer once.
    async fn beyond(&self, size: u64) -> Verdict {
        match self.shared.log.status().await {
            Ok(now) if now.head.size >= size => {
                Verdict::Trouble(Trouble::new("overtaken", "another home was faster"))
            }
            Ok(now) => Verdict::Contradiction(format!(
                "it saw {size} leaves of this log, which has {}: the log was rolled back or rewritten",
                now.head.size
            )),
            Err(error) => Verdict::Trouble(Trouble::new("log", error.to_string())),
        }
    }

    /// Checks a cosignature.
    fn believe(&self, lines: &str, status: &Status) -> Verdict {
        match self.cosigner.check(&status.head.text(), lines) {
            Ok(cosigned) => {
                let now = u64::try_from(self.shared.clock.now().0.div_euclid(1_000)).unwrap_or_default();
                if cosigned.time.abs_diff(now) > CLOCKS_APART {
                    let why = format!("its time is {} s, here it is {now} s", cosigned.time);
                    return Verdict::Refused("time", why);
                }
                Verdict::Cosigned(cosigned)
            }
            Err(error) => {
                let reason = match error {
                    CosignatureError::Form => "form",
                    CosignatureError::OtherKey => "other_key",
                    CosignatureError::Signature => "signature",
                };
                Verdict::Refused(reason, error.to_string())
            }
        }
    }

    /// Keeps what came of asking about this head at this time.
    async fn settle(
        &self,
        fence: Fence,
        row: WitnessRow,
        (status, asked_at): (&Status, Timestamp),
        verdict: Verdict,
    ) -> Attempt {
        let (name, metrics, now) = (row.name.clone(), &self.shared.metrics, self.shared.clock.now());
        let resource = format!("witness:{name}");
        let about = [("origin", status.head.origin.clone()), ("size", status.head.size.to_string())];
        match verdict {
            Verdict::Cosigned(cosigned) => {
                let well = WitnessRow {
                    origin: status.head.origin.clone(),
                    size: status.head.size,
                    at: now,
                    time: cosigned.time,
                    cause: String::new(),
                    trouble: String::new(),
                    since: Timestamp::default(),
                    ..row
                };
                if !self.publish(fence, &well, status, &cosigned.line).await {
                    return Attempt::Failed;
                }
                // Whatever came meanwhile is news again.
                self.shared.standing.note(&name, |standing| standing.behind_since = None);
                metrics.cosigned.with_label_values(&[&name]).inc();
                // What the log grew by while this witness was asked is as old as the question at most: one that is slow, and
                // cosigns all the same, is not missed.
                self.shared.standing.note(&name, |standing| {
                    standing.behind_since = standing.behind_since.map(|_| asked_at);
                });
                if !row.cause.is_empty() {
                    info!(witness = name, "the witness cosigns again");
                }
                Attempt::Cosigned
            }
            Verdict::Contradiction(why) => {
                // On record first: it is the one thing that must not be missed, and may be there twice.
                error!(
                    witness = name,
                    why, "a witness remembers another history of the platform log: it is sent nothing more"
                );
                if !self.shared.teller.critical("witness.contradicted", &resource, &why, &about).await {
                    return Attempt::Failed;
                }
                self.keep(fence, WitnessRow { contradiction: Some(why), ..row }).await;
                Attempt::Contradicts
            }
            Verdict::Refused(reason, why) => {
                metrics.refused.with_label_values(&[name.as_str(), reason]).inc();
                let new = row.cause != reason;
                if new {
                    warn!(witness = name, reason, why, "a cosignature is not believed");
                    self.shared.teller.alert("witness.refused", &resource, &why, &about).await;
                }
                let refused = row.refused + 1;
                self.failing(fence, WitnessRow { refused, ..row }, reason, why).await
            }
            Verdict::Trouble(Trouble { cause, why }) => {
                metrics.failures.with_label_values(&[name.as_str(), cause]).inc();
                self.failing(fence, row, cause, why).await
            }
            Verdict::From(_) => Attempt::Failed,
        }
    }

    /// Keeps why it does not cosign, when that is new.
    async fn failing(&self, fence: Fence, row: WitnessRow, cause: &str, why: String) -> Attempt {
        if row.cause != cause || row.trouble != why {
            let since = if row.cause.is_empty() { self.shared.clock.now() } else { row.since };
            warn!(witness = row.name, cause, why, "the witness does not cosign; tried again until it does");
            self.keep(fence, WitnessRow { cause: cause.into(), trouble: why, since, ..row }).await;
        }
        Attempt::Failed
    }

    async fn keep(&self, fence: Fence, row: WitnessRow) {
        let kept = self.shared.store.run(|tx| {
            let row = row.clone();
            Box::pin(async move {
                fence.check(tx).await?;
                row.put(tx).await
            })
        });
        if let Err(error) = kept.await {
            warn!(%error, witness = row.name, "what a witness did is not kept");
        }
    }

    async fn publish(&self, fence: Fence, row: &WitnessRow, status: &Status, line: &str) -> bool {
        let Shared { store, cosigners, quorum, .. } = &self.shared;
        let is_quorate =
            |note: &str| cosigners.iter().filter(|key| key.open(note).is_ok()).count() >= *quorum;
        let is_quorate = &is_quorate;
        let published = store.run_borrowing(|tx| {
            Box::pin(async move {
                row.put(tx).await?;
                cosign(tx, fence, &status.note, line, is_quorate).await
            })
        });
        match published.await {
            Ok(()) => true,
            Err(error) => {
                warn!(%error, witness = row.name, "a cosignature is not kept");
                false
            }
        }
    }
}
