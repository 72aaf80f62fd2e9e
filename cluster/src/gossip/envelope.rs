use aesp_proto::{Incarnation, Timestamp};
use aws_lc_rs::rand;

use super::secret::{ClusterKey, MARK_BYTES, NONCE_BYTES, TAG_BYTES};

/// What UDP carries over IPv4 in one datagram.
pub(super) const LARGEST_DATAGRAM_BYTES: usize = 65_507;

const VERSION: u8 = 1;
/// Version, mark of the secret, mark of the cluster: in the clear, and authenticated.
const HEAD_BYTES: usize = 1 + 2 * MARK_BYTES;
/// Incarnation, sequence and time of the sender, before the message.
const STAMP_BYTES: usize = 8 + 8 + 8;
pub(super) const OVERHEAD_BYTES: usize = HEAD_BYTES + NONCE_BYTES + STAMP_BYTES + TAG_BYTES;

/// Who sent a datagram, as which one, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) sender: Incarnation,
    pub(super) sequence: u64,
    pub(super) sent: Timestamp,
}

impl Stamp {
    fn to_bytes(self) -> [u8; STAMP_BYTES] {
        let mut bytes = [0; STAMP_BYTES];
        bytes[..8].copy_from_slice(&self.sender.0.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.sequence.to_be_bytes());
        bytes[16..].copy_from_slice(&self.sent.0.to_be_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8; STAMP_BYTES]) -> Self {
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            word
        };
        Self {
            sender: Incarnation(u64::from_be_bytes(word(0))),
            sequence: u64::from_be_bytes(word(8)),
            sent: Timestamp(i64::from_be_bytes(word(16))),
        }
    }
}

/// Returns `version | mark of the secret | mark of the cluster | nonce | sealed(stamp | message) | tag`; the head and the
/// cluster's id are authenticated, too.
///
/// # Errors
/// A constant reason: `oversized`, or `sealing` when there is no randomness.
pub(super) fn seal(
    key: &ClusterKey,
    cluster: &str,
    stamp: Stamp,
    message: &[u8],
) -> Result<Vec<u8>, &'static str> {
    if message.len() + OVERHEAD_BYTES > LARGEST_DATAGRAM_BYTES {
        return Err("oversized");
    }
    let mut nonce = [0; NONCE_BYTES];
    rand::fill(&mut nonce).map_err(|_| "sealing")?;
    let mut out = Vec::with_capacity(message.len() + OVERHEAD_BYTES);
    out.push(VERSION);
    out.extend_from_slice(&key.secret_mark);
    out.extend_from_slice(&key.cluster_mark);
    let aad = aad(&out, cluster);
    out.extend_from_slice(&nonce);
    let body = out.len();
    out.extend_from_slice(&stamp.to_bytes());
    out.extend_from_slice(message);
    let tag = key.seal(nonce, &aad, &mut out[body..]).ok_or("sealing")?;
    out.extend_from_slice(&tag);
    Ok(out)
}

