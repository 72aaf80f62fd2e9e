use std::{
    collections::BTreeMap,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use aesp_proto::{
    Entropy, Incarnation, SessionId, TenantId,
    v1::{ContractDraft, runtimes_tell::Tell},
};
use tokio::time::Instant;

use super::followed::{Followed, Heard, Seat};
use crate::{Dispatch, offers::Offer};

/// How long a node that has refused a call is spared others for the same contract.
const AVOID: Duration = Duration::from_millis(500);
/// Between two requests for a peer's whole table.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// The peers that are connected, and what their Runtimes fulfil. In memory only; a peer that goes takes its table along.
#[derive(Default)]
pub(crate) struct Elsewhere(RwLock<BTreeMap<Incarnation, Node>>);

#[derive(Default)]
struct Node {
    followed: Followed,
    /// The calls that this node has there.
    own: Arc<AtomicU32>,
    asked: Option<Instant>,
}

/// Where a call can go, if not here.
pub(crate) enum Whither {
    To(Place),
    /// Somebody fulfils it, but everybody is full.
    Full,
    Nowhere,
}

/// A peer whose Runtimes fulfil a contract. Counts as one call there until it is dropped.
pub(crate) struct Place {
    pub(crate) node: Incarnation,
    pub(crate) offer: Offer,
    own: Arc<AtomicU32>,
}

impl Place {
    fn take(node: Incarnation, offer: Offer, own: &Arc<AtomicU32>) -> Self {
        own.fetch_add(1, Ordering::Relaxed);
        Self { node, offer, own: Arc::clone(own) }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.own.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Which peers are good enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Those that would begin at once.
    Free,
    /// Those that let so many calls wait at each Runtime.
    Waiting(u32),
}

/// Those that are about to leave come last, then those without a free credit, then the far.
type Rank = (bool, bool, u8);

impl Elsewhere {
    /// Follows a peer from now on.
    pub(crate) fn up(&self, peer: Incarnation) {
        self.write().insert(peer, Node::default());
    }

    /// Forgets a peer and all that it told.
    pub(crate) fn down(&self, peer: Incarnation) {
        self.write().remove(&peer);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.read().is_empty()
    }

    pub(crate) fn peers(&self) -> Vec<Incarnation> {
        self.read().keys().copied().collect()
    }

    /// Returns how many rows are known.
    pub(crate) fn rows(&self) -> usize {
        self.read().values().map(|node| node.followed.rows().len()).sum()
    }

    /// Takes what a peer told of its table; returns whether to ask it for the whole.
    pub(crate) fn told(&self, from: Incarnation, tell: Tell, now: Instant) -> bool {
        let mut nodes = self.write();
        // What a peer told before its link was lost is of no use any more.
        let Some(node) = nodes.get_mut(&from) else { return false };
        let own = node.own.load(Ordering::Relaxed);
        let heard = match tell {
            Tell::Table(table) => node.followed.table(table, own),
            Tell::Change(change) => node.followed.change(change, own),
            Tell::Version(current) => node.followed.current(current.version),
            Tell::Resync(_) | Tell::Connected(_) | Tell::Ack(_) => Heard::InOrder,
        };
        let due = node.asked.is_none_or(|asked| now.saturating_duration_since(asked) >= ASK_AGAIN);
        let ask = heard == Heard::Missed && due;
        if ask {
            node.asked = Some(now);
        }
        ask
    }

    /// Chooses the less loaded of two random peers that fulfil the contract, among the first in rank that were not tried. `far`
    /// says how far a peer is.
    ///
    /// Source: Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001.
    pub(crate) fn route(
        &self,
        dispatch: &Dispatch,
        wanted: Wanted,
        tried: &[Incarnation],
        far: &dyn Fn(Incarnation) -> u8,
        now: Instant,
        entropy: &Entropy,
    ) -> Whither {
        let nodes = self.read();
        let offers = keys(dispatch);
        let (mut fitting, mut full) = (Vec::new(), false);
        for (incarnation, node) in nodes.iter().filter(|(incarnation, _)| !tried.contains(incarnation)) {
            let own = node.own.load(Ordering::Relaxed);
            for offer in &offers {
                let seat = node.followed.rows().get(offer).filter(|seat| fits(seat, dispatch, now));
                let Some(seat) = seat else { continue };
                match weigh(seat, own, wanted) {
                    Some((leaving, waits, each)) => {
                        let rank: Rank = (leaving, waits, far(*incarnation));
                        fitting.push((rank, each, *incarnation, offer, &node.own));
                    }
                    None => full = true,
                }
            }
        }
        let first = fitting.iter().map(|(rank, ..)| *rank).min();
        fitting.retain(|(rank, ..)| Some(*rank) == first);
        let index = |n: usize| {
            let drawn = entropy.below(n as u64);
            usize::try_from(drawn).expect("an index below a length")
        };
        if fitting.len() >= 2 {
            let first = index(fitting.len());
            fitting.swap(0, first);
            let second = 1 + index(fitting.len() - 1);
            fitting.swap(1, second);
            fitting.truncate(2);
        }
        match fitting.into_iter().min_by_key(|(_, each, ..)| *each) {
            Some((_, _, node, offer, own)) => Whither::To(Place::take(node, offer.clone(), own)),
            None if full => Whither::Full,
            None => Whither::Nowhere,
        }
    }

    /// Gives the calls for a contract to others for a while.
    pub(crate) fn avoid(&self, place: &Place, now: Instant) {
        if let Some(node) = self.write().get_mut(&place.node)
            && let Some(seat) = node.followed.seat(&place.offer)
        {
            seat.avoid_until = Some(now + AVOID);
        }
    }

    /// Returns the tools that Runtimes of other nodes registered for one session.
    pub(crate) fn development_tools(&self, tenant: TenantId, session: SessionId) -> Vec<Arc<ContractDraft>> {
        let nodes = self.read();
        let rows = nodes.values().flat_map(|node| node.followed.rows());
        let of_session =
            |offer: &Offer| offer.development && offer.tenant == tenant && offer.session == Some(session);
        rows.filter(|(offer, _)| of_session(offer))
            .filter_map(|(_, seat)| seat.figures.draft.clone())
            .collect()
    }

    /// Returns what Runtimes of other nodes fulfil for a tenant.
    pub(crate) fn tools(&self, tenant: TenantId) -> Vec<String> {
        let nodes = self.read();
        let rows = nodes.values().flat_map(|node| node.followed.rows().keys());
        rows.filter(|offer| offer.tenant == tenant).map(ToString::to_string).collect()
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<Incarnation, Node>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<Incarnation, Node>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Under which keys a table holds who may run the call.
fn keys(dispatch: &Dispatch) -> [Offer; 2] {
    let offer = |session| Offer {
        tenant: dispatch.tenant,
        name: Arc::clone(&dispatch.name),
        version: Arc::clone(&dispatch.version),
        session,
        development: dispatch.development,
    };
    [offer(None), offer(Some(dispatch.session))]
}

fn fits(seat: &Seat, dispatch: &Dispatch, now: Instant) -> bool {
    (!dispatch.streaming || seat.figures.streaming > 0) && seat.avoid_until.is_none_or(|until| until <= now)
}

/// Returns whether those of a row are about to leave, whether a call would wait there, and the calls a Runtime (in 1,024ths); or
/// nothing if it takes no more. What this node has given since the row was told counts, too.
fn weigh(seat: &Seat, own: u32, wanted: Wanted) -> Option<(bool, bool, u64)> {
    let figures = &seat.figures;
    let load = figures.load.saturating_add(own.saturating_sub(seat.own_before));
    let takes = match wanted {
        Wanted::Free => figures.credits,
        Wanted::Waiting(queue) => figures.credits.saturating_add(queue.saturating_mul(figures.runtimes)),
    };
    let leaving = figures.leaving >= figures.runtimes;
    let each = u64::from(load) * 1024 / u64::from(figures.runtimes.max(1));
    (load < takes && (wanted != Wanted::Free || !leaving)).then_some((leaving, load >= figures.credits, each))
}

#[cfg(test)]
#[path = "elsewhere_tests.rs"]
mod tests;
