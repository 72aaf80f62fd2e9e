use std::{fs, path::Path};

use aesp_sdk::v1::QueryEventsRequest;
use serde::Serialize;
use tokio::time::Instant;

use crate::{screen::say, stage::Stage};

/// What came of the steps.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    #[serde(skip)]
    started: Option<Instant>,
    steps: Vec<Step>,
    calls: u64,
    events: u64,
    total_ms: u64,
    ok: bool,
    failed: Option<String>,
}

#[derive(Debug, Serialize)]
struct Step {
    name: String,
    ok: bool,
    ms: u64,
    shown: Vec<String>,
}

fn ms_since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX)
}

impl Report {
    pub(crate) fn start() -> Self {
        let started = Some(Instant::now());
        Self { started, steps: Vec::new(), calls: 0, events: 0, total_ms: 0, ok: true, failed: None }
    }

    /// Shows what came of a step: what there was to see, or why it did not come out as it should.
    pub(crate) fn step(&mut self, name: &str, begun: Instant, outcome: anyhow::Result<Vec<String>>) {
        let ms = ms_since(begun);
        let number = self.steps.len() + 1;
        let (ok, shown) = match outcome {
            Ok(shown) => (true, shown),
            Err(error) => (false, vec![format!("{error:#}")]),
        };
        say(&format!("{number}. {name}  [{}, {ms} ms]", if ok { "as it should be" } else { "WRONG" }));
        shown.iter().for_each(|line| say(&format!("     {line}")));
        if !ok && self.ok {
            self.ok = false;
            self.failed = Some(name.to_owned());
        }
        self.steps.push(Step { name: name.to_owned(), ok, ms, shown });
    }

    pub(crate) fn ok(&self) -> bool {
        self.ok
    }

    /// Counts what the audit logs have.
    pub(crate) async fn count(&mut self, stage: &Stage) {
        for tenant in [&stage.acme, &stage.globex] {
            let events = tenant.events(QueryEventsRequest::default()).await.unwrap_or_default();
            self.events += events.len() as u64;
            self.calls += events.iter().filter(|event| event.action == "tool.invoke").count() as u64;
        }
        self.total_ms = self.started.map_or(0, ms_since);
    }

    pub(crate) fn write(&self, folder: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(folder)?;
        fs::write(folder.join("demo.json"), serde_json::to_vec_pretty(self)?)?;
        Ok(())
    }

    pub(crate) fn show(&self, stage: &Stage, folder: &Path) {
        say("\nFigures");
        for step in &self.steps {
            say(&format!("  {:>6} ms  {}", step.ms, step.name));
        }
        say(&format!("  {:>6} ms  altogether", self.total_ms));
        say(&format!("  {:>6}     records of tool calls, of {} audit events", self.calls, self.events));
        say(&format!("  written to {}", folder.join("demo.json").display()));
        match &self.failed {
            Some(step) => say(&format!("\nNOT as it should be: {step}")),
            None => say("\nEvery step came out as it should."),
        }
        say("\nTry next (while it is up)");
        say(&format!("  export AESP_ENDPOINT={} AESP_CA={}", stage.host.url(), stage.host.ca().display()));
        say(&format!("  export AESP_API_KEY={}", stage.host.administrator_key()));
        say("  aesp tenant list");
        say("  aesp runtime list --tenant acme");
        say("  aesp audit query --tenant acme --outcome denied --newest-first");
        say("  aesp audit export --tenant acme --file acme.jsonl && aesp audit verify acme.jsonl");
    }
}
