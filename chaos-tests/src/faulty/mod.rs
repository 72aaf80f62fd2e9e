//! The program `aesp-faulty`: a node of the same code as `aesp`, whose store and actors break when a file says so. It is what the
//! scenarios run that no signal, network or disk can play; the binary that is shipped has no such file and no such code.

mod crash;
mod follow;
mod orders;

use std::{env, path::PathBuf, process::ExitCode, sync::Arc};

use aesp_node::{Build, TestBuild};
use aesp_storage::Store;

pub(crate) use self::orders::{Crash, Orders, StoreFault};
use self::{crash::Crashing, follow::Follower};

const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (TEST BUILD aesp-faulty: it breaks on purpose, never serve with it)"
);

/// The variable that names the file of a node's orders. Without it nothing breaks.
pub(crate) const ORDERS: &str = "AESP_FAULTS";

/// Runs the command that the process was started with.
#[must_use]
pub fn main() -> ExitCode {
    let crashing = Arc::new(Crashing::default());
    let before = Arc::clone(&crashing);
    let file = env::var_os(ORDERS).map(PathBuf::from);
    let test = TestBuild {
        version: VERSION,
        store: Arc::new(move |store| wrapped(&store, file.clone(), &crashing)),
        before_message: Arc::new(move |actor| before.before(actor)),
    };
    aesp_node::cli::main(Build::test(test))
}

fn wrapped(store: &Store, file: Option<PathBuf>, crashing: &Arc<Crashing>) -> Store {
    let Some(file) = file else { return store.clone() };
    let (store, engine, faults) = store.with_faults();
    tokio::spawn(Follower::new(file, engine, faults, Arc::clone(crashing)).run());
    store
}
