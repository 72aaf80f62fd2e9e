//! What came of a run: `chaos.json` for programs, Markdown for people.

use std::{collections::BTreeMap, fmt::Write, fs, path::Path};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::{check::Violation, scenario::Fault};

/// What came of one scenario.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) scenario: String,
    pub(crate) nodes: usize,
    pub(crate) seed: u64,
    pub(crate) seconds: u64,
    /// Calls of the sessions that count: each one id, however often it was asked for.
    pub(crate) calls: u64,
    /// The share of them that succeeded, 0 to 1.
    pub(crate) availability: f64,
    /// How many of them ended how.
    #[serde(default)]
    pub(crate) ends: BTreeMap<String, u64>,
    /// The longest time without an answer, of any session.
    pub(crate) longest_pause_ms: u64,
    pub(crate) violations: Vec<Violation>,
    pub(crate) faults: Vec<Fault>,
    /// The longest time without an answer, for each session.
    pub(crate) pauses_ms: BTreeMap<String, u64>,
    /// What else was measured, by name with its unit.
    pub(crate) measures: BTreeMap<String, f64>,
    /// How much was checked, by name.
    pub(crate) checked: BTreeMap<String, u64>,
    /// Why it was not played. Then nothing is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) skipped: Option<String>,
    /// Why it could not be played to its end. Then nothing is known either.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

impl Row {
    fn verdict(&self) -> String {
        match (&self.skipped, &self.error, self.violations.len()) {
            (Some(why), ..) => format!("skipped: {why}"),
            (_, Some(_), _) => "not finished".into(),
            (.., 0) => "held".into(),
            (.., 1) => "**1 violation**".into(),
            (.., many) => format!("**{many} violations**"),
        }
    }

    fn median_pause_ms(&self) -> u64 {
        let mut pauses: Vec<u64> = self.pauses_ms.values().copied().collect();
        pauses.sort_unstable();
        pauses.get(pauses.len() / 2).copied().unwrap_or(0)
    }
}

/// Reads a report.
///
/// # Errors
/// When there is none.
pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<Row>> {
    let text = fs::read(path).with_context(|| format!("can't read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is no report of aesp-chaos", path.display()))
}

/// Writes `chaos.json` and `chaos.md` into a folder.
///
/// # Errors
/// When they can't be written.
pub(crate) fn write(folder: &Path, rows: &[Row]) -> anyhow::Result<()> {
    fs::create_dir_all(folder)?;
    fs::write(folder.join("chaos.json"), serde_json::to_vec_pretty(rows)?)?;
    fs::write(folder.join("chaos.md"), markdown(rows))?;
    Ok(())
}

/// Renders a report.
pub(crate) fn markdown(rows: &[Row]) -> String {
    let mut out = String::from(
        "# Chaos\n\n\
         | scenario | nodes | seed | s | calls | succeeded | longest pause | median | faults | invariants |\n\
         |---|--:|--:|--:|--:|--:|--:|--:|--:|---|\n",
    );
    for row in rows {
        line(
            &mut out,
            format_args!(
                "| {} | {} | {} | {} | {} | {:.2} % | {} ms | {} ms | {} | {} |",
                row.scenario,
                row.nodes,
                row.seed,
                row.seconds,
                row.calls,
                row.availability * 100.0,
                row.longest_pause_ms,
                row.median_pause_ms(),
                row.faults.len(),
                row.verdict(),
            ),
        );
    }
    for row in rows.iter().filter(|row| row.skipped.is_none()) {
        details(&mut out, row);
    }
    out
}

fn details(out: &mut String, row: &Row) {
    line(out, format_args!("\n## {} on {} node(s), seed {}\n", row.scenario, row.nodes, row.seed));
    if let Some(error) = &row.error {
        line(out, format_args!("Not finished, so nothing is known: {error}\n"));
    }
    for violation in &row.violations {
        line(out, format_args!("- **{violation}**"));
    }
    let ends: Vec<String> = row.ends.iter().map(|(name, count)| format!("{count} {name}")).collect();
    if !ends.is_empty() {
        line(out, format_args!("- calls: {}", ends.join(", ")));
    }
    for (name, value) in &row.measures {
        line(out, format_args!("- {name}: {value:.0}"));
    }
    let checked: Vec<String> = row.checked.iter().map(|(name, count)| format!("{count} {name}")).collect();
    if !checked.is_empty() {
        line(out, format_args!("- checked: {}", checked.join(", ")));
    }
    if !row.faults.is_empty() {
        line(out, format_args!("\n| at | fault |\n|--:|---|"));
    }
    for fault in &row.faults {
        line(out, format_args!("| {:.1} s | {} |", fault.at_ms as f64 / 1e3, fault.what));
    }
    if !row.pauses_ms.is_empty() {
        line(out, format_args!("\n| session | longest pause |\n|---|--:|"));
    }
    for (session, pause) in &row.pauses_ms {
        line(out, format_args!("| {session} | {pause} ms |"));
    }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).and_then(|()| out.write_char('\n')).expect("writing to a string can't fail");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Invariant;

    #[test]
    fn a_report_survives_its_file_and_names_every_violation() {
        let folder = tempfile::tempdir().unwrap();
        let what = "inv_1 in ses_1 ran 2 times";
        let rows = vec![
            Row {
                scenario: "kill-node".into(),
                violations: vec![Violation::new(Invariant::I1, what)],
                faults: vec![Fault { at_ms: 1_200, what: "kill -9 node-1".into() }],
                pauses_ms: [("ses_1".to_owned(), 812)].into(),
                ..Row::default()
            },
            Row { scenario: "kill-two".into(), skipped: Some("one node".into()), ..Row::default() },
        ];
        write(folder.path(), &rows).unwrap();
        assert_eq!(read(&folder.path().join("chaos.json")).unwrap(), rows);
        let text = fs::read_to_string(folder.path().join("chaos.md")).unwrap();
        for part in [what, "kill -9 node-1", "812 ms", "skipped: one node"] {
            assert!(text.contains(part), "{part} is not in:\n{text}");
        }
    }
}
