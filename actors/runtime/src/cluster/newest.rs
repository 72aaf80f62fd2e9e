use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use aesp_proto::{
    ConnectionId, Incarnation, Timestamp,
    v1::{RuntimeConnected, runtimes_tell::Tell},
};
use tracing::info;

use crate::{actor::Message, link::Link, shared::Shared, state::Farewell};

/// How long the older of two connections of one Runtime may take to finish its calls.
const GRACE: Duration = Duration::from_secs(30);

/// Sends the older connections of the same Runtime away, here and at the peers. Called when the connection has begun to fulfil
/// something, so that nothing is missing in between. Processes that say that they are different ones share an id as replicas,
/// and all stay; those that don't say are taken for one.
pub(crate) fn newest(shared: &Arc<Shared>, link: &Arc<Link>) {
    let Some(word) = word(link) else { return };
    for other in rivals(shared, &word).into_iter().filter(|other| other.id != link.id) {
        // Both may see each other at once: they agree on which is the older.
        let older = if (other.started, other.id) < (link.started, link.id) { &other } else { link };
        send_away(older);
    }
    shared.cluster.connected(word);
}

/// Hears of a connection to a peer. Both nodes compare the same figures, so that one connection stays.
pub(super) fn elsewhere(shared: &Arc<Shared>, from: Incarnation, theirs: &RuntimeConnected) {
    let Ok(id) = ConnectionId::from_slice(&theirs.connection_id) else { return };
    for own in rivals(shared, theirs) {
        if (own.connected_at, own.id) < (Timestamp(theirs.connected_at_ms), id) {
            send_away(&own);
        } else if let Some(word) = word(&own) {
            shared.cluster.tell(from, Tell::Connected(word));
        }
    }
}

/// Returns what a new peer must hear of this node's connections.
pub(super) fn serving(shared: &Shared) -> Vec<RuntimeConnected> {
    let offers = |link: &Link| link.offered.load(Ordering::Acquire) && !link.draining.load(Ordering::Acquire);
    shared.select(offers).iter().filter_map(|link| word(link)).collect()
}

fn rivals(shared: &Shared, word: &RuntimeConnected) -> Vec<Arc<Link>> {
    shared.select(|link| {
        link.offered.load(Ordering::Acquire)
            && !link.draining.load(Ordering::Acquire)
            && !link.closed.load(Ordering::Acquire)
            && is_of(link, word)
    })
}

/// Tells whether the connection may be of the same process of the same Runtime.
fn is_of(link: &Link, word: &RuntimeConnected) -> bool {
    let terms = link.terms.load();
    let Some(terms) = (**terms).as_ref() else { return false };
    let instance = terms.instance.as_deref().unwrap_or_default();
    terms.registration.runtime_id == word.runtime_id
        && (instance == word.instance || instance.is_empty() || word.instance.is_empty())
}

fn send_away(link: &Link) {
    info!(connection = %link.id, "the runtime has a newer connection, this one is told to leave");
    let reason = "the Runtime has connected again; the newer connection stays".to_owned();
    link.tell(Message::Drain(Farewell { reason, grace: GRACE, serve: false }));
}

fn word(link: &Link) -> Option<RuntimeConnected> {
    let terms = link.terms.load();
    let terms = (**terms).as_ref()?;
    Some(RuntimeConnected {
        runtime_id: terms.registration.runtime_id.clone(),
        instance: terms.instance.clone().unwrap_or_default(),
        connection_id: link.id.as_bytes().to_vec(),
        connected_at_ms: link.connected_at.0,
    })
}
