use aesp_proto::{TenantId, Timestamp};
use aesp_storage::{Blind, Kind, Row, Scan, Transaction};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use crate::{Error, Registration, Registrations};

const MAX_ID_BYTES: usize = 128;
const MAX_IDENTITY_BYTES: usize = 512;
const MAX_LIST: usize = 10_000;

/// A registration as it is stored, under the platform, by the blind index of its `runtime_id`.
#[derive(Serialize, Deserialize)]
struct RegistrationRow {
    runtime_id: String,
    certificate_identity: String,
    tenants: Vec<TenantId>,
    contracts: Vec<String>,
    zones: Vec<String>,
    created_at: Timestamp,
    revoked: bool,
}

impl Row for RegistrationRow {
    const KIND: Kind = Kind::RUNTIME_REGISTRATION;
    type Key = Blind;
}

impl From<RegistrationRow> for Registration {
    fn from(row: RegistrationRow) -> Self {
        let RegistrationRow {
            runtime_id,
            certificate_identity,
            tenants,
            contracts,
            zones,
            created_at,
            revoked,
        } = row;
        Self { runtime_id, certificate_identity, tenants, contracts, zones, created_at, revoked }
    }
}

impl From<Registration> for RegistrationRow {
    fn from(registration: Registration) -> Self {
        let Registration { runtime_id, certificate_identity, tenants, contracts, zones, created_at, revoked } =
            registration;
        Self { runtime_id, certificate_identity, tenants, contracts, zones, created_at, revoked }
    }
}

async fn key(tx: &Transaction, runtime_id: &str) -> Result<Blind, Error> {
    Ok(tx.blind(TenantId::PLATFORM, Kind::RUNTIME_REGISTRATION, runtime_id).await?)
}

/// Registers a Runtime, or changes what its certificate may serve. Bumps the platform's revision.
///
/// # Errors
/// [`Error::Invalid`] for a malformed registration, [`Error::Taken`] if another certificate identity has the `runtime_id`,
/// and the store's.
pub async fn register(tx: &Transaction, mut registration: Registration) -> Result<Registration, Error> {
    check(&registration)?;
    let key = key(tx, &registration.runtime_id).await?;
    if let Some(stored) = tx.get::<RegistrationRow>(TenantId::PLATFORM, &key).await?
        && !stored.revoked
    {
        if stored.certificate_identity != registration.certificate_identity {
            return Err(Error::Taken(registration.runtime_id));
        }
        registration.created_at = stored.created_at;
    }
    registration.revoked = false;
    tx.put(TenantId::PLATFORM, &key, &RegistrationRow::from(registration.clone())).await?;
    tx.bump_revision(TenantId::PLATFORM).await?;
    Ok(registration)
}

/// Ends a registration. Its row stays, for the record. Bumps the platform's revision. Close its connections after the commit.
///
/// # Errors
/// [`Error::NotRegistered`], and the store's.
pub async fn revoke(tx: &Transaction, runtime_id: &str) -> Result<Registration, Error> {
    let key = key(tx, runtime_id).await?;
    let stored = tx.get::<RegistrationRow>(TenantId::PLATFORM, &key).await?.filter(|row| !row.revoked);
    let mut row = stored.ok_or_else(|| Error::NotRegistered(runtime_id.to_owned()))?;
    row.revoked = true;
    tx.use_reserve();
    tx.put(TenantId::PLATFORM, &key, &row).await?;
    tx.bump_revision(TenantId::PLATFORM).await?;
    Ok(row.into())
}

/// Returns up to `limit` registrations after `cursor` (empty: from the first), and the cursor of the next page (empty: none).
///
/// # Errors
/// [`Error::Invalid`] for a cursor that is none, and the store's.
pub async fn list(
    tx: &Transaction,
    cursor: &str,
    limit: usize,
) -> Result<(Vec<Registration>, String), Error> {
    let after =
        HEXLOWER.decode(cursor.as_bytes()).map_err(|_| Error::Invalid("the cursor is not one".to_owned()))?;
    let after = (!after.is_empty()).then_some(after);
    let limit = limit.clamp(1, MAX_LIST);
    let scan = Scan { after, limit: limit + 1, ..Scan::default() };
    let mut rows = tx.scan::<RegistrationRow>(TenantId::PLATFORM, scan).await?;
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next = rows.last().filter(|_| more).map(|(key, _)| HEXLOWER.encode(&key.0)).unwrap_or_default();
    Ok((rows.into_iter().map(|(_, row)| row.into()).collect(), next))
}

impl Registrations {
    /// Reads every registration.
    ///
    /// # Errors
    /// The store's.
    pub async fn load(tx: &Transaction) -> Result<Self, Error> {
        let mut all = Vec::new();
        let mut cursor = String::new();
        loop {
            let (page, next) = list(tx, &cursor, MAX_LIST).await?;
            all.extend(page);
            if next.is_empty() {
                return Ok(all.into_iter().collect());
            }
            cursor = next;
        }
    }
}

