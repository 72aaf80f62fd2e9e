use std::io::{self, Write};

use clap::ValueEnum;
use prost::Message;
use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{failure::Failure, render::to_json};

/// The form of the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

/// Where answers go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Console {
    pub(crate) format: Format,
}

impl Console {
    /// Shows one message of `aesp.v1`.
    pub(crate) fn one<M: Message>(self, name: &str, message: &M) -> Result<(), Failure> {
        self.value(&to_json(name, message)?)
    }

    /// Shows one JSON value: its fields below each other, or as it is.
    pub(crate) fn value(self, value: &Value) -> Result<(), Failure> {
        match (self.format, value) {
            (Format::Table, Value::Object(fields)) => {
                let width = fields.keys().map(|name| name.chars().count()).max().unwrap_or(0);
                let lines: Vec<String> = fields
                    .iter()
                    .map(|(name, field)| format!("{name:width$}  {}", cell(name, field)))
                    .collect();
                self.lines(&lines)
            }
            (Format::Table, Value::String(text)) => self.lines(std::slice::from_ref(text)),
            _ => self.lines(&[format!("{value:#}")]),
        }
    }

    /// Shows the items of a listing, of each the named fields.
    pub(crate) fn list<M: Message>(
        self,
        name: &str,
        message: &M,
        items: &str,
        columns: &[&str],
    ) -> Result<(), Failure> {
        let value = to_json(name, message)?;
        if self.format == Format::Json {
            return self.lines(&[format!("{value:#}")]);
        }
        let empty = Vec::new();
        let rows = value[items].as_array().unwrap_or(&empty);
        self.lines(&table(rows, columns))?;
        match value["next_cursor"].as_str() {
            Some(cursor) if !cursor.is_empty() => self.note(&format!("more follow: --cursor {cursor}")),
            _ => Ok(()),
        }
    }

    /// Shows one item of a listing that has no end, on one line: the named fields, or as JSON whole.
    pub(crate) fn item<M: Message>(self, name: &str, message: &M, columns: &[&str]) -> Result<(), Failure> {
        let value = to_json(name, message)?;
        let line = match self.format {
            Format::Json => value.to_string(),
            Format::Table => {
                columns.iter().map(|name| cell(name, &value[*name])).collect::<Vec<_>>().join("  ")
            }
        };
        self.lines(&[line])
    }

    /// Tells people something that is not part of the answer.
    pub(crate) fn note(self, text: &str) -> Result<(), Failure> {
        if self.format == Format::Table {
            writeln!(io::stderr().lock(), "{text}")?;
        }
        Ok(())
    }

    fn lines(self, lines: &[String]) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        for line in lines {
            match writeln!(out, "{}", line.trim_end()) {
                // `aesp … | head` is no failure.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                other => other?,
            }
        }
        Ok(())
    }
}

fn table(rows: &[Value], columns: &[&str]) -> Vec<String> {
    let header =
        columns.iter().map(|name| name.to_uppercase().replace('_', " ").replace(" MS", "")).collect();
    let cells = rows.iter().map(|row| columns.iter().map(|name| cell(name, &row[*name])).collect());
    let lines: Vec<Vec<String>> = std::iter::once(header).chain(cells).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let joined = lines.iter().map(|line| {
        let cells: Vec<String> =
            line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}", width = *width)).collect();
        cells.join("  ")
    });
    joined.collect()
}

fn cell(name: &str, value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        // What others wrote must not move the cursor or colour the terminal.
        Value::String(text) => text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect(),
        Value::Number(number) if is_time(name) => {
            number.as_i64().and_then(moment).unwrap_or_else(|| "-".into())
        }
        Value::Array(items) if items.iter().all(Value::is_string) => {
            items.iter().map(|item| cell("", item)).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

fn is_time(name: &str) -> bool {
    name.ends_with("_at_ms")
        || name.ends_with("_at")
        || ["timestamp_ms", "start_ms", "newest_ms"].contains(&name)
}

fn moment(milliseconds: i64) -> Option<String> {
    if milliseconds == 0 {
        return None;
    }
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(milliseconds) * 1_000_000).ok()?;
    at.format(&Rfc3339).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_align_and_times_are_readable() {
        let rows = [
            json!({"name": "a", "created_at_ms": 0}),
            json!({"name": "longer\u{1b}[2J", "created_at_ms": 1_700_000_000_000_i64}),
        ];
        let lines = table(&rows, &["name", "created_at_ms"]);
        assert_eq!(lines[0], "NAME        CREATED AT          ");
        assert_eq!(lines[2], "longer\u{fffd}[2J  2023-11-14T22:13:20Z");
        assert!(lines[1].starts_with("a           -"));
    }
}
