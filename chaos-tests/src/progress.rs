use std::{
    io::{IsTerminal, Write, stderr},
    time::Duration,
};

use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::task::AbortOnDropHandle;

use crate::history::Recorder;

const ON_A_TERMINAL: Duration = Duration::from_secs(1);
const ELSEWHERE: Duration = Duration::from_secs(5);

/// Shows a line to people. With nobody looking, the report is written all the same.
pub(crate) fn say(line: &str) {
    drop(writeln!(stderr().lock(), "{line}"));
}

/// Shows how far a scenario is, until dropped.
pub(crate) struct Progress(#[expect(dead_code, reason = "ends the task when dropped")] AbortOnDropHandle<()>);

impl Progress {
    pub(crate) fn start(name: &str, length: Duration, recorder: Recorder) -> Self {
        let name = name.to_owned();
        Self(AbortOnDropHandle::new(tokio::spawn(async move {
            let terminal = stderr().is_terminal();
            let begun = Instant::now();
            let mut ticks = interval(if terminal { ON_A_TERMINAL } else { ELSEWHERE });
            ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
            ticks.tick().await;
            loop {
                ticks.tick().await;
                let (calls, answered) = recorder.counts();
                let (now, of) = (begun.elapsed().as_secs(), length.as_secs());
                let line = format!("  {name}: {now} of {of} s, {calls} calls, {answered} succeeded");
                let mut out = stderr().lock();
                drop(if terminal { write!(out, "\r\x1b[K{line}") } else { writeln!(out, "{line}") });
            }
        })))
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        let mut out = stderr().lock();
        if out.is_terminal() {
            drop(write!(out, "\r\x1b[K"));
        }
    }
}
