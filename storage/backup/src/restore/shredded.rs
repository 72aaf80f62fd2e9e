//! Keys that were destroyed stay destroyed: who destroys a tenant's keys wants its data gone, also from what is restored.

use std::collections::BTreeSet;

use aesp_proto::TenantId;
use aesp_storage::{Change, JournalRecord, Kind, encode_changes};
use bytes::Bytes;
use futures::TryStreamExt;

use super::segments_of;
use crate::{
    Error, Version,
    archive::{LineState, Overview, Shared},
};

impl Shared {
    /// Returns the keys that are destroyed in what the archive has after `version` of `line`, and what of that could not be read.
    pub(super) async fn destroyed_after(
        &self,
        overview: &Overview,
        line: &LineState,
        version: Version,
    ) -> (Destroyed, Option<String>) {
        let mut destroyed = Destroyed::default();
        for later in overview.lines.iter().filter(|later| later.line >= line.line) {
            let seen = self.see_line(later, version, &mut destroyed).await;
            if let Some(unread) = seen.err().map(|error| error.to_string()).or(later.broken.clone()) {
                return (destroyed, Some(unread));
            }
        }
        (destroyed, None)
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

/// The rows with keys that were destroyed, up to the last record that was seen.
#[derive(Default)]
pub(super) struct Destroyed(BTreeSet<Vec<u8>>);

impl Destroyed {
    /// Returns the tenants whose keys were destroyed as a whole.
    pub(super) fn tenants(&self) -> Vec<TenantId> {
        self.0.iter().filter_map(|key| tenant_of(key)).collect()
    }

    /// Returns the changes that remove the keys.
    pub(super) fn removal(&self) -> Bytes {
        encode_changes(self.0.iter().map(|key| Change::Clear { key })).into()
    }

    fn see(&mut self, record: &JournalRecord) -> Result<(), Error> {
        for change in record.changes()? {
            match change {
                Change::Clear { key } if holds_a_key(key) => drop(self.0.insert(key.to_vec())),
                // Drawn anew, which the store allows only after they were destroyed: the old ones are gone all the same.
                Change::Clear { .. } | Change::Set { .. } | Change::ClearRange { .. } => {}
            }
        }
        Ok(())
    }
}

fn tenant_of(key: &[u8]) -> Option<TenantId> {
    let (tenant, rest) = key.split_first_chunk::<16>()?;
    (rest == Kind::TENANT_KEYS.to_bytes()).then(|| TenantId::from_bytes(*tenant))
}

/// Tells whether the row holds keys that are destroyed by removing it: a tenant's, or one that seals audit events.
fn holds_a_key(key: &[u8]) -> bool {
    const OF_EVENTS: [Kind; 2] = [Kind::AUDIT_PARTITION_KEY, Kind::AUDIT_SUBJECT_KEY];
    let kind = key.get(16..18);
    tenant_of(key).is_some() || OF_EVENTS.iter().any(|of| kind == Some(&of.to_bytes()[..]))
}
