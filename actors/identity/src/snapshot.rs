use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use aesp_proto::{PrincipalId, TenantId, TokenId};
use aesp_storage::{Row, RowKey, Scan, Transaction, encode};

use crate::{
    Claims, Error, Principal, Refusal,
    rows::{PrincipalRow, RevokedTokenRow},
};

const ROWS_A_READ: usize = 2_000;

/// A tenant's principals and revoked tokens at one revision. Immutable; every change of rights makes a new one.
///
/// It is read in one transaction, so the store's limit of 10 MB bounds it: about 20,000 principals and revocations.
#[derive(Clone, Debug)]
pub struct Snapshot {
    tenant: TenantId,
    principals: HashMap<PrincipalId, Arc<Principal>>,
    names: HashMap<String, PrincipalId>,
    /// Ids of access tokens and of families.
    revoked: HashSet<TokenId>,
}

impl Snapshot {
    /// Loads the tenant's snapshot.
    ///
    /// # Errors
    /// The store's.
    pub async fn load(tx: &Transaction, tenant: TenantId) -> Result<Self, Error> {
        let mut principals = HashMap::new();
        let mut names = HashMap::new();
        for (id, row) in all::<PrincipalRow>(tx, tenant).await? {
            names.insert(row.name.as_str().to_owned(), id);
            principals.insert(id, Arc::new(Principal::from_row(tenant, id, row)));
        }
        let revoked = all::<RevokedTokenRow>(tx, tenant).await?.into_iter().map(|(id, _)| id).collect();
        Ok(Self { tenant, principals, names, revoked })
    }

    /// Returns whose snapshot this is.
    #[must_use]
    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// Returns a principal, a revoked one too.
    #[must_use]
    pub fn principal(&self, id: PrincipalId) -> Option<&Arc<Principal>> {
        self.principals.get(&id)
    }

    /// Returns a principal if it is active.
    #[must_use]
    pub fn active(&self, id: PrincipalId) -> Option<&Arc<Principal>> {
        self.principal(id).filter(|principal| principal.is_active())
    }

    /// Returns a principal, a revoked one too, by its name or its id.
    #[must_use]
    pub fn by_name(&self, name_or_id: &str) -> Option<&Arc<Principal>> {
        let id = name_or_id.parse().ok().or_else(|| self.names.get(name_or_id).copied())?;
        self.principal(id)
    }

    /// Returns every principal, in no order.
    pub fn principals(&self) -> impl Iterator<Item = &Arc<Principal>> {
        self.principals.values()
    }

    /// Checks that a verified token still stands: of this tenant, of an active principal, revoked neither alone, nor with
    /// its family, nor with everything that the principal held.
    ///
    /// # Errors
    /// [`Error::Token`].
    pub fn check(&self, claims: &Claims) -> Result<&Arc<Principal>, Error> {
        if claims.tenant != self.tenant {
            return Err(Error::Token(Refusal::Tenant));
        }
        let principal = self.principal(claims.principal).ok_or(Error::Token(Refusal::Unknown))?;
        if !principal.is_active() {
            return Err(Error::Token(Refusal::PrincipalRevoked));
        }
        let revoked = claims.generation < principal.generation
            || self.revoked.contains(&claims.token)
            || claims.family.is_some_and(|family| self.revoked.contains(&family));
        if revoked { Err(Error::Token(Refusal::Revoked)) } else { Ok(principal) }
    }

    /// Checks that the holder of a certificate may still act as the principal that
    /// [`certificate_principal`](crate::certificate_principal) named.
    ///
    /// # Errors
    /// [`Error::Credentials`].
    pub fn check_certificate(
        &self,
        principal: PrincipalId,
        identity: &str,
    ) -> Result<&Arc<Principal>, Error> {
        let principal = self.principal(principal).ok_or(Error::Credentials(Refusal::Unknown))?;
        if !principal.is_active() {
            return Err(Error::Credentials(Refusal::PrincipalRevoked));
        }
        if !principal.has_certificate(identity) {
            return Err(Error::Credentials(Refusal::CertificateUnbound));
        }
        Ok(principal)
    }
}

async fn all<R: Row>(tx: &Transaction, tenant: TenantId) -> Result<Vec<(R::Key, R)>, Error>
where
    R::Key: RowKey,
{
    let mut rows = Vec::new();
    loop {
        let after = rows.last().map(|(key, _)| encode(key));
        let read = tx.scan::<R>(tenant, Scan { after, limit: ROWS_A_READ, ..Scan::default() }).await?;
        let last = read.len() < ROWS_A_READ;
        rows.extend(read);
        if last {
            return Ok(rows);
        }
    }
}
