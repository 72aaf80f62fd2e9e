use aesp_proto::{TenantId, Timestamp, TokenId};
use aesp_storage::{Scan, Transaction, encode};

use crate::{
    Error,
    revocation::MARGIN,
    rows::{RefreshFamilyRow, RevokedTokenRow},
};

const ROWS_A_STEP: usize = 500;

/// Where the next step of a sweep starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sweep {
    /// Among revoked tokens, after this one.
    #[default]
    Start,
    /// Among revoked tokens, after this one.
    RevokedTokens(TokenId),
    /// Among refresh families, from the first.
    FirstFamily,
    /// Among refresh families, after this one.
    Families(TokenId),
}

/// Deletes what has ended by itself more than ten minutes ago: revocations of tokens that are over, and refresh families. One
/// step, of one transaction's size; returns where the next one starts, nothing when the tenant is done. No right changes.
///
/// # Errors
/// The store's.
pub async fn sweep(
    tx: &Transaction,
    tenant: TenantId,
    from: Sweep,
    now: Timestamp,
) -> Result<Option<Sweep>, Error> {
    let scan = |after: Option<TokenId>| Scan {
        after: after.as_ref().map(encode),
        limit: ROWS_A_STEP,
        ..Scan::default()
    };
    match from {
        Sweep::Start | Sweep::RevokedTokens(_) => {
            let after = if let Sweep::RevokedTokens(id) = from { Some(id) } else { None };
            let rows = tx.scan::<RevokedTokenRow>(tenant, scan(after)).await?;
            // `until` has its margin already.
            for (id, _) in rows.iter().filter(|(_, row)| row.until < now) {
                tx.delete::<RevokedTokenRow>(tenant, id).await?;
            }
            Ok(Some(next(&rows).map_or(Sweep::FirstFamily, Sweep::RevokedTokens)))
        }
        Sweep::FirstFamily | Sweep::Families(_) => {
            let after = if let Sweep::Families(id) = from { Some(id) } else { None };
            let rows = tx.scan::<RefreshFamilyRow>(tenant, scan(after)).await?;
            for (id, _) in rows.iter().filter(|(_, row)| row.expires_at.plus(MARGIN) < now) {
                tx.delete::<RefreshFamilyRow>(tenant, id).await?;
            }
            Ok(next(&rows).map(Sweep::Families))
        }
    }
}

fn next<R>(rows: &[(TokenId, R)]) -> Option<TokenId> {
    if rows.len() < ROWS_A_STEP { None } else { rows.last().map(|(id, _)| *id) }
}