fn check(registration: &Registration) -> Result<(), Error> {
    let invalid = |text: &str| Err(Error::Invalid(text.to_owned()));
    let printable = |text: &str, limit: usize| {
        !text.is_empty() && text.len() <= limit && text.chars().all(|c| c.is_ascii_graphic())
    };
    if !printable(&registration.runtime_id, MAX_ID_BYTES) {
        return invalid("runtime_id must be 1 to 128 visible ASCII characters");
    }
    if !printable(&registration.certificate_identity, MAX_IDENTITY_BYTES) {
        return invalid("certificate_identity must be a SPIFFE id or DNS name of at most 512 characters");
    }
    if registration.tenants.is_empty() || registration.tenants.contains(&TenantId::PLATFORM) {
        return invalid("tenant_ids must name at least one tenant, and never the platform");
    }
    if registration.contracts.is_empty()
        || !registration.contracts.iter().all(|name| printable(name, MAX_ID_BYTES))
    {
        return invalid("contracts must name at least one contract, or be \"*\"");
    }
    if !registration.zones.iter().all(|zone| printable(zone, MAX_ID_BYTES)) {
        return invalid("security_zones must be 1 to 128 visible ASCII characters each");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use aesp_storage::Store;

    use super::*;

    fn git(identity: &str) -> Registration {
        Registration {
            runtime_id: "git".to_owned(),
            certificate_identity: identity.to_owned(),
            tenants: vec![TenantId::from_bytes([1; 16])],
            contracts: vec!["*".to_owned()],
            zones: Vec::new(),
            created_at: Timestamp(1),
            revoked: false,
        }
    }

    async fn registered(store: &Store, registration: Registration) -> Result<Registration, Error> {
        store
            .run(move |tx| {
                let registration = registration.clone();
                Box::pin(async move { register(tx, registration).await })
            })
            .await
    }

    async fn loaded(store: &Store) -> Registrations {
        store.run(|tx| Box::pin(async move { Registrations::load(tx).await })).await.unwrap()
    }

    #[tokio::test]
    async fn a_runtime_id_belongs_to_one_identity_until_it_is_revoked() {
        let store = Store::for_tests();
        registered(&store, git("spiffe://acme/git")).await.unwrap();
        let before =
            store.run(|tx| Box::pin(async move { Ok::<_, Error>(tx.revision(TenantId::PLATFORM).await?) }));
        let before = before.await.unwrap();
        let other = registered(&store, git("spiffe://globex/git")).await;
        assert!(matches!(other, Err(Error::Taken(_))), "{other:?}");
        assert_eq!(loaded(&store).await.get("git").unwrap().certificate_identity, "spiffe://acme/git");

        let revoked = store.run(|tx| Box::pin(async move { revoke(tx, "git").await })).await.unwrap();
        assert!(revoked.revoked);
        assert!(loaded(&store).await.get("git").is_none());
        let after =
            store.run(|tx| Box::pin(async move { Ok::<_, Error>(tx.revision(TenantId::PLATFORM).await?) }));
        assert!(after.await.unwrap() > before, "snapshots must be read again");
        let again = store.run(|tx| Box::pin(async move { revoke(tx, "git").await })).await;
        assert!(matches!(again, Err(Error::NotRegistered(_))));
        registered(&store, git("spiffe://globex/git")).await.unwrap();
    }

    #[tokio::test]
    async fn lists_in_pages() {
        let store = Store::for_tests();
        for n in 0..5 {
            let one = Registration { runtime_id: format!("git-{n}"), ..git("spiffe://acme/git") };
            registered(&store, one).await.unwrap();
        }
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let at = cursor.clone();
            let page = store.run(move |tx| {
                let at = at.clone();
                Box::pin(async move { list(tx, &at, 2).await })
            });
            let (page, next) = page.await.unwrap();
            seen.extend(page.into_iter().map(|one| one.runtime_id));
            if next.is_empty() {
                break;
            }
            cursor = next;
        }
        seen.sort();
        assert_eq!(seen, ["git-0", "git-1", "git-2", "git-3", "git-4"]);
    }

    #[tokio::test]
    async fn what_is_malformed_is_refused() {
        let store = Store::for_tests();
        for wrong in [
            Registration { runtime_id: String::new(), ..git("spiffe://acme/git") },
            Registration { certificate_identity: "a b".to_owned(), ..git("") },
            Registration { tenants: Vec::new(), ..git("spiffe://acme/git") },
            Registration { tenants: vec![TenantId::PLATFORM], ..git("spiffe://acme/git") },
            Registration { contracts: Vec::new(), ..git("spiffe://acme/git") },
        ] {
            assert!(matches!(registered(&store, wrong).await, Err(Error::Invalid(_))));
        }
    }
}
