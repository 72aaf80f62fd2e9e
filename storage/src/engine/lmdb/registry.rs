use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock, Mutex, PoisonError, Weak},
    time::Duration,
};

use super::{
    Inner, LmdbOptions,
    environment::{Environment, explain, prepare},
    journal::state,
};
use crate::Error;

/// The engines of this process. LMDB must not be opened twice: it would lose its locks when one is closed.
static OPEN: LazyLock<Mutex<HashMap<PathBuf, Weak<Inner>>>> = LazyLock::new(Mutex::default);

/// How long to wait for an earlier engine on the same folder to close.
const CLOSING_TIME: Duration = Duration::from_secs(5);

/// Opens the environment, or joins the engine that has it open already.
pub(super) fn open(path: &Path, options: &LmdbOptions) -> Result<Arc<Inner>, Error> {
    let path = prepare(path)?;
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(inner) = open.get(&path).and_then(Weak::upgrade) {
        return Ok(inner);
    }
    let environment = match Environment::open(&path, options) {
        Err(heed::Error::EnvAlreadyOpened) => {
            // The last snapshot of an earlier engine is about to go.
            if let Some(closing) = heed::env_closing_event(&path) {
                closing.wait_timeout(CLOSING_TIME);
            }
            Environment::open(&path, options)
        }
        other => other,
    };
    let environment = environment.map_err(explain)?;
    refuse_half_restored(&environment)?;
    let inner = Arc::new(Inner::start(environment, options)?);
    open.retain(|_, inner| inner.strong_count() > 0);
    open.insert(path, Arc::downgrade(&inner));
    Ok(inner)
}

fn refuse_half_restored(environment: &Environment) -> Result<(), Error> {
    let txn = environment.env.read_txn().map_err(explain)?;
    if state::is_restoring(environment, &txn).map_err(explain)? {
        return Err(Error::damaged(
            "a restore into this folder has not finished",
            "wait for it, or remove the folder and restore again",
        ));
    }
    Ok(())
}
