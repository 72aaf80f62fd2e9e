use std::io::{IsTerminal, stderr};

use indicatif::{ProgressBar, ProgressStyle};

use crate::backup::Step;

/// Returns a bar that counts bytes on a terminal, and shows nothing elsewhere.
pub(crate) fn bytes(doing: &'static str, total: Option<u64>) -> ProgressBar {
    if !stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match total {
        Some(total) => (ProgressBar::new(total), "{msg} {bytes}/{total_bytes} {bar:40} {bytes_per_sec}"),
        None => (ProgressBar::new_spinner(), "{spinner} {msg} {bytes} {bytes_per_sec}"),
    };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.with_style(style).with_message(doing)
}

/// Shows how far a restore has come.
pub(crate) struct Steps {
    bar: Option<ProgressBar>,
    verifying: bool,
}

impl Steps {
    pub(crate) fn new() -> Self {
        Self { bar: None, verifying: false }
    }

    pub(crate) fn show(&mut self, step: Step) {
        match step {
            Step::Reading(progress) => {
                let bar = self.bar.get_or_insert_with(|| bytes("restoring", Some(progress.total_bytes)));
                bar.set_length(progress.total_bytes);
                bar.set_position(progress.done_bytes);
            }
            Step::Verifying(logs) => {
                if !std::mem::replace(&mut self.verifying, true) {
                    self.finish();
                    self.bar = Some(events());
                }
                if let Some(bar) = &self.bar {
                    bar.set_position(logs.events);
                }
            }
        }
    }

    pub(crate) fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

fn events() -> ProgressBar {
    if !stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{spinner} {msg} {human_pos} events");
    ProgressBar::new_spinner()
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        .with_message("verifying the audit logs:")
}
