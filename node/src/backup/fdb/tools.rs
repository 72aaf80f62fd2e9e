use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use aesp_storage::FdbTls;
use tokio::{process::Command, time::timeout};

use super::super::Error;
use crate::config;

/// FoundationDB's programs, and what they are given: nothing of this process's environment but `PATH`.
#[derive(Clone, Debug)]
pub(crate) struct Tools {
    programs: PathBuf,
    agent: PathBuf,
    environment: Vec<(OsString, OsString)>,
}

/// For how long a program that only looks may take.
pub(super) const LOOKED_WITHIN: Duration = Duration::from_secs(60);

/// The end of what a program said that is repeated.
const REPEATED_BYTES: usize = 600;

impl Tools {
    /// Takes the programs that the section names.
    ///
    /// # Errors
    /// [`Error::Program`] if one is not there.
    pub(super) fn of(
        section: &config::BackupFdb,
        tls: Option<&FdbTls>,
        credentials: Option<&Path>,
    ) -> Result<Self, Error> {
        let mut environment = Vec::new();
        let mut give = |name: &str, value: &OsStr| environment.push((name.into(), value.to_owned()));
        if let Some(path) = std::env::var_os("PATH") {
            give("PATH", &path);
        }
        if let Some(tls) = tls {
            give("FDB_TLS_CERTIFICATE_FILE", tls.certificate.as_os_str());
            give("FDB_TLS_KEY_FILE", tls.key.as_os_str());
            give("FDB_TLS_CA_FILE", tls.ca.as_os_str());
            if let Some(rule) = &tls.verify_peers {
                give("FDB_TLS_VERIFY_PEERS", rule.as_ref());
            }
        }
        if let Some(file) = credentials {
            give("FDB_BLOB_CREDENTIALS", file.as_os_str());
        }
        let tools = Self { programs: section.programs.clone(), agent: section.agent.clone(), environment };
        let agent = (section.agents > 0).then_some(&tools.agent);
        for program in [&tools.path("fdbbackup"), &tools.path("fdbrestore")].into_iter().chain(agent) {
            std::fs::metadata(program).map_err(|source| Error::program(program, source))?;
        }
        Ok(tools)
    }

    #[cfg(test)]
    pub(super) fn unchecked(section: &config::BackupFdb) -> Self {
        Self { programs: section.programs.clone(), agent: section.agent.clone(), environment: Vec::new() }
    }

    fn path(&self, program: &str) -> PathBuf {
        self.programs.join(program)
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().envs(self.environment.iter().cloned()).stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Returns the command of an agent that works for a cluster.
    pub(super) fn agent(&self, cluster_file: &Path) -> Command {
        let mut command = self.command(&self.agent);
        command.arg("-C").arg(cluster_file).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    pub(super) fn agent_path(&self) -> &Path {
        &self.agent
    }

    /// Runs `fdbbackup` and returns what it prints.
    ///
    /// # Errors
    /// [`Error::Program`], [`Error::Silent`] or [`Error::Tool`].
    pub(super) async fn backup<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<String, Error> {
        self.ask("fdbbackup", arguments, LOOKED_WITHIN).await
    }

    /// Runs `fdbrestore` and returns what it prints.
    ///
    /// # Errors
    /// As [`backup`](Self::backup).
    pub(super) async fn restore<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
        patience: Duration,
    ) -> Result<String, Error> {
        self.ask("fdbrestore", arguments, patience).await
    }

    async fn ask<A: AsRef<OsStr>>(
        &self,
        name: &'static str,
        arguments: impl IntoIterator<Item = A>,
        patience: Duration,
    ) -> Result<String, Error> {
        let program = self.path(name);
        let mut command = self.command(&program);
        command.args(arguments);
        let run = timeout(patience, command.output()).await;
        let output = run.map_err(|_| Error::Silent { program: name, seconds: patience.as_secs() })?;
        let output = output.map_err(|source| Error::program(&program, source))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let told = text(&output.stdout);
        if output.status.success() {
            return Ok(told);
        }
        // Some of its errors stand where its answers do.
        let errors = text(&output.stderr);
        let said = end(if errors.trim().is_empty() { &told } else { &errors }).to_owned();
        Err(Error::Tool { program: name, said, status: output.status.to_string() })
    }
}

/// Returns the end of a text, in whole characters.
fn end(text: &str) -> &str {
    let text = text.trim();
    let mut from = text.len().saturating_sub(REPEATED_BYTES);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    &text[from..]
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    /// Programs that are this shell script.
    fn tools(script: &str) -> (tempfile::TempDir, Tools) {
        let folder = tempfile::tempdir().unwrap();
        for name in ["fdbbackup", "fdbrestore"] {
            let path = folder.path().join(name);
            fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let section = config::BackupFdb { programs: folder.path().into(), agents: 0, ..Default::default() };
        let tools = Tools::of(&section, None, Some(Path::new("/blob.json"))).unwrap();
        (folder, tools)
    }

    #[tokio::test]
    async fn a_program_hears_its_arguments_and_nothing_else() {
        let (_folder, tools) = tools("echo \"$1 $FDB_BLOB_CREDENTIALS $CARGO_PKG_NAME\"");
        assert_eq!(tools.backup(["status"]).await.unwrap(), "status /blob.json \n");
    }

    #[tokio::test]
    async fn what_a_program_complains_of_is_told() {
        let (_folder, failing) = tools("echo 'ERROR: no such tag' >&2; exit 3");
        let error = failing.backup(["status"]).await.unwrap_err().to_string();
        assert!(error.contains("fdbbackup") && error.contains("ERROR: no such tag"), "{error}");
        let (_folder, silent) = tools("sleep 60");
        let error = silent.restore(["wait"], Duration::from_millis(50)).await.unwrap_err();
        assert!(matches!(error, Error::Silent { program: "fdbrestore", .. }), "{error}");
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let section = config::BackupFdb { programs: "/nowhere".into(), ..Default::default() };
        let error = Tools::of(&section, None, None).unwrap_err().to_string();
        assert!(error.contains("/nowhere/fdbbackup"), "{error}");
        assert_eq!(end(&format!("{}ü", "x".repeat(REPEATED_BYTES - 1))).len(), REPEATED_BYTES);
    }
}
