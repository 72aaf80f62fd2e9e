use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits {
    outstanding: 6,
    queue_bytes: 2_000,
    message_bytes: 400,
    window_bytes: 300,
    small_window_bytes: 50,
    reserve_bytes: 900,
};

/// A part holds the number of its request.
const NUMBER_BYTES: u32 = 8;

#[derive(Clone, Debug)]
enum Step {
    Request(usize),
    Withdraw(prop::sample::Index),
    Take,
    Deliver,
    Part(prop::sample::Index),
    Finish(prop::sample::Index, bool),
    TakeBack,
    DeliverBack,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0_usize..500).prop_map(Step::Request),
        1 => any::<prop::sample::Index>().prop_map(Step::Withdraw),
        3 => Just(Step::Take),
        3 => Just(Step::Deliver),
        2 => any::<prop::sample::Index>().prop_map(Step::Part),
        2 => (any::<prop::sample::Index>(), any::<bool>()).prop_map(|(which, well)| Step::Finish(which, well)),
        3 => Just(Step::TakeBack),
        3 => Just(Step::DeliverBack),
    ]
}

/// A caller and a server over two wires that can be cut at any moment.
struct Pair {
    caller: State<u64, ()>,
    server: State<(), u64>,
    there: VecDeque<PeerBatch>,
    back: VecDeque<PeerBatch>,
    /// What the server saw: number of the request by its id.
    seen: BTreeMap<u64, u64>,
    running: BTreeSet<u64>,
    ids: BTreeMap<u64, u64>,
    parts: BTreeMap<u64, u32>,
    /// What the server may still send, by the id of the request.
    credit: BTreeMap<u64, u32>,
    ends: BTreeMap<u64, Vec<Result<(), &'static str>>>,
    withdrawn: BTreeSet<u64>,
}

impl Pair {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            caller: State::new(LIMITS, now),
            server: State::new(LIMITS, now),
            there: VecDeque::new(),
            back: VecDeque::new(),
            seen: BTreeMap::new(),
            running: BTreeSet::new(),
            ids: BTreeMap::new(),
            parts: BTreeMap::new(),
            credit: BTreeMap::new(),
            ends: BTreeMap::new(),
            withdrawn: BTreeSet::new(),
        }
    }

    fn end(&mut self, number: u64, how: Result<(), PeerError>) {
        let how = how.map_err(|error| match error {
            PeerError::NotSent(_) => "not sent",
            PeerError::Lost => "lost",
            PeerError::Refused(_) => "refused",
        });
        self.ends.entry(number).or_default().push(how);
    }

    fn apply(&mut self, step: Step, number: u64) {
        let pick = |which: prop::sample::Index, from: &BTreeSet<u64>| {
            (!from.is_empty()).then(|| *from.iter().nth(which.index(from.len())).unwrap())
        };
        match step {
            Step::Request(size) => {
                let payload = Bytes::from([&number.to_be_bytes()[..], &vec![0; size]].concat());
                match self.caller.request(number, Topic::Forward, payload) {
                    Ok((id, _)) => drop(self.ids.insert(number, id)),
                    Err(why) => self.end(number, Err(why.into())),
                }
            }
            Step::Withdraw(which) => {
                let open = self.open();
                if let Some(number) = pick(which, &open) {
                    self.caller.withdraw(self.ids[&number]);
                    self.withdrawn.insert(number);
                }
            }
            Step::Take => self.there.extend(self.caller.take().map(|(batch, _)| batch)),
            Step::TakeBack => self.back.extend(self.server.take().map(|(batch, _)| batch)),
            Step::Deliver => {
                for frame in self.there.pop_front().into_iter().flat_map(|batch| batch.frames) {
                    match self.server.received(frame.frame.unwrap()) {
                        Received::Request { id, payload, window, .. } => {
                            self.credit.insert(id, window);
                            let number = u64::from_be_bytes(payload[..8].try_into().unwrap());
                            assert_eq!(self.seen.insert(id, number), None);
                            self.server.serve(id, id);
                            self.running.insert(id);
                        }
                        Received::Cancelled(id) => assert!(self.running.remove(&id)),
                        Received::Credit(id, bytes) => *self.credit.get_mut(&id).unwrap() += bytes,
                        Received::Nothing => {}
                        other => panic!("{other:?}"),
                    }
                }
            }
            Step::Part(which) => {
                if let Some(id) = pick(which, &self.running)
                    && self.credit[&id] >= NUMBER_BYTES
                {
                    *self.credit.get_mut(&id).unwrap() -= NUMBER_BYTES;
                    assert!(self.server.part(id, Bytes::copy_from_slice(&self.seen[&id].to_be_bytes())));
                }
            }
            Step::Finish(which, well) => {
                if let Some(id) = pick(which, &self.running) {
                    let error = Error::invalid("no");
                    self.server.finish(id, (!well).then_some(&error));
                    self.running.remove(&id);
                }
            }
            Step::DeliverBack => {
                for frame in self.back.pop_front().into_iter().flat_map(|batch| batch.frames) {
                    match self.caller.received(frame.frame.unwrap()) {
                        Received::Part(number, payload) => {
                            assert_eq!(payload[..], number.to_be_bytes(), "the answer of another request");
                            assert!(!self.ends.contains_key(&number), "a part after the end");
                            *self.parts.entry(number).or_default() += 1;
                            self.caller.credit(self.ids[&number], NUMBER_BYTES);
                        }
                        Received::End(number, how) => self.end(number, how),
                        Received::Nothing => {}
                        other => panic!("{other:?}"),
                    }
                }
            }
        }
        assert!(self.caller.queued_bytes <= LIMITS.queue_bytes);
        assert!(self.caller.callers.len() <= LIMITS.outstanding);
        assert!(self.server.serving.len() <= LIMITS.outstanding);
        assert!(self.caller.reserved_bytes <= LIMITS.reserve_bytes + LIMITS.outstanding * 50);
    }

    fn open(&self) -> BTreeSet<u64> {
        let open = |number: &u64| !self.ends.contains_key(number) && !self.withdrawn.contains(number);
        self.ids.keys().copied().filter(open).collect()
    }
}

