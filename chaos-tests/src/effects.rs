//! What the tools did, counted in files that outlive the processes which wrote them.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
    sync::{Mutex, PoisonError},
};

use anyhow::Context;

use crate::{history::CallKey, tools::Tool};

/// One effect: a tool that began to work on a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Effect {
    pub(crate) tool: Tool,
    pub(crate) key: CallKey,
    pub(crate) dispatch: String,
}

/// Counts effects by appending a line for each, before the tool answers.
///
/// A line is handed to the system in one write, so it is there however the process dies. (A machine that loses power may lose
/// the last ones; then a call looks as if it had not run.)
pub(crate) struct Counter(Mutex<File>);

impl Counter {
    /// # Errors
    /// When the file can't be opened.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let mut file = File::options().read(true).append(true).create(true).open(path)?;
        // A line that a killed process left unfinished must not swallow the next one.
        if file.seek(SeekFrom::End(0))? > 0 {
            file.seek(SeekFrom::End(-1))?;
            let mut last = [0];
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
            }
        }
        Ok(Self(Mutex::new(file)))
    }

    /// # Errors
    /// When the line can't be written; the effect must not happen then.
    pub(crate) fn count(&self, effect: &Effect) -> io::Result<()> {
        let Effect { tool, key, dispatch } = effect;
        let line = format!("{} {} {} {dispatch}\n", tool.name(), key.session, key.invocation);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write_all(line.as_bytes())
    }
}

/// Reads all effects that the files of a folder count. Unfinished lines are left out: their effect had not begun.
///
/// # Errors
/// When a file can't be read.
pub(crate) fn read(folder: &Path) -> anyhow::Result<Vec<Effect>> {
    let mut effects = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("can't read {}", folder.display()))? {
        let text = fs::read(entry?.path())?;
        effects.extend(String::from_utf8_lossy(&text).lines().filter_map(parse));
    }
    Ok(effects)
}

fn parse(line: &str) -> Option<Effect> {
    let mut words = line.split(' ');
    let tool = Tool::named(words.next()?)?;
    let (session, invocation, dispatch) = (words.next()?, words.next()?, words.next()?);
    if words.next().is_some() || dispatch.is_empty() {
        return None;
    }
    let key = CallKey { session: session.into(), invocation: invocation.to_owned() };
    Some(Effect { tool, key, dispatch: dispatch.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effect(invocation: &str) -> Effect {
        let key = CallKey { session: "ses_1".into(), invocation: invocation.into() };
        Effect { tool: Tool::Pay, key, dispatch: "dsp_1".into() }
    }

    #[test]
    fn effects_outlive_their_counter_and_a_torn_line_swallows_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("worker-1");
        Counter::open(&path).unwrap().count(&effect("a")).unwrap();
        File::options().append(true).open(&path).unwrap().write_all(b"pay ses_1 tor").unwrap();
        Counter::open(&path).unwrap().count(&effect("b")).unwrap();
        assert_eq!(read(folder.path()).unwrap(), [effect("a"), effect("b")]);
    }
}
