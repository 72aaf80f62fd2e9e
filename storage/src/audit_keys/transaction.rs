//! What transactions do with audit keys.

use std::sync::Arc;

use aesp_proto::{PrincipalId, TenantId};
use futures::future::try_join;

use super::{
    AuditDestruction, AuditKey, AuditKeyName, AuditPartition, AuditPartitionKey, AuditPeriod, AuditSubject,
    AuditSubjectKey,
    derive::Secret,
    ring::{AuditRing, Current},
};
use crate::{Error, Scan, Transaction};

/// What became of the key that sealed an event.
#[derive(Clone, Debug)]
pub enum Opened {
    /// It is there.
    Key(Arc<AuditKey>),
    /// It was destroyed.
    Destroyed(Arc<AuditDestruction>),
    /// There is none of this name, and nothing says why.
    Unknown,
}

type Named = (AuditKeyName, Arc<Secret>);

/// One of the secrets behind a key.
enum Part {
    Live(Arc<Secret>),
    Destroyed(AuditDestruction),
    Unknown,
}

impl Transaction {
    /// Returns the key that seals what is written in this period about this principal, or about nobody. Draws what of it there is not
    /// yet. What a transaction has committed is remembered: then this reads nothing but the tenant's keys.
    ///
    /// # Errors
    /// As [`tenant_keys`](Self::tenant_keys).
    pub async fn audit_sealer(
        &self,
        tenant: TenantId,
        period: AuditPeriod,
        about: Option<PrincipalId>,
    ) -> Result<Arc<AuditKey>, Error> {
        let keys = self.tenant_keys(tenant).await?;
        let (ring, wanted) = (keys.audit_ring(), (period, about));
        if let Some(key) = ring.sealer(&wanted) {
            return Ok(key);
        }
        let subject = async {
            match about {
                Some(principal) => self.current_subject(tenant, ring, principal).await.map(Some),
                None => Ok(None),
            }
        };
        let (partition, subject) = try_join(self.current_partition(tenant, ring, period), subject).await?;
        let key = Arc::new(derive(&partition, subject.as_ref())?);
        let committed = {
            let state = self.state();
            let drawn = |(name, _): &Named| state.made.secret(tenant, *name).is_some();
            !drawn(&partition) && !subject.as_ref().is_some_and(drawn)
        };
        if committed {
            ring.learn_sealer(wanted, &key);
        }
        Ok(key)
    }

