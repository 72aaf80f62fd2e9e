use std::{collections::BTreeMap, env, ffi::OsString, path::PathBuf};

use process_wrap::tokio::{CommandWrap, KillOnDrop, ProcessGroup};
use tokio::process::Command;

use crate::Error;

/// The variables that a child always inherits; no other one unless it is named.
const INHERITED: [&str; 4] = ["PATH", "HOME", "LANG", "TZ"];

/// How a stdio MCP server is started.
#[derive(Clone, Debug, Default)]
pub struct McpCommand {
    /// The program.
    pub program: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Variables of its environment, beside `PATH`, `HOME`, `LANG` and `TZ`; the rest of ours stays hidden.
    pub env: BTreeMap<String, String>,
    /// Further variables that it inherits.
    pub inherit: Vec<String>,
    /// The folder that it starts in; ours unless said otherwise.
    pub folder: Option<PathBuf>,
}

impl McpCommand {
    /// Takes a program and its arguments.
    ///
    /// # Errors
    /// [`Error::NoCommand`] if there is none.
    pub fn new(line: impl IntoIterator<Item = impl Into<String>>) -> Result<Self, Error> {
        let mut line = line.into_iter().map(Into::into);
        let program = line.next().filter(|program| !program.is_empty()).ok_or(Error::NoCommand)?;
        Ok(Self { program, args: line.collect(), ..Self::default() })
    }

    /// Returns the command in a process group of its own: Ctrl-C at a terminal reaches us only, and what a wrapper script
    /// started is signalled with it.
    pub(crate) fn to_group(&self) -> CommandWrap {
        let mut group = CommandWrap::from(self.to_command());
        group.wrap(ProcessGroup::leader()).wrap(KillOnDrop);
        group
    }

    fn to_command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.args).env_clear();
        let inherited = INHERITED.into_iter().chain(self.inherit.iter().map(String::as_str));
        command.envs(inherited.filter_map(|name| Some((name, env::var_os(name)?))));
        command.envs(self.env.iter().map(|(name, value)| (name, OsString::from(value))));
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_allowed_variables_pass() {
        let mut command = McpCommand::new(["true"]).expect("has a program");
        command.inherit = vec!["CARGO_MANIFEST_DIR".to_owned(), "AESP_SURELY_UNSET".to_owned()];
        command.env.insert("GIVEN".to_owned(), "1".to_owned());
        let built = command.to_command();
        let names: Vec<_> =
            built.as_std().get_envs().map(|(name, _)| name.to_str().unwrap().to_owned()).collect();
        for name in &names {
            let allowed =
                INHERITED.contains(&name.as_str()) || name == "GIVEN" || name == "CARGO_MANIFEST_DIR";
            assert!(allowed, "{name} passes");
        }
        for name in ["PATH", "GIVEN", "CARGO_MANIFEST_DIR"] {
            assert!(names.iter().any(|n| n == name), "{name} is missing");
        }
        assert!(matches!(McpCommand::new([""]), Err(Error::NoCommand)));
    }
}
