//! What one peer fulfils, as far as it has told. No I/O, clock or randomness.

use std::collections::HashMap;

use aesp_proto::v1::{Fulfilment, FulfilmentChange, FulfilmentTable};
use tokio::time::Instant;

use super::fulfilment::{Figures, MAX_ROWS, from_wire};
use crate::offers::Offer;

/// Whether something that the peer told before has not arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    InOrder,
    /// Ask for the whole table.
    Missed,
}

/// A row of a peer's table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seat {
    pub(crate) figures: Figures,
    /// How many calls of this node's own the figures include.
    pub(crate) own_before: u32,
    /// Until when calls are given to others: it has just refused one.
    pub(crate) avoid_until: Option<Instant>,
}

/// A peer's table. Tells may be lost, come twice, or in another order.
#[derive(Debug, Default)]
pub(crate) struct Followed {
    /// The version that `rows` are of; none before the first whole table.
    version: Option<u64>,
    rows: HashMap<Offer, Seat>,
    /// A whole table of which parts are missing: its version, the next part, and what came.
    arriving: Option<(u64, u32, HashMap<Offer, Seat>)>,
}

impl Followed {
    pub(crate) fn rows(&self) -> &HashMap<Offer, Seat> {
        &self.rows
    }

    pub(crate) fn seat(&mut self, offer: &Offer) -> Option<&mut Seat> {
        self.rows.get_mut(offer)
    }

    /// Takes what changed from one version to the next.
    pub(crate) fn change(&mut self, change: FulfilmentChange, own: u32) -> Heard {
        match self.version {
            Some(version) if change.version <= version => Heard::InOrder,
            Some(version) if change.version == version + 1 => {
                self.version = Some(change.version);
                insert(&mut self.rows, change.rows, own);
                Heard::InOrder
            }
            _ => Heard::Missed,
        }
    }

    /// Takes the word which version is the current one.
    pub(crate) fn current(&self, version: u64) -> Heard {
        if self.version.is_some_and(|known| known >= version) { Heard::InOrder } else { Heard::Missed }
    }

    /// Takes a part of the whole table, which replaces what is older when it is complete.
    pub(crate) fn table(&mut self, table: FulfilmentTable, own: u32) -> Heard {
        if self.version.is_some_and(|known| known >= table.version) {
            return Heard::InOrder;
        }
        let arriving = match (table.part, self.arriving.take()) {
            (0, _) => Some(HashMap::new()),
            (part, Some((version, next, rows))) if (version, next) == (table.version, part) => Some(rows),
            _ => None,
        };
        let Some(mut rows) = arriving else { return Heard::Missed };
        insert(&mut rows, table.rows, own);
        if table.last {
            self.rows = rows;
            self.version = Some(table.version);
        } else {
            self.arriving = Some((table.version, table.part + 1, rows));
        }
        Heard::InOrder
    }
}

fn insert(rows: &mut HashMap<Offer, Seat>, told: Vec<Fulfilment>, own: u32) {
    for row in told {
        // A row that can't be read is of a release that knows more; the others hold.
        let Ok((offer, figures)) = from_wire(row) else { continue };
        if figures.runtimes == 0 {
            rows.remove(&offer);
        } else if rows.len() < MAX_ROWS || rows.contains_key(&offer) {
            rows.insert(offer, Seat { figures, own_before: own, avoid_until: None });
        }
    }
}

#[cfg(test)]
#[path = "followed_tests.rs"]
mod tests;
