use std::{sync::Arc, time::Duration};

use aesp_proto::{Entropy, Error};
use aesp_sdk::{Client, ErrorCode};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::ask::{Verdict, ask, verdict};
use crate::{
    history::{Call, CallKey, End, Recorder},
    tools::Tool,
};

/// How long a client goes on asking for one answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long it goes on when the Host says that the outcome is unknown: a Runtime that lives redelivers sooner.
const OPEN_PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(100);

/// A client that calls, one call after the other, each under its id until it is settled.
pub(super) struct Agent {
    /// One for each node that it may turn to, in this order.
    pub(super) clients: Arc<[Client]>,
    pub(super) session: Arc<str>,
    pub(super) name: String,
    pub(super) pace: Duration,
    pub(super) random: Entropy,
    pub(super) recorder: Recorder,
    pub(super) stop: CancellationToken,
}

impl Agent {
    pub(super) async fn run(self) {
        let mut at = 0;
        let mut number = 0_u64;
        while !self.stop.is_cancelled() {
            number += 1;
            let tool = Tool::ALL[usize::try_from(self.random.below(3)).unwrap_or(0)];
            let call = self.call(tool, format!("{}-{number}", self.name), &mut at).await;
            self.recorder.call(call);
            let pace = u64::try_from(self.pace.as_micros()).unwrap_or(u64::MAX);
            let pause = Duration::from_micros(pace / 2 + self.random.below(pace.max(1)));
            tokio::select! {
                () = sleep(pause) => {}
                () = self.stop.cancelled() => {}
            }
        }
    }

    /// Makes one call; `at` is the node that answered last.
    async fn call(&self, tool: Tool, invocation: String, at: &mut usize) -> Call {
        let key = CallKey { session: Arc::clone(&self.session), invocation };
        let (begun, begun_ms) = (Instant::now(), self.recorder.now_ms());
        let mut attempts = 0;
        loop {
            attempts += 1;
            let asked_ms = self.recorder.now_ms();
            let heard = ask(&self.clients[*at % self.clients.len()], &key, tool).await;
            let ended_ms = self.recorder.now_ms();
            let end = match heard {
                Ok(answer) => Some(End::Answered {
                    event: answer.event,
                    failure: answer.failure,
                    faithful: answer.faithful,
                }),
                Err(error) => {
                    *at += usize::from(is_silent(&error));
                    self.end(&error, begun.elapsed())
                }
            };
            if let Some(end) = end {
                return Call { key, tool, begun_ms, asked_ms, ended_ms, attempts, end };
            }
            sleep(PAUSE).await;
        }
    }

    /// Tells how a call ends with this refusal, if it does.
    fn end(&self, error: &Error, after: Duration) -> Option<End> {
        let code = error.code();
        match verdict(code) {
            Verdict::Final => Some(End::Refused(code)),
            Verdict::Open if after >= OPEN_PATIENCE => Some(match code {
                ErrorCode::OutcomeUnknown => End::Unknown,
                _ => End::Refused(code),
            }),
            _ if after >= PATIENCE || self.stop.is_cancelled() => Some(End::GaveUp(code)),
            _ => None,
        }
    }
}

/// Tells whether the node should be left for another. One whose connection broke is left by the client itself.
fn is_silent(error: &Error) -> bool {
    error.code() == ErrorCode::DeadlineExceeded
}