    /// Returns the key of this name as it stands in an event, or what became of it.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn audit_opener(&self, tenant: TenantId, sealed_key_id: &[u8]) -> Result<Opened, Error> {
        let keys = self.tenant_keys(tenant).await?;
        if sealed_key_id == keys.audit_key().id() {
            return Ok(Opened::Key(Arc::clone(keys.audit_key())));
        }
        let ring = keys.audit_ring();
        if let Some(opened) = ring.opener(sealed_key_id) {
            return Ok(opened);
        }
        let Some((partition, subject)) = AuditKeyName::of_event(sealed_key_id) else {
            return Ok(Opened::Unknown);
        };
        let of_subject = async {
            match subject {
                Some(subject) => {
                    let part = self.part(tenant, ring, AuditKeyName::Subject(subject)).await?;
                    Ok(Some((subject, part)))
                }
                None => Ok::<_, Error>(None),
            }
        };
        let of_partition = self.part(tenant, ring, AuditKeyName::Partition(partition));
        let opened = match try_join(of_partition, of_subject).await? {
            (Part::Live(secret), None) => {
                Opened::Key(Arc::new(AuditKey::derive((partition, &secret), None)?))
            }
            (Part::Live(secret), Some((name, Part::Live(own)))) => {
                Opened::Key(Arc::new(AuditKey::derive((partition, &secret), Some((name, &own)))?))
            }
            // Who asked for it is told before what a rule would have done anyway.
            (_, Some((_, Part::Destroyed(row)))) | (Part::Destroyed(row), _) => {
                Opened::Destroyed(Arc::new(row))
            }
            _ => return Ok(Opened::Unknown),
        };
        let drawn = |name| self.state().made.secret(tenant, name).is_some();
        if !drawn(AuditKeyName::Partition(partition))
            && !subject.is_some_and(|subject| drawn(AuditKeyName::Subject(subject)))
        {
            ring.learn_opener(sealed_key_id, &opened);
        }
        Ok(opened)
    }

    async fn current_partition(
        &self,
        tenant: TenantId,
        ring: &Arc<AuditRing>,
        period: AuditPeriod,
    ) -> Result<Named, Error> {
        let which = Current::Period(period);
        if let Some(known) = self.known(tenant, ring, which) {
            return Ok(known);
        }
        let scan = Scan { prefix: AuditPartition::prefix(period), limit: 1, ..Scan::default() };
        let found = self.scan::<AuditPartitionKey>(tenant, scan).await?;
        if let Some((partition, row)) = found.first() {
            let named = (AuditKeyName::Partition(*partition), Arc::new(row.secret()?));
            ring.learn_current(which, named.0, &named.1);
            return Ok(named);
        }
        let partition = AuditPartition::new(period)?;
        let (row, secret) = AuditPartitionKey::draw()?;
        self.put_over_whole(tenant, &partition, &row).await?;
        Ok(self.drawn(tenant, ring, which, AuditKeyName::Partition(partition), secret))
    }

    async fn current_subject(
        &self,
        tenant: TenantId,
        ring: &Arc<AuditRing>,
        principal: PrincipalId,
    ) -> Result<Named, Error> {
        let which = Current::Principal(principal);
        if let Some(known) = self.known(tenant, ring, which) {
            return Ok(known);
        }
        let scan = Scan { prefix: principal.as_bytes().to_vec(), limit: 1, ..Scan::default() };
        let found = self.scan::<AuditSubjectKey>(tenant, scan).await?;
        if let Some((subject, row)) = found.first() {
            let named = (AuditKeyName::Subject(*subject), Arc::new(row.secret()?));
            ring.learn_current(which, named.0, &named.1);
            return Ok(named);
        }
        let subject = AuditSubject::new(principal)?;
        let (row, secret) = AuditSubjectKey::draw()?;
        self.put_over_whole(tenant, &subject, &row).await?;
        Ok(self.drawn(tenant, ring, which, AuditKeyName::Subject(subject), secret))
    }

    fn known(&self, tenant: TenantId, ring: &AuditRing, which: Current) -> Option<Named> {
        ring.current(&which).or_else(|| self.state().made.current(tenant, which))
    }

    fn drawn(
        &self,
        tenant: TenantId,
        ring: &Arc<AuditRing>,
        which: Current,
        name: AuditKeyName,
        secret: Secret,
    ) -> Named {
        let secret = Arc::new(secret);
        self.state().made.add(tenant, which, name, &secret, Arc::clone(ring));
        (name, secret)
    }

    async fn part(&self, tenant: TenantId, ring: &AuditRing, name: AuditKeyName) -> Result<Part, Error> {
        let known = ring.secret(&name).or_else(|| self.state().made.secret(tenant, name));
        if let Some(secret) = known {
            return Ok(Part::Live(secret));
        }
        let secret = match name {
            AuditKeyName::Partition(partition) => self
                .get::<AuditPartitionKey>(tenant, &partition)
                .await?
                .map(|row| row.secret())
                .transpose()?,
            AuditKeyName::Subject(subject) => {
                self.get::<AuditSubjectKey>(tenant, &subject).await?.map(|row| row.secret()).transpose()?
            }
        };
        if let Some(secret) = secret {
            let secret = Arc::new(secret);
            ring.learn_secret(name, &secret);
            return Ok(Part::Live(secret));
        }
        let destroyed = self.get::<AuditDestruction>(tenant, &name).await?;
        Ok(destroyed.map_or(Part::Unknown, Part::Destroyed))
    }
}

fn derive(partition: &Named, subject: Option<&Named>) -> Result<AuditKey, Error> {
    match (partition, subject) {
        ((AuditKeyName::Partition(partition), secret), None) => AuditKey::derive((*partition, secret), None),
        ((AuditKeyName::Partition(partition), secret), Some((AuditKeyName::Subject(subject), own))) => {
            AuditKey::derive((*partition, secret), Some((*subject, own)))
        }
        _ => unreachable!("the one is looked for among partitions, the other among subjects"),
    }
}
