use aesp_cluster::Fence;
use aesp_merkle::{Checkpoint, with_cosignature};
use aesp_proto::TenantId;
use aesp_storage::{Kind, Row, Transaction};
use serde::{Deserialize, Serialize};

use super::rows::{self, State};
use crate::{Error, LogKeys};

const PLATFORM: TenantId = TenantId::PLATFORM;

/// Newest checkpoints that are kept with what cosignatures they have: witnesses are not all as fast.
const RECENT: usize = 16;

/// The checkpoints of the platform log to which witnesses set their names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cosigned {
    /// The newest to which any did, the smallest first.
    pub(super) recent: Vec<String>,
    /// The newest to which as many did as are asked for.
    pub(super) quorate: Option<String>,
}

impl Row for Cosigned {
    const KIND: Kind = Kind::PLATFORM_LOG_COSIGNED;
    const SEALED: bool = false;
    /// The log epoch.
    type Key = u32;
}

impl Cosigned {
    pub(super) async fn of(tx: &Transaction, log_epoch: u32) -> Result<Self, Error> {
        Ok(tx.get::<Self>(PLATFORM, &log_epoch).await?.unwrap_or_default())
    }
}

/// Returns the size of a checkpoint that this log made and wrote; 0 stands for none.
pub(super) fn size_of(note: Option<&String>) -> u64 {
    note.and_then(|note| Checkpoint::glance(note)).map_or(0, |head| head.size)
}

/// Adds a cosignature, which was checked, to a checkpoint of the platform log. `is_quorate` tells of a note whether as many witnesses
/// cosigned it as are asked for.
///
/// # Errors
/// [`Error::Damaged`] if the note is not one of the log as it is now; the store's.
pub async fn cosign(
    tx: &Transaction,
    fence: Fence,
    note: &str,
    line: &str,
    is_quorate: &(dyn Fn(&str) -> bool + Send + Sync),
) -> Result<(), Error> {
    fence.check(tx).await?;
    let (log_epoch, state) = State::newest(tx).await?.ok_or(Error::Empty)?;
    let head = LogKeys::opened(tx, note).await?;
    if head.origin != rows::origin(&state.log_id) || head.size > state.size {
        return Err(Error::Damaged("a cosigned checkpoint is of another platform log".into()));
    }
    let mut kept = Cosigned::of(tx, log_epoch).await?;
    let size = |note: &String| size_of(Some(note));
    let place = kept.recent.binary_search_by_key(&head.size, size);
    let at = place.unwrap_or_else(|at| {
        kept.recent.insert(at, note.to_owned());
        at
    });
    let cosigned = with_cosignature(&kept.recent[at], line);
    if is_quorate(&cosigned) && size_of(kept.quorate.as_ref()) <= head.size {
        kept.quorate = Some(cosigned.clone());
    }
    kept.recent[at] = cosigned;
    let old = kept.recent.len().saturating_sub(RECENT);
    kept.recent.drain(..old);
    Ok(tx.put(PLATFORM, &log_epoch, &kept).await?)
}
