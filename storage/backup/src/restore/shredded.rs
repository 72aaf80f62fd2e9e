//! Keys that were destroyed stay destroyed: who destroys a tenant's keys wants its data gone, also from what is restored.

use std::collections::BTreeSet;

use aesp_proto::TenantId;
use aesp_storage::{Change, JournalRecord, Kind, encode_changes, row_key};
use bytes::Bytes;
use futures::TryStreamExt;

use super::segments_of;
use crate::{
    Error, Version,
    archive::{LineState, Overview, Shared},
};

impl Shared {
    /// Returns the tenants whose keys are destroyed in what the archive has after `version` of `line`, and what of that could
    /// not be read.
    pub(super) async fn destroyed_after(
        &self,
        overview: &Overview,
        line: &LineState,
        version: Version,
    ) -> (Vec<TenantId>, Option<String>) {
        let mut destroyed = Destroyed::default();
        for later in overview.lines.iter().filter(|later| later.line >= line.line) {
            let seen = self.see_line(later, version, &mut destroyed).await;
            if let Some(unread) = seen.err().map(|error| error.to_string()).or(later.broken.clone()) {
                return (destroyed.0.into_iter().collect(), Some(unread));
            }
        }
        (destroyed.0.into_iter().collect(), None)
    }

    async fn see_line(
        &self,
        line: &LineState,
        after: Version,
        destroyed: &mut Destroyed,
    ) -> Result<(), Error> {
        let segments = segments_of(line, after)?;
        let mut followed = self.follow(line, &segments);
        while let Some((_, records, _)) = followed.try_next().await? {
            for record in records.iter().filter(|record| record.version > after.0) {
                destroyed.see(record)?;
            }
        }
        Ok(())
    }
}

/// The tenants whose keys were destroyed, up to the last record that was seen.
#[derive(Default)]
struct Destroyed(BTreeSet<TenantId>);

impl Destroyed {
    fn see(&mut self, record: &JournalRecord) -> Result<(), Error> {
        for change in record.changes()? {
            match change {
                Change::Clear { key } => self.0.extend(tenant_of(key)),
                // Drawn anew, which the store allows only after they were destroyed: the old ones are gone all the same.
                Change::Set { .. } | Change::ClearRange { .. } => {}
            }
        }
        Ok(())
    }
}

fn tenant_of(key: &[u8]) -> Option<TenantId> {
    let (tenant, rest) = key.split_first_chunk::<16>()?;
    (rest == Kind::TENANT_KEYS.to_bytes()).then(|| TenantId::from_bytes(*tenant))
}

/// Returns the changes that remove the keys of these tenants.
pub(super) fn without_keys(tenants: &[TenantId]) -> Bytes {
    let keys: Vec<_> = tenants.iter().map(|tenant| row_key(*tenant, Kind::TENANT_KEYS, &[])).collect();
    encode_changes(keys.iter().map(|key| Change::Clear { key })).into()
}
