use aesp_proto::{HoldId, PrincipalId, TenantId, Timestamp};
use aesp_storage::{AuditPeriod, Kind, Row, Scan, Transaction};
use serde::{Deserialize, Serialize};

use crate::Error;

/// Holds of one tenant: all of them are read wherever something may be destroyed.
const MOST: usize = 1_000;
/// Bytes of a reason.
const REASON_BYTES: usize = 1_000;

/// A legal hold: what it covers is not erased while it is active, whatever rules and people say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hold {
    /// What it covers.
    pub scope: HoldScope,
    /// Why it was placed.
    pub reason: String,
    /// When.
    pub placed_at: Timestamp,
    /// By whom.
    pub placed_by: PrincipalId,
    /// Whether that is an operator of the platform: then nobody else releases it.
    pub of_platform: bool,
    /// How it ended.
    pub released: Option<Released>,
}

/// What a hold covers: the whole log of a tenant, what concerns one principal, what is of some time, or both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HoldScope {
    /// Only what concerns this principal.
    pub principal: Option<PrincipalId>,
    /// Only from this time on.
    pub from: Option<Timestamp>,
    /// Only before this time.
    pub to: Option<Timestamp>,
}

/// The end of a hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Released {
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub by: PrincipalId,
    /// Why.
    pub reason: String,
}

impl Row for Hold {
    const KIND: Kind = Kind::LEGAL_HOLD;
    type Key = HoldId;
}

impl Hold {
    /// Tells whether it holds.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.released.is_none()
    }
}

impl HoldScope {
    /// Tells whether something of the period may be covered.
    #[must_use]
    pub fn meets(&self, period: AuditPeriod) -> bool {
        let ordered = self.from.zip(self.to).is_none_or(|(from, to)| from < to);
        ordered
            && self.from.is_none_or(|from| from < period.end())
            && self.to.is_none_or(|to| to > period.start())
    }
}

/// A hold as it is placed.
#[derive(Clone, Debug)]
pub struct NewHold {
    /// What it covers.
    pub scope: HoldScope,
    /// Why.
    pub reason: String,
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub by: PrincipalId,
    /// Whether that is an operator of the platform.
    pub of_platform: bool,
}

/// Places a hold.
///
/// # Errors
/// [`Error::Invalid`] without a reason, with times in the wrong order, or beyond 1,000 holds; the store's.
pub async fn place_hold(tx: &Transaction, tenant: TenantId, id: HoldId, new: NewHold) -> Result<Hold, Error> {
    check_reason(&new.reason)?;
    if let HoldScope { from: Some(from), to: Some(to), .. } = new.scope
        && from >= to
    {
        return Err(Error::Invalid("a hold's time begins before it ends".into()));
    }
    if holds(tx, tenant).await?.len() >= MOST {
        return Err(Error::Invalid(format!("a tenant has at most {MOST} legal holds")));
    }
    let hold = Hold {
        scope: new.scope,
        reason: new.reason,
        placed_at: new.at,
        placed_by: new.by,
        of_platform: new.of_platform,
        released: None,
    };
    tx.put(tenant, &id, &hold).await?;
    Ok(hold)
}

/// Ends a hold. It stays in the list. One of the platform ends by an operator of the platform only.
///
/// # Errors
/// [`Error::NoHold`], [`Error::Platform`], [`Error::Invalid`] without a reason, or the store's.
pub async fn release_hold(
    tx: &Transaction,
    tenant: TenantId,
    id: HoldId,
    released: Released,
    of_platform: bool,
) -> Result<Hold, Error> {
    check_reason(&released.reason)?;
    let hold = tx.get::<Hold>(tenant, &id).await?.filter(Hold::is_active).ok_or(Error::NoHold)?;
    if hold.of_platform && !of_platform {
        return Err(Error::Platform(id));
    }
    let hold = Hold { released: Some(released), ..hold };
    tx.put(tenant, &id, &hold).await?;
    Ok(hold)
}

/// Returns all holds of a tenant, those that ended included. A hold that is placed meanwhile conflicts.
///
/// # Errors
/// The store's. One that can't be read is one, too: then nothing may be destroyed.
pub async fn holds(tx: &Transaction, tenant: TenantId) -> Result<Vec<(HoldId, Hold)>, Error> {
    Ok(tx.scan::<Hold>(tenant, Scan { limit: MOST + 1, ..Scan::default() }).await?)
}

pub(crate) fn check_reason(reason: &str) -> Result<(), Error> {
    if reason.trim().is_empty() {
        return Err(Error::Invalid("a reason must be given".into()));
    }
    if reason.len() > REASON_BYTES {
        return Err(Error::Invalid(format!("a reason has at most {REASON_BYTES} bytes")));
    }
    Ok(())
}