/// Opens what [`seal`] made, in place; returns the stamp and the message.
///
/// # Errors
/// A constant reason. What an unauthentic datagram says of its secret or cluster is a claim.
pub(super) fn open<'a>(
    keys: &[ClusterKey],
    cluster: &str,
    datagram: &'a mut [u8],
) -> Result<(Stamp, &'a [u8]), &'static str> {
    if datagram.len() > LARGEST_DATAGRAM_BYTES {
        return Err("oversized");
    }
    let (head, rest) = datagram.split_first_chunk_mut::<HEAD_BYTES>().ok_or("truncated")?;
    let (nonce, rest) = rest.split_first_chunk_mut::<NONCE_BYTES>().ok_or("truncated")?;
    let (body, tag) = rest.split_last_chunk_mut::<TAG_BYTES>().ok_or("truncated")?;
    if body.len() < STAMP_BYTES {
        return Err("truncated");
    }
    if head[0] != VERSION {
        return Err("unknown_version");
    }
    let (secret_mark, cluster_mark) = head[1..].split_at(MARK_BYTES);
    let key = keys.iter().find(|key| key.secret_mark == *secret_mark).ok_or("other_secret")?;
    if key.cluster_mark != *cluster_mark {
        return Err("other_cluster");
    }
    if !key.open(*nonce, &aad(head, cluster), body, *tag) {
        return Err("forged");
    }
    let (stamp, message) = body.split_first_chunk::<STAMP_BYTES>().ok_or("truncated")?;
    Ok((Stamp::from_bytes(stamp), message))
}

fn aad(head: &[u8], cluster: &str) -> Vec<u8> {
    [head, cluster.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::Secrets, *};

    const STAMP: Stamp = Stamp { sender: Incarnation(7), sequence: 9, sent: Timestamp(11) };

    fn keys(secrets: &[u8], cluster: &str) -> Vec<ClusterKey> {
        Secrets::new(secrets.iter().map(|byte| vec![*byte; 32])).unwrap().keys(cluster)
    }

    fn opened(keys: &[ClusterKey], cluster: &str, sealed: &[u8]) -> Result<(Stamp, Vec<u8>), &'static str> {
        open(keys, cluster, &mut sealed.to_vec()).map(|(stamp, message)| (stamp, message.to_vec()))
    }

    proptest! {
        #[test]
        fn what_was_sealed_opens_and_nothing_else(
            message in prop::collection::vec(any::<u8>(), 0..2_000),
            place: prop::sample::Index,
            flip in 1..=255_u8,
        ) {
            let own = keys(&[1], "blue");
            let sealed = seal(&own[0], "blue", STAMP, &message).unwrap();
            prop_assert_eq!(sealed.len(), message.len() + OVERHEAD_BYTES);
            prop_assert_eq!(opened(&own, "blue", &sealed), Ok((STAMP, message.clone())));

            let at = place.index(sealed.len());
            let mut changed = sealed.clone();
            changed[at] ^= flip;
            let expected = match at {
                0 => "unknown_version",
                1..=4 => "other_secret",
                5..=8 => "other_cluster",
                _ => "forged",
            };
            prop_assert_eq!(opened(&own, "blue", &changed), Err(expected));
            let cut = opened(&own, "blue", &sealed[..at]).unwrap_err();
            prop_assert!(cut == "truncated" || cut == "forged", "{}", cut);
            let longer = [&sealed[..], &[flip]].concat();
            prop_assert_eq!(opened(&own, "blue", &longer), Err("forged"));
            prop_assert_eq!(opened(&keys(&[2], "blue"), "blue", &sealed), Err("other_secret"));
            prop_assert_eq!(opened(&keys(&[1], "green"), "green", &sealed), Err("other_cluster"));
            // The marks are claims; the key and the authenticated data decide.
            prop_assert_eq!(opened(&own, "green", &sealed), Err("forged"));
        }

        #[test]
        fn noise_never_opens_nor_panics(mut noise in prop::collection::vec(any::<u8>(), 0..400), marked: bool) {
            let own = keys(&[1, 2], "blue");
            if marked && noise.len() >= HEAD_BYTES {
                noise[0] = VERSION;
                noise[1..5].copy_from_slice(&own[1].secret_mark);
                noise[5..9].copy_from_slice(&own[1].cluster_mark);
            }
            prop_assert!(open(&own, "blue", &mut noise).is_err());
        }

        #[test]
        fn while_a_secret_is_rotated_old_and_new_nodes_hear_each_other(message: Vec<u8>) {
            let (old, both, new) = (keys(&[1], "c"), keys(&[2, 1], "c"), keys(&[2], "c"));
            let by_old = seal(&old[0], "c", STAMP, &message).unwrap();
            let by_both = seal(&both[0], "c", STAMP, &message).unwrap();
            prop_assert!(opened(&both, "c", &by_old).is_ok());
            prop_assert!(opened(&new, "c", &by_both).is_ok());
            prop_assert_eq!(opened(&new, "c", &by_old), Err("other_secret"));
        }
    }

    #[test]
    fn a_message_fills_a_datagram_and_no_more() {
        let own = keys(&[1], "blue");
        let largest = vec![0; LARGEST_DATAGRAM_BYTES - OVERHEAD_BYTES];
        assert_eq!(seal(&own[0], "blue", STAMP, &largest).unwrap().len(), LARGEST_DATAGRAM_BYTES);
        assert_eq!(seal(&own[0], "blue", STAMP, &[&largest[..], &[0]].concat()), Err("oversized"));
        assert_eq!(open(&own, "blue", &mut vec![0; LARGEST_DATAGRAM_BYTES + 1]), Err("oversized"));
    }

    #[test]
    fn short_secrets_are_refused_and_none_is_shown() {
        assert!(Secrets::new([vec![1; 31]]).is_none());
        assert!(Secrets::new([]).is_none());
        let secrets = Secrets::new([b"a secret that nobody should see!".to_vec()]).unwrap();
        assert_eq!(format!("{secrets:?}"), "Secrets(1)");
    }
}