proptest! {
    #[test]
    fn every_request_ends_once_and_what_was_not_sent_was_not_seen(steps in prop::collection::vec(step(), 1..200)) {
        let mut pair = Pair::new();
        for (number, step) in steps.into_iter().enumerate() {
            pair.apply(step, number as u64);
        }
        // The cut: what is on the wires is gone.
        let (ended, _) = pair.caller.close();
        for (number, why) in ended {
            pair.end(number, Err(why));
        }
        prop_assert!(pair.caller.request(u64::MAX, Topic::Forward, Bytes::new()).is_err());
        prop_assert!(pair.caller.take().is_none());
        let seen: BTreeSet<u64> = pair.seen.values().copied().collect();
        for (number, id) in &pair.ids {
            let ends = pair.ends.get(number).map_or(&[][..], Vec::as_slice);
            let expected = usize::from(!pair.withdrawn.contains(number));
            prop_assert_eq!(ends.len(), expected, "request {}", number);
            if ends == [Err("not sent")] {
                prop_assert!(!seen.contains(number), "request {} (id {}) was seen", number, id);
            }
        }
    }

    #[test]
    fn without_a_cut_every_request_is_answered(sizes in prop::collection::vec(0_usize..380, 1..40)) {
        let mut pair = Pair::new();
        for (number, size) in sizes.iter().enumerate() {
            pair.apply(Step::Request(*size), number as u64);
            for step in [Step::Take, Step::Deliver] {
                pair.apply(step, 0);
            }
            for id in pair.running.clone() {
                prop_assert!(pair.server.part(id, Bytes::copy_from_slice(&pair.seen[&id].to_be_bytes())));
                pair.server.finish(id, None);
            }
            pair.running.clear();
            for step in [Step::TakeBack, Step::DeliverBack] {
                pair.apply(step, 0);
            }
        }
        prop_assert!(pair.ends.values().all(|ends| ends[..] == [Ok(())]));
        prop_assert_eq!(pair.ends.len(), sizes.len());
        prop_assert!(pair.parts.values().all(|parts| *parts == 1));
        prop_assert_eq!((pair.caller.reserved_bytes, pair.caller.queued_bytes, pair.server.open), (0, 0, 0));
    }
}

#[test]
fn windows_are_small_when_the_reserve_is_used_up() {
    let mut state = State::<u64, ()>::new(LIMITS, Instant::now());
    let windows: Vec<_> = (0..5).map(|n| state.request(n, Topic::Forward, Bytes::new()).unwrap().1).collect();
    assert_eq!(windows, [300, 300, 300, 50, 50]);
}

#[test]
fn who_sends_more_than_its_window_is_cut_off() {
    for (bytes, fit) in [(100, 3), (0, 300), (1_000, 1)] {
        let mut state = State::<u64, ()>::new(LIMITS, Instant::now());
        let (id, window) = state.request(7, Topic::Forward, Bytes::new()).unwrap();
        assert_eq!(window, 300);
        let part = |state: &mut State<u64, ()>| {
            state.received(Frame::Part(PeerPart { id, payload: vec![0; bytes].into() }))
        };
        for _ in 0..fit {
            assert!(matches!(part(&mut state), Received::Part(7, _)), "parts of {bytes} bytes");
        }
        assert!(matches!(part(&mut state), Received::Violation("window_overrun")), "parts of {bytes} bytes");
        state.credit(id, part_cost(bytes, window));
        assert!(matches!(part(&mut state), Received::Part(7, _)), "what was taken makes room");
    }
}

#[test]
fn who_sends_on_without_reading_is_cut_off() {
    let mut state = State::<(), u64>::new(LIMITS, Instant::now());
    let violation = (1..10_000).find_map(|id| {
        let request = PeerRequest { id, topic: 1, payload: Bytes::new(), window: 1 };
        match state.received(Frame::Request(request)) {
            Received::Violation(what) => Some((id, what)),
            Received::Request { id, .. } => {
                state.serve(id, id);
                None
            }
            _ => None,
        }
    });
    let (id, what) = violation.unwrap();
    assert_eq!(what, "overrun");
    assert!(id < 1_000, "bounded by a few batches, not {id}");
}

#[test]
fn a_topic_of_a_newer_release_is_refused_and_a_tell_of_it_ignored() {
    let mut state = State::<(), u64>::new(LIMITS, Instant::now());
    let request = PeerRequest { id: 1, topic: 99, payload: Bytes::new(), window: 1 };
    assert!(matches!(state.received(Frame::Request(request)), Received::Nothing));
    let tell = PeerTell { topic: 99, payload: Bytes::new() };
    assert!(matches!(state.received(Frame::Tell(tell)), Received::Nothing));
    let (batch, _) = state.take().unwrap();
    let Some(Frame::End(end)) = &batch.frames[0].frame else { panic!("{batch:?}") };
    assert_eq!((end.id, end.not_taken, end.error.is_some()), (1, false, true));
    assert_eq!(state.open, 0);
}
