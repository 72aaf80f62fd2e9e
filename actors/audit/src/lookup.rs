//! Looks for the events of receipts in an export, also in one that does not verify: what is missing is to be named all the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::BufRead,
};

use aesp_merkle::{Hash, leaf_hash};
use aesp_proto::{EventId, TenantId, Timestamp, v1::AuditLeaf};
use prost::Message;

use crate::{
    PublicKey,
    line::Line,
    verify::{Broken, Trust, read_line},
};

/// What an export says of some events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// Whose log it is.
    pub tenant: TenantId,
    /// When it was exported.
    pub exported_at: Timestamp,
    /// The keys that may have signed its batches, as far as they are trusted; without trusted keys all that it names.
    pub keys: Vec<PublicKey>,
    /// The events that were looked for and are there, with the hashes of their leaves.
    pub found: BTreeMap<EventId, BTreeSet<Hash>>,
}

/// Looks for events. Only the header is verified: [`verify_with`](crate::verify_with) tells whether to believe the rest.
///
/// # Errors
/// [`Broken`] if the header is not one of an export, or the keys are not trusted; or if the file can't be read.
pub fn look_up(
    mut export: impl BufRead,
    trust: &Trust,
    events: &BTreeSet<EventId>,
) -> Result<Lookup, Broken> {
    let mut line = Vec::new();
    read_line(&mut export, &mut line, 1)?;
    let (header, keys) = crate::verify::header(&line, trust)?;
    let mut found: BTreeMap<EventId, BTreeSet<Hash>> = BTreeMap::new();
    for number in 2.. {
        read_line(&mut export, &mut line, number)?;
        if line.is_empty() {
            break;
        }
        let Ok(Line::<serde::de::IgnoredAny>::Event(event)) = serde_json::from_slice(&line) else { continue };
        let Ok(leaf) = AuditLeaf::decode(event.leaf.0.as_slice()) else { continue };
        if let Ok(id) = EventId::from_slice(&leaf.event_id)
            && events.contains(&id)
        {
            found.entry(id).or_default().insert(leaf_hash(&event.leaf.0));
        }
    }
    Ok(Lookup { tenant: header.tenant, exported_at: header.exported_at_ms, keys, found })
}
