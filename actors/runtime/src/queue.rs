use std::collections::{BTreeMap, HashMap, VecDeque};

use aesp_proto::{DispatchId, TenantId};

use crate::Priority;

/// How many bytes of arguments weigh as much as a call itself.
const BYTES_PER_UNIT: usize = 4096;
/// What a tenant may send in its turn, in units.
const QUANTUM: u64 = 1;

/// Bounds of a queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) total: usize,
    pub(crate) per_tenant: usize,
    pub(crate) bytes: usize,
}

/// The queue has no place for this tenant's call.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// Finds a waiting call again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    tenant: TenantId,
    place: (Priority, u64),
}

/// Calls that wait for credits: tenants take turns by deficit round robin, whatever their calls' size; within a tenant the
/// urgent go first, then the oldest.
///
/// Source: Shreedhar and Varghese, "Efficient Fair Queuing using Deficit Round Robin", 1995.
#[derive(Debug)]
pub(crate) struct Queue {
    bounds: Bounds,
    tenants: HashMap<TenantId, Waiting>,
    ring: VecDeque<TenantId>,
    len: usize,
    bytes: usize,
    next: u64,
}

#[derive(Debug, Default)]
struct Waiting {
    calls: BTreeMap<(Priority, u64), (DispatchId, usize)>,
    deficit: u64,
    /// Whether the tenant has its quantum for the turn that it is in.
    in_turn: bool,
}

impl Queue {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self { bounds, tenants: HashMap::new(), ring: VecDeque::new(), len: 0, bytes: 0, next: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn push(
        &mut self,
        tenant: TenantId,
        priority: Priority,
        id: DispatchId,
        bytes: usize,
    ) -> Result<Ticket, Full> {
        if self.len >= self.bounds.total || self.bytes.saturating_add(bytes) > self.bounds.bytes {
            return Err(Full);
        }
        if self.tenants.get(&tenant).is_some_and(|waiting| waiting.calls.len() >= self.bounds.per_tenant) {
            return Err(Full);
        }
        let ring = &mut self.ring;
        let waiting = self.tenants.entry(tenant).or_insert_with(|| {
            ring.push_back(tenant);
            Waiting::default()
        });
        let place = (priority, self.next);
        self.next += 1;
        waiting.calls.insert(place, (id, bytes));
        self.len += 1;
        self.bytes += bytes;
        Ok(Ticket { tenant, place })
    }

    /// Takes a call out of the queue, wherever it is.
    pub(crate) fn remove(&mut self, ticket: Ticket) {
        let Some(waiting) = self.tenants.get_mut(&ticket.tenant) else { return };
        let Some((_, bytes)) = waiting.calls.remove(&ticket.place) else { return };
        self.len -= 1;
        self.bytes -= bytes;
        if waiting.calls.is_empty() {
            self.tenants.remove(&ticket.tenant);
            self.ring.retain(|tenant| *tenant != ticket.tenant);
        }
    }

    /// Takes the call whose turn it is.
    pub(crate) fn pop(&mut self) -> Option<DispatchId> {
        loop {
            let tenant = *self.ring.front()?;
            let alone = self.ring.len() == 1;
            let waiting = self.tenants.get_mut(&tenant).expect("a tenant in the ring has calls");
            if !waiting.in_turn {
                waiting.in_turn = true;
                waiting.deficit += QUANTUM;
            }
            let (&place, &(id, bytes)) =
                waiting.calls.first_key_value().expect("a tenant in the ring has calls");
            let cost = 1 + (bytes / BYTES_PER_UNIT) as u64;
            if alone {
                waiting.deficit = 0;
                waiting.in_turn = false;
            } else if cost > waiting.deficit {
                waiting.in_turn = false;
                self.ring.rotate_left(1);
                continue;
            } else {
                waiting.deficit -= cost;
            }
            self.remove(Ticket { tenant, place });
            return Some(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WIDE: Bounds = Bounds { total: 10_000, per_tenant: 10_000, bytes: usize::MAX };

    fn tenant(n: u8) -> TenantId {
        TenantId::from_bytes([n; 16])
    }

    fn call(tenant: u8, n: u64) -> DispatchId {
        let mut bytes = [tenant; 16];
        bytes[8..].copy_from_slice(&n.to_be_bytes());
        DispatchId::from_bytes(bytes)
    }

    proptest! {
        #[test]
        fn a_tenant_waits_for_at_most_the_turns_of_the_others(
            backlog in 1_usize..200,
            others in 1_u8..10,
            priority in prop_oneof![Just(Priority::High), Just(Priority::Low)],
        ) {
            let mut queue = Queue::new(WIDE);
            for other in 1..=others {
                for n in 0..backlog {
                    queue.push(tenant(other), Priority::High, call(other, n as u64), 0).expect("wide");
                }
            }
            queue.push(tenant(0), priority, call(0, 0), 0).expect("wide");
            let before = (0..).position(|_| queue.pop() == Some(call(0, 0))).expect("endless");
            prop_assert!(before <= usize::from(others), "waited for {before} calls of {others} tenants");
        }

        #[test]
        fn tenants_share_bytes_and_not_calls(large in 8_usize..64) {
            let mut queue = Queue::new(WIDE);
            for n in 0..100 {
                queue.push(tenant(1), Priority::Normal, call(1, n), large * BYTES_PER_UNIT).expect("wide");
                queue.push(tenant(2), Priority::Normal, call(2, n), 0).expect("wide");
            }
            let mut small = 0;
            while queue.pop().expect("full") != call(1, 0) {
                small += 1;
            }
            prop_assert!(small >= large, "{small} small calls before one of weight {large}");
        }

        #[test]
        fn what_is_counted_is_what_waits(steps in prop::collection::vec((0_u8..4, 0_usize..9_000, any::<bool>()), 0..200)) {
            let mut queue = Queue::new(Bounds { total: 20, per_tenant: 8, bytes: 60_000 });
            let mut tickets = Vec::new();
            let mut waiting = std::collections::HashSet::new();
            for (n, (who, bytes, take)) in steps.into_iter().enumerate() {
                let id = call(who, n as u64);
                if take {
                    match queue.pop() {
                        Some(id) => prop_assert!(waiting.remove(&id)),
                        None => prop_assert!(waiting.is_empty()),
                    }
                } else if bytes % 7 == 0 && !tickets.is_empty() {
                    let (id, ticket) = tickets.swap_remove(bytes % tickets.len());
                    queue.remove(ticket);
                    waiting.remove(&id);
                } else if let Ok(ticket) = queue.push(tenant(who), Priority::Normal, id, bytes) {
                    tickets.push((id, ticket));
                    waiting.insert(id);
                }
                prop_assert_eq!(queue.len(), waiting.len());
                prop_assert!(queue.len() <= 20);
            }
        }
    }

    #[test]
    fn urgent_calls_of_a_tenant_go_before_its_own_others() {
        let mut queue = Queue::new(WIDE);
        queue.push(tenant(1), Priority::Low, call(1, 1), 0).expect("wide");
        queue.push(tenant(1), Priority::High, call(1, 2), 0).expect("wide");
        assert_eq!([queue.pop(), queue.pop(), queue.pop()], [Some(call(1, 2)), Some(call(1, 1)), None]);
    }
}
