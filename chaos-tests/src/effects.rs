//! What the tools did, counted in files that outlive the processes which wrote them.

use std::{io, path::Path};

use crate::{
    history::CallKey,
    lines::{self, Lines},
    tools::Tool,
};

/// One effect: a tool that began to work on a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Effect {
    pub(crate) tool: Tool,
    pub(crate) key: CallKey,
    pub(crate) dispatch: String,
}

/// Counts effects by appending a line for each, before the tool answers. A call whose line was lost looks as if it had not run.
pub(crate) struct Counter(Lines);

impl Counter {
    /// # Errors
    /// When the file can't be opened.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Lines::open(path).map(Self)
    }

    /// # Errors
    /// When the line can't be written; the effect must not happen then.
    pub(crate) fn count(&self, effect: &Effect) -> io::Result<()> {
        let Effect { tool, key, dispatch } = effect;
        self.0.append(&format!("{} {} {} {dispatch}", tool.name(), key.session, key.invocation))
    }
}

/// Reads all effects that the files of a folder count. Unfinished lines are left out: their effect had not begun.
///
/// # Errors
/// When a file can't be read.
pub(crate) fn read(folder: &Path) -> anyhow::Result<Vec<Effect>> {
    let texts = lines::read_all(folder)?;
    Ok(texts.iter().flat_map(|text| text.lines()).filter_map(parse).collect())
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
    use std::{fs::File, io::Write};

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
