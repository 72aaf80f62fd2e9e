//! Whom people tell to be quiet, and what they take care of.

use std::time::Duration;

use aesp_proto::{AlertId, PrincipalId, SilenceId, TenantId, Timestamp};
use aesp_storage::Transaction;

use super::TEXT_BYTES;
use crate::{Acknowledged, Alert, Error, LabelMatcher, Silence, group::BY_HAND, rows::touch};

const SILENCES: usize = 200;
const MATCHERS: usize = 20;
const LONGEST_SILENCE: Duration = Duration::from_secs(366 * 86_400);

/// What a silence is to be.
#[derive(Clone, Debug)]
pub struct SilenceDraft {
    /// Its id.
    pub id: SilenceId,
    /// Which alerts: all must fit.
    pub matchers: Vec<LabelMatcher>,
    /// Until when.
    pub until: Timestamp,
    /// Why.
    pub reason: String,
}

/// What somebody says of an alert.
#[derive(Clone, Debug)]
pub struct Acknowledgement {
    /// Who.
    pub by: PrincipalId,
    /// When.
    pub at: Timestamp,
    /// What they say.
    pub note: String,
    /// Whether it is over.
    pub resolve: bool,
}

/// Says that somebody takes care of an alert, or that it is over.
///
/// # Errors
/// [`Error::Unknown`], [`Error::Invalid`] if it is over already, or the store's.
pub async fn acknowledge(
    tx: &Transaction,
    tenant: TenantId,
    id: AlertId,
    said: &Acknowledgement,
) -> Result<Alert, Error> {
    if said.note.len() > TEXT_BYTES {
        return Err(Error::Invalid(format!("the note has more than {TEXT_BYTES} bytes")));
    }
    let alert = tx.get::<Alert>(tenant, &id).await?;
    let mut alert = alert.ok_or(Error::Unknown("alert"))?;
    if !alert.is_firing() {
        return Err(Error::Invalid("the alert is over".into()));
    }
    alert.acknowledged = Some(Acknowledged { by: said.by, at: said.at, note: said.note.clone() });
    if said.resolve {
        (alert.ended, alert.ended_because) = (Some(said.at), BY_HAND.to_owned());
    }
    tx.put(tenant, &id, &alert).await?;
    touch(tx, tenant, None).await?;
    Ok(alert)
}

/// Begins a silence.
///
/// # Errors
/// [`Error::Invalid`], or the store's.
pub async fn silence(
    tx: &Transaction,
    tenant: TenantId,
    draft: &SilenceDraft,
    (author, now): (PrincipalId, Timestamp),
) -> Result<Silence, Error> {
    if draft.matchers.is_empty() || draft.matchers.len() > MATCHERS {
        return Err(Error::Invalid(format!(
            "a silence has 1 to {MATCHERS} matchers: it says which alerts it is about"
        )));
    }
    if draft.until <= now || draft.until > now.plus(LONGEST_SILENCE) {
        return Err(Error::Invalid("a silence ends within a year".into()));
    }
    if draft.reason.trim().is_empty() || draft.reason.len() > TEXT_BYTES {
        return Err(Error::Invalid(format!("a silence has a reason of at most {TEXT_BYTES} bytes")));
    }
    if list_silences(tx, tenant, Some(now)).await?.len() >= SILENCES {
        return Err(Error::Invalid(format!("there are {SILENCES} silences already: end some")));
    }
    let SilenceDraft { id, matchers, until, reason } = draft.clone();
    let silence = Silence { id, matchers, from: now, until, reason, author };
    tx.put(tenant, &id, &silence).await?;
    touch(tx, tenant, None).await?;
    Ok(silence)
}

/// Returns a tenant's silences, the oldest first; those that are not over at a time, if one is given.
///
/// # Errors
/// The store's.
pub async fn list_silences(
    tx: &Transaction,
    tenant: TenantId,
    at: Option<Timestamp>,
) -> Result<Vec<Silence>, Error> {
    let all = tx.scan_all::<Silence>(tenant, Vec::new()).await?;
    Ok(all.into_iter().filter(|one| at.is_none_or(|at| one.until > at)).collect())
}

/// Ends a silence.
///
/// # Errors
/// [`Error::Unknown`], [`Error::Invalid`] if it is over already, or the store's.
pub async fn expire_silence(
    tx: &Transaction,
    tenant: TenantId,
    id: SilenceId,
    now: Timestamp,
) -> Result<Silence, Error> {
    let silence = tx.get::<Silence>(tenant, &id).await?;
    let mut silence = silence.ok_or(Error::Unknown("silence"))?;
    if silence.until <= now {
        return Err(Error::Invalid("the silence is over".into()));
    }
    silence.until = now;
    tx.put(tenant, &id, &silence).await?;
    touch(tx, tenant, None).await?;
    Ok(silence)
}
