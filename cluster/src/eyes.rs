use std::time::Duration;

use aesp_proto::{Incarnation, Timestamp};

use crate::{MemberState, clocks::Clocks, look::View, observer::Observer, rows::NodeRow};

/// What this node has seen of the others over time: whether they renew their leases, and what their clocks show.
#[derive(Debug, Default)]
pub(crate) struct Eyes {
    pub(crate) observer: Observer,
    pub(crate) clocks: Clocks,
}

impl Eyes {
    /// Notes a look that ended at `now`.
    pub(crate) fn see(&mut self, view: &View, now: Duration) {
        let lives = |node: Incarnation| view.nodes.contains_key(&node);
        self.observer.retain(lives);
        self.clocks.retain(lives);
        for (node, seen) in &view.nodes {
            let row = seen.row.as_ref();
            let renewed = self.observer.look(*node, &seen.bytes, row.map(NodeRow::lease), now);
            // A row that was there before the first look may be as old as it likes.
            if let Some(row) = row.filter(|_| renewed) {
                self.clocks.read(*node, row.wall, now);
            }
        }
    }

    /// Returns how far this node's clock is ahead of the median of the members'. A node that is joining is none yet, so that a
    /// wrong clock harms nobody else.
    pub(crate) fn skew_ms(
        &self,
        view: &View,
        own: Option<Incarnation>,
        wall: Timestamp,
        now: Duration,
    ) -> i64 {
        let members =
            view.rows().filter(|(node, row)| Some(*node) != own && row.state != MemberState::Joining);
        -self.clocks.median_ms(members.map(|(node, _)| node), own.is_some(), wall, now)
    }
}
