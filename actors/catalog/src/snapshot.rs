use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use aesp_proto::{TenantId, v1};
use aesp_storage::Transaction;
use semver::Version;

use crate::{
    Compiled, Compiler, Error, Status,
    rows::{DefaultVersion, StoredContract},
};

/// The contracts in service in a tenant, compiled: its own, and those that the platform offers it. Immutable.
#[derive(Debug, Default)]
pub struct Snapshot {
    names: BTreeMap<String, Versions>,
    unusable: Vec<String>,
}

#[derive(Debug, Default)]
struct Versions {
    default: Option<Version>,
    active: HashMap<String, Arc<Compiled>>,
}

impl Snapshot {
    /// Reads the catalogue of a tenant. A contract whose schemas this build does not accept is left out.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn load(tx: &Transaction, tenant: TenantId, compiler: &Compiler) -> Result<Self, Error> {
        let mut snapshot = Self::default();
        // The tenant's own come last: should a clash have got past activation, the platform's contract does not take its name.
        if tenant != TenantId::PLATFORM {
            let platform = tx.scan_all::<StoredContract>(TenantId::PLATFORM, vec![]).await?;
            let offered = platform.into_iter().filter(|row| row.content.offered_to.contains(&tenant));
            let defaults = tx.scan_all::<DefaultVersion>(TenantId::PLATFORM, vec![]).await?;
            snapshot.add(offered, defaults, compiler);
        }
        let own = tx.scan_all::<StoredContract>(tenant, vec![]).await?;
        snapshot.add(own.into_iter(), tx.scan_all::<DefaultVersion>(tenant, vec![]).await?, compiler);
        Ok(snapshot)
    }

    fn add(
        &mut self,
        rows: impl Iterator<Item = StoredContract>,
        defaults: Vec<DefaultVersion>,
        compiler: &Compiler,
    ) {
        let mut names: HashMap<String, Versions> = HashMap::new();
        for row in rows.filter(|row| row.status == Status::Active) {
            match compiler.stored(&row) {
                Ok(compiled) => {
                    let versions = names.entry(row.content.name.clone()).or_default();
                    versions.active.insert(row.content.version.to_string(), compiled);
                }
                Err(error) => {
                    self.unusable.push(format!("{} {}: {error}", row.content.name, row.content.version))
                }
            }
        }
        for default in defaults {
            if let Some(versions) = names.get_mut(&default.name) {
                versions.default = Some(default.version);
            }
        }
        self.names.extend(names);
    }

    /// Returns the contract of this name: the version named, or else the default one.
    #[must_use]
    pub fn find(&self, name: &str, version: Option<&str>) -> Option<&Arc<Compiled>> {
        let versions = self.names.get(name)?;
        match version {
            Some(version) => versions.active.get(version),
            None => versions.active.get(&versions.default.as_ref()?.to_string()),
        }
    }

    /// Returns the default version of every name, by name.
    pub fn defaults(&self) -> impl Iterator<Item = &Arc<Compiled>> {
        self.names.keys().filter_map(|name| self.find(name, None))
    }

    /// Returns every version in service, by name.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Compiled>> {
        self.names.values().flat_map(|versions| versions.active.values())
    }

    /// Returns every version in service as Runtimes name them.
    #[must_use]
    pub fn references(&self) -> Vec<v1::ContractReference> {
        self.all().map(|compiled| compiled.contract().reference()).collect()
    }

    /// Returns what is stored as active but can't be used, and why; for the log.
    #[must_use]
    pub fn unusable(&self) -> &[String] {
        &self.unusable
    }
}
