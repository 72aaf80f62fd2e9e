//! The keys that sign checkpoints, as verifiers see them: each but the first is handed over by the one before.

use data_encoding::BASE64;

use crate::PublicKey;

const HANDOVER_PREFIX: &str = "aesp-log-key-v1";
const NODE_KEY_PREFIX: &[u8] = b"aesp-node-key-v1\n";

/// The public half of a key that signs checkpoints, or did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogKey {
    /// Counted from 1.
    pub number: u32,
    /// Its public half.
    pub public: PublicKey,
    /// How the one before was followed by it; the first has none.
    pub handover: Option<Handover>,
}

/// The signatures of two keys, the one that ends and the one that begins, over [`handover_text`]: whoever trusts one of them may
/// trust the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handover {
    /// By the key before.
    pub by_previous: Vec<u8>,
    /// By the key itself.
    pub by_next: Vec<u8>,
}

/// Returns what both keys sign when a key follows another.
#[must_use]
pub fn handover_text(number: u32, previous: &PublicKey, next: &PublicKey) -> Vec<u8> {
    let (previous, next) = (BASE64.encode(&previous.0), BASE64.encode(&next.0));
    format!("{HANDOVER_PREFIX}\n{number}\n{previous}\n{next}\n").into_bytes()
}

/// Returns what a log key signs to certify a key that signs batches.
#[must_use]
pub fn node_key_text(key: &PublicKey) -> Vec<u8> {
    [NODE_KEY_PREFIX, &key.0].concat()
}

/// Returns the keys that sign batches whose certificates the last of the log keys signed, if trust reaches it. Who trusts no log key
/// has nothing certified by one.
pub fn certified<'c>(
    listed: &[LogKey],
    trusted: &[PublicKey],
    certificates: impl Iterator<Item = (PublicKey, &'c [u8])>,
) -> Vec<PublicKey> {
    let last = listed.last().map(|key| key.public);
    let last = last.filter(|key| !trusted.is_empty() && believed(listed, trusted).contains(key));
    let Some(certifier) = last else { return Vec::new() };
    certificates
        .filter(|(key, certificate)| certifier.verifies(&node_key_text(key), certificate))
        .map(|(key, _)| key)
        .collect()
}

/// Returns the keys that are believed: those that are trusted, and those that hand-overs connect with them. Without trusted ones all
/// that hang together with the first.
#[must_use]
pub fn believed(listed: &[LogKey], trusted: &[PublicKey]) -> Vec<PublicKey> {
    let mut believed: Vec<bool> = listed
        .iter()
        .enumerate()
        .map(|(index, key)| if trusted.is_empty() { index == 0 } else { trusted.contains(&key.public) })
        .collect();
    let linked: Vec<bool> = listed.windows(2).map(|pair| follows(&pair[0], &pair[1])).collect();
    for (index, linked) in linked.iter().enumerate() {
        believed[index + 1] |= *linked && believed[index];
    }
    for (index, linked) in linked.iter().enumerate().rev() {
        believed[index] |= *linked && believed[index + 1];
    }
    listed.iter().zip(believed).filter(|(_, believed)| *believed).map(|(key, _)| key.public).collect()
}

fn follows(previous: &LogKey, next: &LogKey) -> bool {
    let text = handover_text(next.number, &previous.public, &next.public);
    previous.number.checked_add(1) == Some(next.number)
        && next.handover.as_ref().is_some_and(|handover| {
            previous.public.verifies(&text, &handover.by_previous)
                && next.public.verifies(&text, &handover.by_next)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::NodeKey;

    fn chain() -> Vec<LogKey> {
        let pairs: Vec<_> = (1..=4_u8).map(|seed| NodeKey::from_seed(&[seed; 32]).unwrap()).collect();
        let mut chain = vec![LogKey { number: 1, public: pairs[0].public(), handover: None }];
        for (number, pair) in (2..).zip(pairs.windows(2)) {
            let text = handover_text(number, &pair[0].public(), &pair[1].public());
            let handover = Handover { by_previous: pair[0].sign(&text), by_next: pair[1].sign(&text) };
            chain.push(LogKey { number, public: pair[1].public(), handover: Some(handover) });
        }
        chain
    }

    #[test]
    fn trust_in_one_key_reaches_all_that_hand_overs_connect() {
        let chain = chain();
        let all: Vec<PublicKey> = chain.iter().map(|key| key.public).collect();
        for key in &all {
            assert_eq!(believed(&chain, &[*key]), all);
        }
        assert_eq!(believed(&chain, &[]), all);
        assert_eq!(believed(&chain, &[PublicKey([7; 32])]), []);
    }

    #[test]
    fn a_hand_over_that_one_side_did_not_sign_connects_nothing() {
        let whole = chain();
        let all: Vec<PublicKey> = whole.iter().map(|key| key.public).collect();
        let mut broken = whole.clone();
        broken[2].handover.as_mut().unwrap().by_previous[0] ^= 1;
        assert_eq!(believed(&broken, &[all[0]]), all[..2]);
        assert_eq!(believed(&broken, &[all[3]]), all[2..]);
        let mut broken = whole.clone();
        broken[2].handover.as_mut().unwrap().by_next[0] ^= 1;
        assert_eq!(believed(&broken, &[all[3]]), all[2..]);
        let mut skipping = whole;
        skipping.remove(1);
        assert_eq!(believed(&skipping, &[all[0]]), all[..1]);
    }
}
