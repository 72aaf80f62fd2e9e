use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use aesp_backup::{
    Archive, Point, Progress, Restored, Scope,
    rebirth::{Descent, Reborn, rebirth},
};
use aesp_proto::{Clock, Entropy};
use aesp_storage::{LmdbEngine, LmdbOptions, Store};

use super::{
    Error, Place,
    logs::{self, Logs},
};

/// What to restore, and where to.
pub(crate) struct Wanted<'a> {
    pub(crate) at: Point,
    pub(crate) scope: Scope,
    /// Must not be there, or be empty. It is there only when everything has succeeded.
    pub(crate) into: &'a Path,
    pub(crate) options: LmdbOptions,
}

/// How far a restore has come.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// Objects of the archive are read.
    Reading(Progress),
    /// Audit logs are verified.
    Verifying(Logs),
}

/// A store that a node may start on.
pub(crate) struct Outcome {
    pub(crate) cluster: String,
    pub(crate) restored: Restored,
    pub(crate) reborn: Reborn,
    pub(crate) logs: Logs,
}

/// Restores a store, gives it its new life and verifies its audit logs; only then it appears in its folder.
///
/// # Errors
/// [`Error::Occupied`] and [`Error::Folder`] about the folder, or what is wrong with the archive. A store whose audit log does not
/// verify is left in a folder beside it, whose name ends in `.restoring`; of all other failures nothing is left.
pub(crate) async fn restore(
    place: &Place,
    wanted: Wanted<'_>,
    clock: Arc<dyn Clock>,
    entropy: &Entropy,
    told: &mut (dyn FnMut(Step) + Send),
) -> Result<Outcome, Error> {
    let archive = Archive::find(&place.target, None, place.key.clone()).await?;
    let draft = draft(wanted.into)?;
    let made = make(&archive, place, &wanted, &draft, clock, entropy, told).await;
    match &made {
        Ok(_) => publish(&draft, wanted.into)?,
        Err(Error::Log { .. }) => {}
        // The failure is what counts, not that its remains can't be removed.
        Err(_) => drop(fs::remove_dir_all(&draft)),
    }
    made
}

async fn make(
    archive: &Archive,
    place: &Place,
    wanted: &Wanted<'_>,
    draft: &Path,
    clock: Arc<dyn Clock>,
    entropy: &Entropy,
    told: &mut (dyn FnMut(Step) + Send),
) -> Result<Outcome, Error> {
    let engine = LmdbEngine::open(draft, wanted.options.clone()).await?;
    let reading = &mut |progress| told(Step::Reading(progress));
    let restored = archive.restore(wanted.at, wanted.scope, &engine, reading).await?;
    let provider = Arc::clone(&place.key.provider);
    let store = Store::new(Arc::new(engine), provider, Arc::clone(&clock), entropy.clone());
    store.initialise().await?;
    let cluster = archive.cluster().to_string();
    let descent = Descent {
        cause: "restore",
        life: format!("{cluster}/{}", restored.version_base),
        cluster: cluster.clone(),
        version: restored.version.0,
        time: restored.time,
    };
    // The folder has a name that no node knows yet.
    let reborn = rebirth(&store, Arc::clone(&clock), entropy, &descent, Duration::ZERO).await?;
    let logs = logs::check(&store, &*clock, &mut |logs| told(Step::Verifying(logs))).await?;
    // The environment closes with the store, before its folder gets another name.
    Ok(Outcome { cluster, restored, reborn, logs })
}

/// Makes the folder that is restored into, beside the one that was asked for.
fn draft(into: &Path) -> Result<PathBuf, Error> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Folder { path, source }
    };
    match fs::read_dir(into) {
        Ok(mut entries) => {
            if entries.next().is_some() {
                return Err(Error::Occupied(into.to_owned()));
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(into)(error)),
    }
    let mut name = into.as_os_str().to_owned();
    name.push(".restoring");
    let draft = PathBuf::from(name);
    if let Some(parent) = draft.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent).map_err(failed(parent))?;
    }
    match fs::create_dir(&draft) {
        Ok(()) => Ok(draft),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(Error::Occupied(draft)),
        Err(error) => Err(failed(&draft)(error)),
    }
}

/// Gives the restored store its name, durably. An empty folder of that name makes way.
fn publish(draft: &Path, into: &Path) -> Result<(), Error> {
    let failed = |source| Error::Folder { path: into.to_owned(), source };
    fs::rename(draft, into).map_err(failed)?;
    let parent = into.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new("."))).and_then(|folder| folder.sync_all()).map_err(failed)
}
