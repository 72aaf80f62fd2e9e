use std::{
    fs::File,
    io::Write,
    path::Path,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    sync::watch,
};

use crate::soon;

/// A child process in a group of its own, with its log. Dropping it kills the group, and nothing else.
pub struct Process {
    child: Child,
    pid: Pid,
    lines: watch::Receiver<usize>,
    log: Arc<Mutex<Vec<String>>>,
}

impl Process {
    /// Starts `command`; what it says on standard error is kept, and appended to `log`.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start(mut command: Command, log: &Path) -> anyhow::Result<Self> {
        let mut file = File::options().create(true).append(true).open(log)?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().with_context(|| format!("can't start {command:?}"))?;
        let pid = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?)).context("it ended at once")?;
        let stderr = child.stderr.take().context("standard error is piped")?;
        let kept = Arc::new(Mutex::new(Vec::new()));
        let (counter, lines) = watch::channel(0);
        let keep = Arc::clone(&kept);
        tokio::spawn(async move {
            let mut reader = BufReader::new(stderr).lines();
            while let Ok(Some(line)) = reader.next_line().await {
                // The log is a help; the process must not stop because of it.
                drop(writeln!(file, "{line}"));
                keep.lock().unwrap_or_else(PoisonError::into_inner).push(line);
                counter.send_modify(|count| *count += 1);
            }
        });
        Ok(Self { child, pid, lines, log: kept })
    }

    /// Returns the process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Returns what it said so far.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for a line that `pick` makes something of.
    ///
    /// # Errors
    /// When the process ends or the deadline passes first; with what it said last.
    pub async fn line<T>(&mut self, what: &str, pick: impl Fn(&str) -> Option<T>) -> anyhow::Result<T> {
        let mut lines = self.lines.clone();
        let found = soon(what, async {
            loop {
                lines.borrow_and_update();
                if let Some(found) = self.log().iter().find_map(|line| pick(line)) {
                    return Some(found);
                }
                if lines.changed().await.is_err() {
                    return None;
                }
            }
        });
        let found = found.await.unwrap_or(None);
        let tail = || {
            let log = self.log();
            log[log.len().saturating_sub(8)..].join("\n")
        };
        found.with_context(|| format!("{what}: the process did not say so; its last lines:\n{}", tail()))
    }

    fn signal(&self, signal: Signal) {
        // Gone already is fine.
        let _ = kill_process_group(self.pid, signal);
    }

    /// Asks it to stop, and waits until it has.
    ///
    /// # Errors
    /// When it does not end within the deadline.
    pub async fn stop(&mut self) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::TERM);
        Ok(soon("the process ends", self.child.wait()).await??)
    }

    /// Kills it with its whole group, as a crash would.
    ///
    /// # Errors
    /// When it does not end within the deadline.
    pub async fn kill(&mut self) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::KILL);
        Ok(soon("the process is gone", self.child.wait()).await??)
    }
}

impl Process {
    /// Stops it where it stands, with its whole group, until [`Process::thaw`].
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on after [`Process::freeze`].
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Tells whether it has ended by itself or by a signal.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A group whose leader was reaped may have another owner by now.
        if matches!(self.child.try_wait(), Ok(None)) {
            self.signal(Signal::KILL);
        }
    }
}
