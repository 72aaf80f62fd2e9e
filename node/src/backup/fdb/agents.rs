use std::{path::PathBuf, time::Duration};

use rustix::process::{Signal, set_parent_process_death_signal};
use tokio::{task::JoinSet, time::sleep};
use tracing::{info, warn};

use super::{super::Error, tools::Tools};

/// After how long an agent that ended is started again.
const PAUSE: Duration = Duration::from_secs(2);

/// Agents that work for a cluster until this is dropped. They keep nothing: what one has begun, any other ends.
pub(super) struct Agents {
    _running: JoinSet<()>,
}

impl Agents {
    /// Starts so many of them.
    ///
    /// # Errors
    /// [`Error::Program`] if the first can't be started.
    pub(super) fn start(tools: &Tools, cluster_file: &std::path::Path, count: u32) -> Result<Self, Error> {
        let mut running = JoinSet::new();
        for number in 0..count {
            let first = spawn(tools, cluster_file)?;
            running.spawn(keep(tools.clone(), cluster_file.to_owned(), number, first));
        }
        Ok(Self { _running: running })
    }
}

fn spawn(tools: &Tools, cluster_file: &std::path::Path) -> Result<tokio::process::Child, Error> {
    let mut command = tools.agent(cluster_file);
    end_with_this_process(&mut command);
    command.spawn().map_err(|source| Error::program(tools.agent_path(), source))
}

/// An agent that outlives a killed node would be one too many at its next start.
#[expect(unsafe_code, reason = "what runs between fork and exec is told in C's terms")]
fn end_with_this_process(command: &mut tokio::process::Command) {
    // SAFETY: prctl is async-signal-safe, and nothing is allocated.
    unsafe {
        command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::TERM))?));
    }
}

/// Waits for the end of an agent and starts the next.
async fn keep(tools: Tools, cluster_file: PathBuf, number: u32, first: tokio::process::Child) {
    let mut running = Some(first);
    info!(number, "a backup agent runs");
    loop {
        if let Some(mut child) = running.take() {
            match child.wait().await {
                Ok(status) => warn!(number, %status, "a backup agent ended; it is started again"),
                Err(error) => warn!(number, %error, "a backup agent can't be waited for; another is started"),
            }
        }
        sleep(PAUSE).await;
        match spawn(&tools, &cluster_file) {
            Ok(child) => running = Some(child),
            Err(error) => warn!(number, %error, "a backup agent can't be started"),
        }
    }
}
