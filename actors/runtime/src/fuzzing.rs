//! What `make fuzz` feeds with frames that no Runtime would send.

use std::{collections::HashSet, sync::Arc, time::Duration};

use aesp_proto::{
    ConnectionId, DispatchId,
    v1::{RuntimeFrame, host_frame},
};
use prost::Message;
use tokio::time::Instant;

use crate::{
    Options,
    state::{Effect, Event, Farewell, Phase, State},
    testing::{FakeDirectory, announcement, dispatch, lease, peer},
};

/// Runs a whole connection: the bytes are frames, each behind its length, and between them what the Host does meanwhile.
///
/// # Panics
/// If a dispatch ends twice or not at all, is sent beyond the credits, or anything is sent after the end.
pub fn runtime_frames(mut bytes: &[u8]) {
    let mut connection = Connection::new();
    while let Some((&what, rest)) = bytes.split_first() {
        bytes = rest;
        match what {
            0..=7 => connection.host(what),
            _ => match RuntimeFrame::decode_length_delimited(&mut bytes) {
                Ok(frame) => connection.step(frame.frame.map_or(Event::Garbage, Event::Frame)),
                // The transport ends the stream.
                Err(_) => break,
            },
        }
    }
    connection.end();
}

struct Connection {
    state: State<u64>,
    directory: Arc<FakeDirectory>,
    now: Instant,
    given: u64,
    ended: HashSet<DispatchId>,
}

impl Connection {
    fn new() -> Self {
        let (directory, now) = (FakeDirectory::new(), Instant::now());
        let limits = Options { queue_calls: 16, tenant_queue_calls: 8, ..Options::default() }.limits();
        let id = ConnectionId::from_bytes([1; 16]);
        let state = State::new(id, peer(), Arc::clone(&directory) as _, lease(), limits, now);
        Self { state, directory, now, given: 0, ended: HashSet::new() }
    }

    fn host(&mut self, what: u8) {
        let next = |connection: &mut Self, streaming| {
            let mut call = dispatch(connection.given, 1);
            call.deadline = connection.now + Duration::from_secs(2);
            call.streaming = streaming;
            connection.given += 1;
            Event::Dispatch(Box::new(call), connection.given)
        };
        let event = match what {
            0 => next(self, false),
            1 => next(self, true),
            2 => {
                self.now += Duration::from_millis(700);
                Event::Tick
            }
            3 => Event::Cancel(dispatch(self.given.saturating_sub(1), 1).id, "gone".to_owned()),
            4 => {
                self.directory.change(|inner| inner.development = !inner.development);
                Event::Recheck
            }
            5 => Event::Writable(self.given.is_multiple_of(2)),
            6 => Event::Frame(aesp_proto::v1::runtime_frame::Frame::Announce(announcement(2))),
            _ => Event::Drain(Farewell {
                reason: "maintenance".to_owned(),
                grace: Duration::from_secs(1),
                serve: self.given.is_multiple_of(2),
            }),
        };
        self.step(event);
    }

    fn step(&mut self, event: Event<u64>) {
        let closed = self.state.phase() == Phase::Closed;
        // What is given to a connection that has ended must still end for its caller.
        let given = matches!(event, Event::Dispatch(..));
        let effects = self.state.step(self.now, event);
        assert!(!closed || given || effects.is_empty(), "nothing comes after the end");
        let admit = self.take(effects);
        if admit {
            let effects = self.state.step(self.now, Event::Admitted(Ok(())));
            self.take(effects);
        }
        assert!(self.state.calls().outstanding() <= self.state.calls().credits(), "beyond the credits");
    }

    /// Returns whether the quotas are asked.
    fn take(&mut self, effects: Vec<Effect<u64>>) -> bool {
        let mut admit = false;
        for effect in effects {
            match effect {
                Effect::Admit(_) => admit = true,
                Effect::End { dispatch, .. } => assert!(self.ended.insert(dispatch), "ended twice"),
                Effect::Send(host_frame::Frame::Call(call)) => {
                    let id = DispatchId::from_slice(&call.dispatch_id).expect("the Host's own id");
                    assert!(!self.ended.contains(&id), "sent after its end");
                }
                _ => {}
            }
        }
        admit
    }

    fn end(mut self) {
        self.step(Event::Disconnected);
        for n in 0..self.given {
            let id = dispatch(n, 1).id;
            assert!(self.ended.contains(&id), "{id} never ended");
        }
    }
}

#[cfg(test)]
mod tests {
    /// The committed inputs, and everything that ever broke.
    #[test]
    fn the_corpus_does_no_harm() {
        let corpus = std::fs::read_dir("../../fuzz/corpus/runtime_frames").unwrap();
        let inputs: Vec<_> = corpus.map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect();
        assert!(!inputs.is_empty());
        inputs.iter().for_each(|input| super::runtime_frames(input));
    }
}
