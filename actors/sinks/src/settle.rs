//! Noting what a sink has settled.

use std::collections::HashMap;

use aesp_cluster::Fence;
use aesp_proto::{Clock, TenantId};
use aesp_storage::{Blind, Error as StoreError, Store, Transaction};

use crate::{
    rows::{CursorRow, DeadLetterRow},
    state::{Cursor, Settled},
};

/// What was noted.
#[derive(Debug)]
pub(crate) struct Noted {
    /// Tenants whose home has moved since these fences; nothing of them was noted.
    pub(crate) lost: Vec<(TenantId, Fence)>,
}

/// Moves the cursors on and puts the refused events aside, in one transaction under the fences of the tenants' homes.
///
/// # Errors
/// The store's.
pub(crate) async fn settle(
    store: &Store,
    clock: &dyn Clock,
    sink: Blind,
    settled: &Settled,
) -> Result<Noted, StoreError> {
    let now = clock.now();
    let mut lost: HashMap<TenantId, Fence> = HashMap::new();
    loop {
        let kept = |tenant: TenantId| !lost.contains_key(&tenant);
        let cursors: Vec<Cursor> =
            settled.cursors.iter().filter(|cursor| kept(cursor.tenant)).cloned().collect();
        let refused: Vec<_> =
            settled.refused.iter().filter(|refusal| kept(refusal.tenant)).cloned().collect();
        let noted = store.run(move |tx| {
            let (cursors, refused) = (cursors.clone(), refused.clone());
            Box::pin(async move {
                for cursor in &cursors {
                    cursor.fence.check(tx).await?;
                    let dead = refused.iter().filter(|refusal| refusal.tenant == cursor.tenant).count();
                    move_on(tx, sink, cursor, dead as u64).await?;
                }
                for refusal in &refused {
                    let row = DeadLetterRow { event: refusal.event, why: refusal.why.clone(), at: now };
                    match tx.put(refusal.tenant, &(sink, refusal.position), &row).await {
                        // Of a deleted tenant nothing can be kept any more.
                        Err(StoreError::KeyDestroyed { .. }) => {}
                        other => other?,
                    }
                }
                Ok::<_, StoreError>(())
            })
        });
        match noted.await {
            Ok(()) => return Ok(Noted { lost: lost.into_iter().collect() }),
            Err(StoreError::Fenced { shard, .. }) => {
                let before = lost.len();
                let gone = settled.cursors.iter().filter(|cursor| cursor.fence.shard() == shard);
                lost.extend(gone.map(|cursor| (cursor.tenant, cursor.fence)));
                if lost.len() == before {
                    return Err(StoreError::unavailable("a shard that no cursor is in is fenced"));
                }
            }
            Err(error) => return Err(error),
        }
    }
}

async fn move_on(tx: &Transaction, sink: Blind, cursor: &Cursor, dead: u64) -> Result<(), StoreError> {
    let row = tx.get::<CursorRow>(cursor.tenant, &sink).await?.unwrap_or_default();
    if row.position >= cursor.position {
        // Another home was here meanwhile.
        return Ok(());
    }
    let row = CursorRow {
        position: cursor.position,
        at: cursor.at,
        taken: row.taken + cursor.taken,
        refused: row.refused + dead,
    };
    tx.put(cursor.tenant, &sink, &row).await
}
