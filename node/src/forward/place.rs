use aesp_cluster::{Held, Ownership, Shard};
use aesp_proto::{DispatchId, Entropy, Incarnation, SessionId};
use aesp_storage::shard_of;

use super::about::About;

/// Where a request can be answered, as this node knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Here,
    There(Incarnation),
    /// Nowhere at this moment: what it is about is moving, or its owner is dead.
    Nowhere,
}

/// Returns where a request can be answered. `runs` tells whether a Runtime works on a dispatch of a session of this node: what is
/// within it is answered here also while the session leaves, for it is what the hand-over waits for.
pub(super) fn place(
    ownership: &Ownership,
    about: About,
    entropy: &Entropy,
    runs: impl Fn(SessionId, DispatchId) -> bool,
) -> Place {
    let own = ownership.own();
    match about {
        About::Nothing => Place::Here,
        About::Session(session) | About::Within(session, _) => {
            let shard = ownership.shard(shard_of(session.as_bytes()));
            match (shard.held, shard.owner) {
                (Held::Yes, _) => Place::Here,
                (Held::Leaving, _) if matches!(about, About::Within(_, within) if runs(session, within)) => {
                    Place::Here
                }
                (Held::No, Some(owner)) if owner != own => Place::There(owner),
                (Held::No | Held::Leaving, _) => Place::Nowhere,
            }
        }
        About::NewSession if ownership.holds_any() => Place::Here,
        About::NewSession => {
            let shards = ownership.shards();
            let owners: Vec<_> =
                shards.iter().filter_map(|shard| shard.owner).filter(|o| *o != own).collect();
            if owners.is_empty() {
                return Place::Nowhere;
            }
            // Who owns more shards takes more of the new sessions.
            let drawn = usize::try_from(entropy.below(owners.len() as u64)).unwrap_or_default();
            Place::There(owners[drawn])
        }
    }
}

/// What was known of a request's place when it was begun here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ground(Option<Shard>);

impl Ground {
    pub(super) fn of(ownership: &Ownership, about: About) -> Self {
        match about {
            About::Session(session) | About::Within(session, _) => {
                Self(Some(ownership.shard(shard_of(session.as_bytes()))))
            }
            About::NewSession | About::Nothing => Self(None),
        }
    }

    /// Tells whether the request has lost its place since: then that it failed says nothing about it.
    pub(super) fn is_lost(self, ownership: &Ownership, about: About) -> bool {
        match about {
            About::Session(_) => {
                let now = Self::of(ownership, about);
                now != self || now.0.is_none_or(|shard| shard.held != Held::Yes)
            }
            // It was let in while its shard left, perhaps.
            About::Within(..) => Self::of(ownership, about) != self,
            About::NewSession => !ownership.holds_any(),
            About::Nothing => false,
        }
    }

    /// Returns whose it is.
    pub(super) fn owner(self) -> Option<Incarnation> {
        self.0.and_then(|shard| shard.owner)
    }
}

#[cfg(test)]
mod tests {
    use aesp_proto::{Epoch, SessionId};

    use super::*;

    fn view(owner: Option<u64>, held: Held) -> Ownership {
        let ownership = Ownership::none(Incarnation(1));
        let shard = Shard { owner: owner.map(Incarnation), epoch: Epoch(3), held };
        ownership.replace(vec![shard; ownership.shards().len()].into());
        ownership
    }

    #[test]
    fn a_request_goes_to_the_owner_and_waits_while_there_is_none() {
        let entropy = Entropy::from_seed(1);
        let (id, dispatch) = (SessionId::from_bytes([9; 16]), DispatchId::from_bytes([8; 16]));
        let session = About::Session(id);
        let within = |dispatch| About::Within(id, dispatch);
        let place = |ownership: &Ownership, about| {
            place(ownership, about, &entropy, |session, within| (session, within) == (id, dispatch))
        };
        let cases = [
            (Some(1), Held::Yes, Place::Here, Place::Here),
            (Some(2), Held::No, Place::There(Incarnation(2)), Place::There(Incarnation(2))),
            (Some(1), Held::Leaving, Place::Nowhere, Place::Nowhere),
            (Some(1), Held::No, Place::Nowhere, Place::Nowhere),
            (None, Held::No, Place::Nowhere, Place::Nowhere),
        ];
        for (owner, held, of_session, of_new) in cases {
            let ownership = view(owner, held);
            assert_eq!(place(&ownership, session), of_session, "{owner:?} {held:?}");
            assert_eq!(place(&ownership, About::NewSession), of_new, "{owner:?} {held:?}");
            assert_eq!(place(&ownership, About::Nothing), Place::Here);
            // Within a call that runs here: also while the session leaves.
            let expected = if held == Held::Leaving { Place::Here } else { of_session };
            assert_eq!(place(&ownership, within(dispatch)), expected, "{owner:?} {held:?}");
            let over = within(DispatchId::from_bytes([7; 16]));
            assert_eq!(place(&ownership, over), of_session, "{owner:?} {held:?}");
        }
    }

    #[test]
    fn ground_is_lost_when_the_shard_leaves_moves_or_comes_back() {
        let session = About::Session(SessionId::from_bytes([9; 16]));
        let ownership = view(Some(1), Held::Yes);
        let ground = Ground::of(&ownership, session);
        assert!(!ground.is_lost(&ownership, session));
        for (owner, epoch, held) in [(1, 3, Held::Leaving), (2, 4, Held::No), (1, 5, Held::Yes)] {
            let shard = Shard { owner: Some(Incarnation(owner)), epoch: Epoch(epoch), held };
            ownership.replace(vec![shard; ownership.shards().len()].into());
            assert!(ground.is_lost(&ownership, session));
        }
    }
    #[test]
    fn ground_of_a_call_within_another_is_lost_only_when_its_shard_changes() {
        let within = About::Within(SessionId::from_bytes([9; 16]), DispatchId::from_bytes([8; 16]));
        let ownership = view(Some(1), Held::Leaving);
        let ground = Ground::of(&ownership, within);
        assert!(!ground.is_lost(&ownership, within), "it was begun while the shard left");
        ownership.replace(view(Some(2), Held::No).shards());
        assert!(ground.is_lost(&ownership, within));
    }
}
