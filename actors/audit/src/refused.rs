//! What strangers can trigger before authentication is counted, not written one by one.

use std::{
    borrow::Cow,
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Mutex, PoisonError},
};

use aesp_proto::{
    Entropy, TenantId,
    v1::{EventType, Outcome},
};

use crate::{Details, Event};

/// A failure of somebody who is not known yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Refused {
    /// Where it came from; kept as a network of 24 bits (IPv4) or 64 bits (IPv6).
    pub source_ip: Option<IpAddr>,
    /// What was tried, for example `authentication.login`.
    pub action: Cow<'static, str>,
    /// Why it failed; one of few texts, not what the stranger sent.
    pub reason: Cow<'static, str>,
    /// The tenant that was tried, if it exists.
    pub tenant: Option<TenantId>,
}

/// Exact counts of refusals since the last flush, in bounded memory: beyond `limit` sorts, the rest are counted as one.
pub(crate) struct Refusals {
    counts: Mutex<HashMap<Refused, u64>>,
    limit: usize,
}

impl Refusals {
    pub(crate) fn new(limit: usize) -> Self {
        Self { counts: Mutex::default(), limit }
    }

    /// Counts one refusal.
    pub(crate) fn observe(&self, mut refusal: Refused) {
        refusal.source_ip = refusal.source_ip.map(network);
        self.add(refusal, 1);
    }

    /// Adds to a count; also takes back what could not be written.
    pub(crate) fn add(&self, refusal: Refused, count: u64) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let full = counts.len() >= self.limit && !counts.contains_key(&refusal);
        *counts.entry(if full { other() } else { refusal }).or_default() += count;
    }

    /// Takes all counts.
    pub(crate) fn take(&self) -> HashMap<Refused, u64> {
        std::mem::take(&mut *self.counts.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Refused {
    /// Returns the event that stands for `count` such refusals.
    pub(crate) fn event(&self, entropy: &Entropy, tenant: TenantId, count: u64) -> Event {
        let action = self.action.clone();
        let mut event = Event::new(entropy, tenant, EventType::Authentication, action, Outcome::Denied);
        event.count = count;
        event.details = Details {
            source_ip: self.source_ip.map(network_text).unwrap_or_default(),
            reason: self.reason.clone().into_owned(),
            ..Details::default()
        };
        event
    }
}

/// What is counted when there are too many sorts.
fn other() -> Refused {
    let reason = Cow::Borrowed("refusals from many sources, counted together");
    Refused { source_ip: None, action: Cow::Borrowed("authentication.other"), reason, tenant: None }
}

fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits() & (u32::MAX << 8)).into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)).into(),
    }
}

fn network_text(address: IpAddr) -> String {
    let bits = if address.is_ipv4() { 24 } else { 64 };
    format!("{address}/{bits}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(address: &str, action: &'static str) -> Refused {
        Refused {
            source_ip: Some(address.parse().unwrap()),
            action: action.into(),
            reason: "unknown key".into(),
            tenant: None,
        }
    }

    #[test]
    fn neighbours_are_counted_together() {
        let refusals = Refusals::new(10);
        for address in ["192.0.2.1", "192.0.2.200", "::ffff:192.0.2.7", "2001:db8::1", "2001:db8::2:1"] {
            refusals.observe(refused(address, "login"));
        }
        let mut events: Vec<_> = refusals.take().into_iter().collect();
        events.sort_by_key(|(_, count)| *count);
        let entropy = Entropy::from_seed(1);
        let event = |i: usize| events[i].0.event(&entropy, TenantId::PLATFORM, events[i].1);
        assert_eq!((event(0).details.source_ip, event(0).count), ("2001:db8::/64".to_owned(), 2));
        assert_eq!((event(1).details.source_ip, event(1).count), ("192.0.2.0/24".to_owned(), 3));
        assert!(refusals.take().is_empty());
    }

    #[test]
    fn a_flood_of_many_sorts_is_counted_exactly_in_bounded_memory() {
        let refusals = Refusals::new(100);
        for i in 0..10_000_u32 {
            refusals.observe(refused(&Ipv4Addr::from_bits(i << 8).to_string(), "login"));
        }
        let counts = refusals.take();
        assert_eq!(counts.len(), 101);
        assert_eq!(counts.values().sum::<u64>(), 10_000);
        assert_eq!(counts[&other()], 9_900);
    }
}
