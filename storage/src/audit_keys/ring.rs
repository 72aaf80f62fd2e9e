use std::{
    any::Any,
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use aesp_proto::{PrincipalId, TenantId};

use super::{AuditKey, AuditKeyName, AuditPeriod, Opened, derive::Secret};

/// Keys of subjects that are remembered of a tenant; beyond that all are loaded again as they are needed.
const SUBJECTS: usize = 16_384;

/// What new events are sealed for.
pub(crate) type Wanted = (AuditPeriod, Option<PrincipalId>);

/// Which key seals now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Current {
    /// That of a period.
    Period(AuditPeriod),
    /// That of a principal.
    Principal(PrincipalId),
}

/// What is known of a tenant's audit keys. It holds as long as the tenant's keys have their name.
#[derive(Default)]
pub(crate) struct AuditRing(Mutex<Known>);

#[derive(Default)]
struct Known {
    sealers: HashMap<Wanted, Arc<AuditKey>>,
    openers: HashMap<Vec<u8>, Opened>,
    current: HashMap<Current, AuditKeyName>,
    secrets: HashMap<AuditKeyName, Arc<Secret>>,
    /// What others made of rows that change only together with the name of the tenant's keys.
    remembered: Option<Arc<dyn Any + Send + Sync>>,
}

impl AuditRing {
    pub(super) fn sealer(&self, wanted: &Wanted) -> Option<Arc<AuditKey>> {
        self.lock().sealers.get(wanted).cloned()
    }

    pub(super) fn learn_sealer(&self, wanted: Wanted, key: &Arc<AuditKey>) {
        let mut known = self.lock();
        known.make_room();
        known.sealers.insert(wanted, Arc::clone(key));
    }

    pub(super) fn opener(&self, id: &[u8]) -> Option<Opened> {
        self.lock().openers.get(id).cloned()
    }

    pub(super) fn learn_opener(&self, id: &[u8], opened: &Opened) {
        let mut known = self.lock();
        known.make_room();
        known.openers.insert(id.to_vec(), opened.clone());
    }

    pub(super) fn current(&self, which: &Current) -> Option<(AuditKeyName, Arc<Secret>)> {
        let known = self.lock();
        let name = known.current.get(which)?;
        known.secrets.get(name).map(|secret| (*name, Arc::clone(secret)))
    }

    pub(super) fn secret(&self, name: &AuditKeyName) -> Option<Arc<Secret>> {
        self.lock().secrets.get(name).cloned()
    }

    pub(super) fn learn_secret(&self, name: AuditKeyName, secret: &Arc<Secret>) {
        let mut known = self.lock();
        known.make_room();
        known.secrets.insert(name, Arc::clone(secret));
    }

    pub(super) fn learn_current(&self, which: Current, name: AuditKeyName, secret: &Arc<Secret>) {
        let mut known = self.lock();
        known.make_room();
        known.current.insert(which, name);
        known.secrets.insert(name, Arc::clone(secret));
    }

    pub(crate) fn remembered<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.lock().remembered.clone().and_then(|remembered| remembered.downcast().ok())
    }

    pub(crate) fn remember<T: Send + Sync + 'static>(&self, what: Arc<T>) {
        self.lock().remembered = Some(what);
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn make_room(&mut self) {
        let most = self.sealers.len().max(self.openers.len()).max(self.secrets.len());
        if most >= SUBJECTS {
            self.sealers.clear();
            self.openers.clear();
            self.current.clear();
            self.secrets.clear();
        }
    }
}

/// A key that a transaction drew, and where it will be remembered.
type Drawn = (AuditKeyName, Arc<Secret>, Arc<AuditRing>);

/// The keys that a transaction drew: known to itself, and to others once it is committed.
#[derive(Default)]
pub(crate) struct Made(HashMap<(TenantId, Current), Drawn>);

impl Made {
    pub(super) fn current(&self, tenant: TenantId, which: Current) -> Option<(AuditKeyName, Arc<Secret>)> {
        self.0.get(&(tenant, which)).map(|(name, secret, _)| (*name, Arc::clone(secret)))
    }

    pub(super) fn secret(&self, tenant: TenantId, name: AuditKeyName) -> Option<Arc<Secret>> {
        let mut all = self.0.iter();
        all.find(|((of, _), (made, ..))| *of == tenant && *made == name)
            .map(|(_, (_, secret, _))| Arc::clone(secret))
    }

    pub(super) fn add(
        &mut self,
        tenant: TenantId,
        which: Current,
        name: AuditKeyName,
        secret: &Arc<Secret>,
        ring: Arc<AuditRing>,
    ) {
        self.0.insert((tenant, which), (name, Arc::clone(secret), ring));
    }

    pub(super) fn forget(&mut self, tenant: TenantId, name: AuditKeyName) {
        self.0.retain(|(of, _), (made, ..)| *of != tenant || *made != name);
    }

    /// Lets everybody know, now that they are committed.
    pub(crate) fn committed(self) {
        for ((_, which), (name, secret, ring)) in self.0 {
            ring.learn_current(which, name, &secret);
        }
    }
}
