//! Whatever happens, in whatever order: credits hold, every dispatch ends once, nothing is sent while draining.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use aesp_proto::{
    DispatchId,
    v1::{
        CapabilityUpdate, ContractDraft, Credits, DispatchReport, Draining, Heartbeat, RegisterTools,
        RuntimeFrame, host_frame::Frame as Host, runtime_frame::Frame,
    },
};
use proptest::prelude::*;
use prost::Message as _;
use tokio::time::Instant;

use super::{Effect, Event, Phase, State, tests::serving};
use crate::{
    Update,
    testing::{FakeDirectory, announcement, chunk, dispatch, dispatch_id, fulfil, result},
};

#[derive(Clone, Debug)]
enum Step {
    Dispatch { of: u8, deadline_ms: u64, streaming: bool },
    Result(usize),
    Chunk { which: usize, number: u64, is_final: bool },
    Credits(u32),
    Cancel(usize),
    Overflow(usize),
    Advance(u64),
    Writable(bool),
    Retire(bool),
    Drain,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => (1_u8..5, 1_u64..5_000, any::<bool>())
            .prop_map(|(of, deadline_ms, streaming)| Step::Dispatch { of, deadline_ms, streaming }),
        8 => any::<usize>().prop_map(Step::Result),
        4 => (any::<usize>(), 0_u64..3, any::<bool>())
            .prop_map(|(which, number, is_final)| Step::Chunk { which, number, is_final }),
        1 => (0_u32..4).prop_map(Step::Credits),
        2 => any::<usize>().prop_map(Step::Cancel),
        1 => any::<usize>().prop_map(Step::Overflow),
        3 => (0_u64..2_000).prop_map(Step::Advance),
        1 => any::<bool>().prop_map(Step::Writable),
        1 => any::<bool>().prop_map(Step::Retire),
        1 => prop::bool::weighted(0.1).prop_map(|drain| if drain { Step::Drain } else { Step::Advance(1) }),
    ]
}

/// What the Runtime and the callers see.
#[derive(Default)]
struct World {
    credits: u32,
    /// What the Runtime works on.
    at_runtime: HashSet<DispatchId>,
    sent: HashSet<DispatchId>,
    ended: HashMap<DispatchId, Update>,
    given: Vec<DispatchId>,
    draining: bool,
}

impl World {
    fn check(&mut self, effects: Vec<Effect<u64>>) {
        for effect in effects {
            match effect {
                Effect::Send(Host::Call(call)) => {
                    let id = DispatchId::from_slice(&call.dispatch_id).unwrap();
                    assert!(!self.draining, "sent while draining");
                    assert!(!self.ended.contains_key(&id), "sent after its end");
                    assert!(self.sent.insert(id), "sent twice");
                    assert!(self.at_runtime.insert(id));
                    let limit = usize::try_from(self.credits).unwrap();
                    assert!(self.at_runtime.len() <= limit, "beyond {limit} credits");
                }
                Effect::End { dispatch, update, .. } => {
                    if let Update::Lost(lost) = &update {
                        assert_eq!(lost.sent, self.sent.contains(&dispatch), "a lie about what was sent");
                    }
                    let before = self.ended.insert(dispatch, update);
                    assert!(before.is_none(), "ended twice, before by {before:?}");
                }
                Effect::Chunk(id, _) => assert!(!self.ended.contains_key(&id), "a chunk after the end"),
                _ => {}
            }
        }
    }
}

fn event(step: Step, world: &mut World, now: &mut Instant, directory: &FakeDirectory) -> Option<Event<u64>> {
    let nth = |ids: &[DispatchId], n: usize| (!ids.is_empty()).then(|| ids[n % ids.len()]);
    Some(match step {
        Step::Dispatch { of, deadline_ms, streaming } => {
            let n = world.given.len() as u64;
            let mut call = dispatch(n, of);
            call.deadline = *now + Duration::from_millis(deadline_ms);
            call.streaming = streaming;
            world.given.push(call.id);
            Event::Dispatch(Box::new(call), n)
        }
        Step::Result(which) => {
            let id = nth(&world.given, which)?;
            if !world.sent.contains(&id) {
                return None;
            }
            world.at_runtime.remove(&id);
            Event::Frame(Frame::Result(result(id, b"1")))
        }
        Step::Chunk { which, number, is_final } => {
            let id = nth(&world.given, which)?;
            Event::Frame(Frame::Chunk(chunk(id, number, is_final)))
        }
        Step::Credits(add) => {
            world.credits += add;
            Event::Frame(Frame::Credits(Credits { add }))
        }
        Step::Cancel(which) => {
            let id = nth(&world.given, which)?;
            // Whoever cancels has gone, or knows the end.
            Event::Cancel(id, "gone".to_owned())
        }
        Step::Overflow(which) => Event::Overflow(nth(&world.given, which)?),
        Step::Advance(by) => {
            *now += Duration::from_millis(by);
            Event::Tick
        }
        Step::Writable(writable) => Event::Writable(writable),
        Step::Retire(retired) => {
            directory.change(|inner| {
                inner.retired.clear();
                if retired {
                    inner.retired.insert("git_log".to_owned());
                }
            });
            Event::Recheck
        }
        Step::Drain => {
            world.draining = true;
            Event::Frame(Frame::Draining(Draining::default()))
        }
    })
}

