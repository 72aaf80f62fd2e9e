//! When calls of the tool `hold` came to it and left it, written to files that outlive the Runtimes.

use std::{collections::HashMap, io, path::Path};

use aesp_sdk::v1::Effects;
use aesp_tests::{Contract, object};
use serde_json::json;

use crate::{
    history::CallKey,
    lines::{self, Lines},
    steady,
};

/// A tool that holds its call for so long as the arguments say, and answers with the dispatch that it was.
pub(crate) const HOLD: &str = "hold";

/// How long the Host lets a call of it take: for so long it keeps a place for what ran on a node that died.
const TIMEOUT_MS: u32 = 3_000;

pub(crate) fn contract() -> Contract {
    let arguments = object(&json!({ "hold_ms": { "type": "integer" } }));
    Contract::new(HOLD).takes(&arguments).effects(Effects::Idempotent).timeout_ms(TIMEOUT_MS)
}

/// One dispatch of a call at the tool. Times are those of [`steady::now_us`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Visit {
    pub(crate) key: CallKey,
    pub(crate) dispatch: String,
    pub(crate) came_us: u64,
    /// None if the tool was cancelled or died.
    pub(crate) left: Option<Left>,
}

/// How a dispatch left the tool: its work was done, and nobody had cancelled it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) at_us: u64,
    /// Whether the Runtime had one and the same connection all the while, over which the Host could have cancelled the call.
    pub(crate) connected: bool,
}

/// Where the tool writes down who comes and leaves.
pub(crate) struct Register(Lines);

impl Register {
    /// # Errors
    /// When the file can't be opened.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Lines::open(path).map(Self)
    }

    /// # Errors
    /// When the line can't be written; the call must not be held then.
    pub(crate) fn comes(&self, key: &CallKey, dispatch: &str) -> io::Result<()> {
        self.0.append(&format!("came {} {} {dispatch} {}", key.session, key.invocation, steady::now_us()))
    }

    /// # Errors
    /// When the line can't be written; the call must not be answered then.
    pub(crate) fn leaves(&self, dispatch: &str, connected: bool) -> io::Result<()> {
        let how = if connected { CONNECTED } else { "disconnected" };
        self.0.append(&format!("left {dispatch} {} {how}", steady::now_us()))
    }
}

const CONNECTED: &str = "connected";

/// Reads what the files of a folder tell, in no order. Unfinished lines are left out.
///
/// # Errors
/// When a file can't be read.
pub(crate) fn read(folder: &Path) -> anyhow::Result<Vec<Visit>> {
    let mut visits: HashMap<String, Visit> = HashMap::new();
    let mut left = Vec::new();
    for text in lines::read_all(folder)? {
        for line in text.lines() {
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["came", session, invocation, dispatch, at] => {
                    let Ok(came_us) = at.parse() else { continue };
                    let key = CallKey { session: session.into(), invocation: invocation.to_owned() };
                    let visit = Visit { key, dispatch: dispatch.to_owned(), came_us, left: None };
                    visits.insert(dispatch.to_owned(), visit);
                }
                ["left", dispatch, at, how] => {
                    let Ok(at_us) = at.parse() else { continue };
                    left.push((dispatch.to_owned(), Left { at_us, connected: how == CONNECTED }));
                }
                _ => {}
            }
        }
    }
    for (dispatch, left) in left {
        if let Some(visit) = visits.get_mut(&dispatch) {
            visit.left = Some(left);
        }
    }
    Ok(visits.into_values().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn visits_are_read_as_they_were_written_and_one_that_broke_off_has_not_left() {
        let folder = tempfile::tempdir().unwrap();
        let key = |invocation: &str| CallKey { session: "ses_1".into(), invocation: invocation.into() };
        let register = Register::open(&folder.path().join("worker-1")).unwrap();
        register.comes(&key("a"), "dsp_1").unwrap();
        register.comes(&key("b"), "dsp_2").unwrap();
        register.leaves("dsp_1", true).unwrap();
        let mut visits = read(folder.path()).unwrap();
        visits.sort_by_key(|visit| visit.came_us);
        let [first, second] = &visits[..] else { panic!("{visits:?}") };
        assert_eq!((&first.key, &second.key, second.left), (&key("a"), &key("b"), None));
        let left = first.left.unwrap();
        assert!(left.connected && left.at_us >= first.came_us, "{first:?}");
    }
}
