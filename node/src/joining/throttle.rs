use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// One attempt is let through in this time,
const INTERVAL: Duration = Duration::from_secs(1);
/// and so many more at once after a pause.
const BURST: u32 = 20;
/// Networks that are told apart; all others share one allowance.
const NETWORKS: usize = 1_024;

/// Bounds how often strangers may try to join, by the network that they come from.
#[derive(Default)]
pub(super) struct Throttle(Mutex<HashMap<Option<IpAddr>, Instant>>);

impl Throttle {
    /// Lets an attempt through, or says when to try again.
    pub(super) fn admit(&self, from: Option<IpAddr>, now: Instant) -> Result<(), Duration> {
        let mut networks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut network = from.map(network);
        if networks.len() >= NETWORKS && !networks.contains_key(&network) {
            // Those whose allowance is whole again are as good as never seen.
            networks.retain(|_, spent_until| *spent_until > now);
            if networks.len() >= NETWORKS {
                network = None;
            }
        }
        let spent_until = networks.entry(network).or_insert(now);
        let begins = (*spent_until).max(now);
        let ahead = begins.duration_since(now);
        if ahead > INTERVAL * BURST {
            return Err(ahead - INTERVAL * BURST);
        }
        *spent_until = begins + INTERVAL;
        Ok(())
    }
}

fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits() & (u32::MAX << 8)).into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: [u8; 4]) -> Option<IpAddr> {
        Some(IpAddr::from(address))
    }

    #[test]
    fn a_network_has_a_burst_and_then_one_attempt_a_second() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        let through = (0..100_u8).filter(|last| throttle.admit(at([10, 0, 0, *last]), now).is_ok()).count();
        assert_eq!(through, BURST as usize + 1);
        let wait = throttle.admit(at([10, 0, 0, 9]), now).unwrap_err();
        assert!(wait <= INTERVAL, "{wait:?}");
        assert!(throttle.admit(at([10, 0, 0, 9]), now + wait).is_ok());
        assert!(throttle.admit(at([10, 0, 1, 9]), now).is_ok(), "another network has its own");
    }

    #[test]
    fn memory_is_bounded_and_what_is_too_many_shares_one_allowance() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        let mut through = 0;
        for number in 0..5_000_u32 {
            let [_, a, b, c] = number.to_be_bytes();
            through += usize::from(throttle.admit(at([a, b, c, 1]), now).is_ok());
        }
        let kept = throttle.0.lock().unwrap().len();
        assert!(kept <= NETWORKS + 1, "{kept}");
        assert!(through <= NETWORKS + BURST as usize + 1, "{through}");
        let later = now + INTERVAL * (BURST + 2);
        assert!(throttle.admit(at([200, 1, 1, 1]), later).is_ok());
        assert!(throttle.0.lock().unwrap().len() < 5);
    }
}