/// A final chunk gives its credit back, if the Runtime had the call and its Host took it for the end.
fn note_final(state: &State<u64>, world: &mut World) {
    let outstanding = usize::try_from(state.calls().outstanding()).unwrap();
    if world.at_runtime.len() > outstanding {
        let ended: Vec<_> =
            world.at_runtime.iter().filter(|id| !state.calls().holds(**id)).copied().collect();
        for id in ended {
            world.at_runtime.remove(&id);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]
    #[test]
    fn whatever_happens(credits in 1_u32..8, steps in prop::collection::vec(step(), 0..120)) {
        let directory = FakeDirectory::new();
        let mut now = Instant::now();
        let mut state = serving(&directory, credits, now);
        let mut world = World { credits, ..World::default() };
        for step in steps {
            let is_chunk = matches!(step, Step::Chunk { .. });
            let Some(event) = event(step, &mut world, &mut now, &directory) else { continue };
            // The Runtime stays audible, and the flood of the test is forgiven.
            let beat = Heartbeat { sequence: 1, sent_at_ms: 0 };
            world.check(state.step(now, Event::Frame(Frame::Heartbeat(beat))));
            if is_chunk {
                // What a final chunk frees may be used within the same step.
                let before = world.credits;
                world.credits += 1;
                world.check(state.step(now, event));
                world.credits = before;
                note_final(&state, &mut world);
            } else {
                world.check(state.step(now, event));
            }
            prop_assert!(state.calls().outstanding() <= world.credits);
            if state.phase() == Phase::Closed {
                break;
            }
        }
        world.draining = true;
        world.check(state.step(now, Event::Disconnected));
        for id in &world.given {
            prop_assert!(world.ended.contains_key(id), "{id} never ended");
        }
        prop_assert_eq!(state.take_left() as usize, world.given.len());
    }
}

/// A frame that a Runtime may well send, to be damaged.
fn valid_frame() -> impl Strategy<Value = Frame> {
    prop_oneof![
        Just(Frame::Announce(announcement(4))),
        Just(Frame::Fulfill(fulfil(&["git_log", "git_show@1.0.0"]))),
        (0_u64..4).prop_map(|n| Frame::Result(result(dispatch_id(n), b"{\"a\":1}"))),
        (0_u64..4, any::<bool>()).prop_map(|(n, last)| Frame::Chunk(chunk(dispatch_id(n), 0, last))),
        any::<u32>().prop_map(|add| Frame::Credits(Credits { add })),
        (any::<u64>(), any::<i64>())
            .prop_map(|(sequence, sent_at_ms)| Frame::Heartbeat(Heartbeat { sequence, sent_at_ms })),
        Just(Frame::CapabilityUpdate(CapabilityUpdate {
            withdrawn_tools: vec!["git_log".to_owned()],
            deprecated_features: vec!["streaming".to_owned()],
            ..CapabilityUpdate::default()
        })),
        Just(Frame::Report(DispatchReport { seen: vec![vec![1; 16]], running: vec![vec![2; 16]] })),
        Just(Frame::Register(RegisterTools {
            tools: vec![ContractDraft::default()],
            ..RegisterTools::default()
        })),
    ]
}

proptest! {
    #[test]
    fn damaged_frames_do_no_harm(
        frames in prop::collection::vec((valid_frame(), any::<prop::sample::Index>(), any::<u8>()), 1..40),
    ) {
        let now = Instant::now();
        let mut state = serving(&FakeDirectory::new(), 2, now);
        for n in 0..4 {
            state.step(now, Event::Dispatch(Box::new(dispatch(n, 1)), n));
        }
        for (frame, at, flip) in frames {
            let mut bytes = RuntimeFrame { frame: Some(frame) }.encode_to_vec();
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            let Ok(decoded) = RuntimeFrame::decode(bytes.as_slice()) else { continue };
            let was_closed = state.phase() == Phase::Closed;
            let effects = state.step(now, decoded.frame.map_or(Event::Garbage, Event::Frame));
            prop_assert!(!was_closed || effects.is_empty(), "nothing comes after the end");
            prop_assert!(state.calls().outstanding() <= state.calls().credits().max(2));
        }
        state.step(now, Event::Disconnected);
        prop_assert_eq!(state.take_left(), 4);
    }
}
