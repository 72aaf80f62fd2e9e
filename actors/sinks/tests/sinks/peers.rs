//! Finding and running the programs of others. Without one, its tests are skipped on a developer's machine and fail in CI;
//! `scripts/install-peers` installs them.

use std::{
    fs::File,
    net::TcpListener,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// Returns the program if it is there.
pub(crate) fn program(variable: &str, folder: &str, name: &str) -> Option<PathBuf> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let named = std::env::var_os(variable).map(PathBuf::from);
    let own = home.map(|home| home.join(".cache/aesp").join(folder).join("bin"));
    let folders = named.into_iter().chain(own).chain(["/usr/bin", "/usr/sbin"].map(PathBuf::from));
    let found = folders.map(|folder| folder.join(name)).find(|program| program.exists());
    if found.is_none() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "skipped in CI: {name} is not installed");
        println!("SKIPPED: {name} is not installed; run scripts/install-peers");
    }
    found
}

/// A process of the test's own, with its output in a file.
pub(crate) struct Peer(Child);

impl Peer {
    pub(crate) fn start(command: &mut Command, log: &Path) -> Self {
        let log = File::options().create(true).append(true).open(log).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).process_group(0);
        Self(command.spawn().unwrap())
    }

    /// Asks it to end, and waits until it has.
    pub(crate) fn terminate(mut self) {
        let told = Command::new("kill").arg(self.0.id().to_string()).status().unwrap();
        assert!(told.success());
        self.0.wait().unwrap();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

pub(crate) fn free_ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}
