use std::{
    ffi::c_int,
    fs::File,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use foundationdb::{
    FdbError,
    api::{FdbApiBuilder, NetworkAutoStop},
    options::NetworkOption,
};

use super::{FdbOptions, FdbTls, library};
use crate::Error;

/// The client's event loop. The C library allows one in the life of a process, and its settings are the process's.
static NETWORK: Mutex<Network> = Mutex::new(Network::New);

enum Network {
    New,
    Running {
        settings: Settings,
        _stop: NetworkAutoStop,
    },
    /// Can't be started again.
    Over(Error),
}

/// What all clusters of a process share.
#[derive(Clone, PartialEq, Eq)]
struct Settings {
    library: Option<PathBuf>,
    tls: Option<FdbTls>,
}

/// Loads the library and starts the event loop, or finds them as wanted.
///
/// # Errors
/// [`Error::Unavailable`], which says what to do.
pub(super) fn start(options: &FdbOptions) -> Result<(), Error> {
    let settings = Settings { library: options.library.clone(), tls: options.tls.clone() };
    let mut network = lock();
    match &*network {
        Network::Running { settings: running, .. } if *running == settings => return Ok(()),
        Network::Running { .. } => {
            return Err(Error::unavailable(
                "this process talks to FoundationDB with another library or other TLS files; use one process for each",
            ));
        }
        Network::Over(error) => return Err(error.clone()),
        Network::New => {}
    }
    if let Some(tls) = &settings.tls {
        readable("certificate", &tls.certificate)?;
        readable("key", &tls.key)?;
        readable("ca", &tls.ca)?;
    }
    library::load(settings.library.as_deref())?;
    match boot(settings.tls.as_ref()) {
        Ok(stop) => {
            *network = Network::Running { settings, _stop: stop };
            Ok(())
        }
        Err(error) => {
            let error = Error::unavailable(format!(
                "the FoundationDB client could not be started: {error}; correct store.fdb and start again"
            ));
            *network = Network::Over(error.clone());
            Err(error)
        }
    }
}

#[expect(unsafe_code, reason = "the event loop is written in C")]
fn boot(tls: Option<&FdbTls>) -> Result<NetworkAutoStop, FdbError> {
    let mut builder = FdbApiBuilder::default().build()?;
    if let Some(tls) = tls {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        builder = builder
            .set_option(NetworkOption::TLSCertPath(text(&tls.certificate)))?
            .set_option(NetworkOption::TLSKeyPath(text(&tls.key)))?
            .set_option(NetworkOption::TLSCaPath(text(&tls.ca)))?;
        if let Some(rule) = &tls.verify_peers {
            builder = builder.set_option(NetworkOption::TLSVerifyPeers(rule.clone().into_bytes()))?;
        }
    }
    // SAFETY: `stop` ends the loop before the process does. If it can't be registered, the loop is ended here.
    let network = unsafe { builder.boot() }?;
    if !stop_at_exit() {
        drop(network);
        return Err(FdbError::from_code(OPERATION_FAILED));
    }
    Ok(network)
}

/// Has the event loop ended when the process exits, before anything is cleaned up that the library has made until now: what was
/// registered last runs first. So it is called again whenever the library may have made more. Tells whether that worked.
#[expect(unsafe_code, reason = "the end of a process is told in C")]
pub(super) fn stop_at_exit() -> bool {
    unsafe extern "C" {
        fn atexit(function: extern "C" fn()) -> c_int;
    }
    // SAFETY: `stop` is a function of the program itself, which is never unloaded; it does nothing the second time.
    unsafe { atexit(stop) == 0 }
}

/// FoundationDB's `operation_failed`.
const OPERATION_FAILED: i32 = 1000;

/// Ends the event loop and waits for its thread. Nothing can be opened in this process any more.
pub(super) extern "C" fn stop() {
    let mut network = lock();
    if matches!(*network, Network::New) {
        return;
    }
    let over = Network::Over(Error::unavailable("the process is ending"));
    // Dropped after the lock: it waits for the event loop, which may be at the end of somebody's future.
    let ended = std::mem::replace(&mut *network, over);
    drop(network);
    drop(ended);
}

fn lock() -> MutexGuard<'static, Network> {
    NETWORK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The library would say nothing about a file that it can't read, and never connect.
fn readable(what: &str, path: &Path) -> Result<(), Error> {
    match File::open(path) {
        Ok(_) => Ok(()),
        Err(error) => Err(Error::unavailable(format!(
            "can't read {} for TLS to FoundationDB: {error}; correct store.fdb.{what} or the file's permissions",
            path.display()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let error = readable("ca", Path::new("/nowhere/ca.pem")).unwrap_err().to_string();
        assert!(error.contains("can't read /nowhere/ca.pem"), "{error}");
        assert!(error.ends_with("correct store.fdb.ca or the file's permissions"), "{error}");
    }
}
