use std::io::{self, BufReader, Read};

use aesp_audit::{Broken, Export, Report, verify};
use aesp_proto::{Clock, TenantId};
use aesp_storage::Store;
use aesp_transparency::LogKeys;
use bytes::{Buf, Bytes};
use tokio::{sync::mpsc, task::spawn_blocking};

use super::Error;

/// Parts of an export that wait for the verifier.
const AHEAD: usize = 4;
/// Tenants that are listed at once.
const TENANTS_AT_ONCE: usize = 256;

/// What the audit logs of a store hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Logs {
    pub(crate) tenants: u64,
    pub(crate) events: u64,
}

/// Exports the log of every tenant and verifies the export, as anybody could offline.
///
/// # Errors
/// [`Error::Log`] with the first that does not verify; the store's.
pub(super) async fn check(
    store: &Store,
    clock: &dyn Clock,
    told: &mut (dyn FnMut(Logs) + Send),
) -> Result<Logs, Error> {
    let (mut last, mut logs) = (None, Logs::default());
    loop {
        let tenants = store.run(move |tx| Box::pin(tx.tenants_with_rows(last, TENANTS_AT_ONCE))).await?;
        let Some(end) = tenants.last().copied() else { return Ok(logs) };
        for tenant in tenants {
            logs.events += of(store, clock, tenant).await?.events;
            logs.tenants += 1;
            told(logs);
        }
        last = Some(end);
    }
}

async fn of(store: &Store, clock: &dyn Clock, tenant: TenantId) -> Result<Report, Error> {
    let mut export = Export::open(store, clock, tenant).await?;
    if let Some(seals) = store.run(|tx| Box::pin(LogKeys::seals(tx))).await? {
        export = export.with_seals(&seals)?;
    }
    let (parts, read) = mpsc::channel(AHEAD);
    let verifying =
        spawn_blocking(move || verify(BufReader::new(Parts { parts: read, left: Bytes::new() }), &[]));
    while let Some(part) = export.next().await? {
        // A verifier that is gone has found what is wrong.
        if parts.send(part).await.is_err() {
            break;
        }
    }
    drop(parts);
    let cut = |error: tokio::task::JoinError| Broken {
        line: 0,
        event: None,
        sequence: None,
        why: format!("the verification was cut off: {error}"),
    };
    let verified = verifying.await.unwrap_or_else(|error| Err(cut(error)));
    verified.map_err(|broken| Error::Log { tenant, broken })
}

/// Reads what another task sends.
struct Parts {
    parts: mpsc::Receiver<Bytes>,
    left: Bytes,
}

impl Read for Parts {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.left.is_empty() {
            match self.parts.blocking_recv() {
                Some(part) => self.left = part,
                None => return Ok(0),
            }
        }
        let count = out.len().min(self.left.len());
        self.left.copy_to_slice(&mut out[..count]);
        Ok(count)
    }
}
