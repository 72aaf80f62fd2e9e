//! What people do with rules, alerts and silences. Each runs in a transaction of its caller's, who records it.

use std::{collections::BTreeMap, time::Duration};

use aesp_audit::{ReadFrom, tail};
use aesp_outbound::Cause;
use aesp_proto::{AlertId, DeliveryId, PrincipalId, SilenceId, TenantId, Timestamp};
use aesp_storage::{Scan, Transaction, encode};

use crate::{
    Acknowledged, Alert, Alerts, Delivery, Document, Error, Failed, Happening, LabelMatcher, RuleForm,
    RulesRow, Silence,
    alert::labels,
    config::Receiver,
    document::DOCUMENT_BYTES,
    group::{BY_HAND, Phase},
    note::Tell,
    rows::{GroupRow, Head, touch},
    rules::Rules,
    silence::silenced_until,
    store,
    table::{self, Play},
    transport::Message,
};

/// Rules that were found to make sense, to agree with their tests, and to name receivers that there are.
#[derive(Clone, Debug)]
pub struct Applied {
    text: String,
}

/// A rule that holds.
#[derive(Clone, Debug)]
pub struct Ruling {
    /// As it is written, with the changes to a built-in one.
    pub form: RuleForm,
    /// Whether it is built in.
    pub built_in: bool,
}

/// Which alerts are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Those that last.
    Firing,
    /// Those that are over.
    Resolved,
    /// All of them.
    Any,
}

/// An alert in a list.
#[derive(Clone, Debug)]
pub struct ListedAlert {
    /// The alert.
    pub alert: Alert,
    /// Until when nobody is told of it.
    pub silenced_until: Option<Timestamp>,
}

/// A condition that holds, and not yet long enough for an alert.
#[derive(Clone, Debug)]
pub struct PendingAlert {
    /// Of which rule.
    pub rule: String,
    /// What tells its group from others.
    pub labels: BTreeMap<String, String>,
    /// Since when.
    pub since: Timestamp,
}

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

/// What rules would have said of a part of the log.
#[derive(Clone, Debug, Default)]
pub struct DryRun {
    /// What would have become of alerts, as it would have happened.
    pub happened: Vec<Happening>,
    /// How many events were looked at.
    pub events: u64,
    /// Whether not all were.
    pub cut: bool,
}

/// What a receiver said of a made-up alert.
#[derive(Clone, Debug)]
pub struct ReceiverTold {
    /// Why it was not taken.
    pub trouble: Option<(Cause, String)>,
}

const SILENCES: usize = 200;
const MATCHERS: usize = 20;
const LONGEST_SILENCE: Duration = Duration::from_secs(366 * 86_400);
const TEXT_BYTES: usize = 1_024;
/// Events that a dry run looks at, and rows that it reads at once.
const DRY_EVENTS: u64 = 200_000;
const DRY_READ: usize = 1_000;
const DRY_HAPPENINGS: usize = 1_000;
/// Rows that one page of a list looks through.
const LOOKED_AT: usize = 5_000;
/// Made-up events of all tests of a document.
const TEST_EVENTS: u64 = 20_000;

impl Alerts {
    /// Checks a document: that it makes sense, that its tests hold, and that the tenant may name the receivers that it names.
    ///
    /// # Errors
    /// [`Error::Rules`], [`Error::Tests`].
    pub async fn check(&self, tenant: TenantId, text: String) -> Result<Applied, Error> {
        let (rules, document) = compile(tenant, &text)?;
        for receiver in rules.receivers() {
            if let Some(why) = self.inner.homes.book.refuses(tenant, receiver) {
                return Err(Error::Rules(format!("receiver `{receiver}`: {why}")));
            }
        }
        let failed = tests(tenant, rules, document).await?;
        match failed.first() {
            Some(first) => {
                let first = format!("`{}`: {}", first.test, first.why);
                Err(Error::Tests { count: failed.len(), first })
            }
            None => Ok(Applied { text }),
        }
    }

    /// Runs the tests of a document, and says which failed.
    ///
    /// # Errors
    /// [`Error::Rules`] if it makes no sense.
    pub async fn test(&self, tenant: TenantId, text: &str) -> Result<(usize, Vec<Failed>), Error> {
        let (rules, document) = compile(tenant, text)?;
        let count = document.tests.len();
        Ok((count, tests(tenant, rules, document).await?))
    }

    /// Says what the rules of a document would have said of what is in the log from one time to another.
    ///
    /// # Errors
    /// [`Error::Rules`], or those of reading.
    pub async fn dry_run(
        &self,
        tenant: TenantId,
        text: &str,
        (from, to): (Timestamp, Timestamp),
    ) -> Result<DryRun, Error> {
        let (rules, _) = compile(tenant, text)?;
        let (mut play, mut run) = (Play::new(tenant, rules, from), DryRun::default());
        let mut at = ReadFrom::About(from);
        'log: loop {
            let read = self
                .inner
                .homes
                .store
                .run(move |tx| Box::pin(async move { tail(tx, tenant, at, DRY_READ, 4_000_000).await }));
            let part = read.await?;
            for (position, event) in part.events {
                at = ReadFrom::After(position);
                let Ok(event) = event else { continue };
                let when = Timestamp(event.timestamp_ms);
                // Writers' clocks may differ by a little; events far behind the end are behind it all.
                if when > to.plus(aesp_audit::DISORDER) {
                    break 'log;
                }
                if when < from || when > to {
                    continue;
                }
                play.observe(&event);
                run.events += 1;
                if run.events >= DRY_EVENTS || play.happened.len() >= DRY_HAPPENINGS {
                    run.cut = true;
                    break 'log;
                }
            }
            if !part.more {
                break;
            }
            tokio::task::yield_now().await;
        }
        if !run.cut {
            play.advance(to);
        }
        run.happened = play.happened;
        Ok(run)
    }

    /// Returns the receivers that the tenant's rules may name, and whether each is told by default.
    #[must_use]
    pub fn receivers(&self, tenant: TenantId) -> Vec<(&Receiver, bool)> {
        let book = &self.inner.homes.book;
        let own = self.inner.receivers.iter().filter(|(one, _)| book.refuses(tenant, &one.name).is_none());
        own.map(|(one, _)| (one, book.default.contains(&one.name))).collect()
    }

    /// Tells a receiver of a made-up alert, and that it is over, and says what came of it.
    ///
    /// # Errors
    /// [`Error::Unknown`].
    pub async fn try_receiver(&self, name: &str, by: PrincipalId) -> Result<ReceiverTold, Error> {
        let found = self.inner.receivers.iter().find(|(one, _)| one.name == name);
        let (_, transport) = found.ok_or(Error::Unknown("alert receiver"))?;
        let homes = &self.inner.homes;
        let now = homes.clock.now();
        let rule = RuleForm {
            name: "aesp-test".into(),
            count: Some(1),
            window: Some(crate::Wait::seconds(60)),
            annotations: BTreeMap::from([(
                "summary".into(),
                format!("a test of this receiver, which {by} asked for"),
            )]),
            ..RuleForm::default()
        };
        let rule = rule.compile().map_err(Error::Rules)?;
        let group = crate::group::Group::new(Vec::new(), false, now);
        let id = AlertId::timed(now, &homes.entropy);
        let mut alert = Alert::new(TenantId::PLATFORM, &rule, &group, (id, now, "1"), &[]);
        for tell in [Tell::Fired, Tell::Resolved] {
            let alerts = vec![(alert.clone(), tell)];
            let message = Message { tenant: TenantId::PLATFORM, group: "test".into(), alerts };
            if let Err(failure) = transport.deliver(&message).await {
                return Ok(ReceiverTold { trouble: Some((failure.cause, failure.why)) });
            }
            (alert.ended, alert.ended_because) = (Some(now), BY_HAND.to_owned());
        }
        Ok(ReceiverTold { trouble: None })
    }
}

fn compile(tenant: TenantId, text: &str) -> Result<(Rules, Document), Error> {
    let document = Document::read(text).map_err(Error::Rules)?;
    let rules = Rules::compile(tenant, &document).map_err(Error::Rules)?;
    let events = document.tests.iter().flat_map(|test| &test.events);
    let events: u64 = events.map(|event| u64::from(event.repeat.max(1))).sum();
    if events > TEST_EVENTS {
        return Err(Error::Rules(format!("the tests have more than {TEST_EVENTS} events together")));
    }
    Ok((rules, document))
}

/// Away from the threads that serve: tests may take a second or two.
async fn tests(tenant: TenantId, rules: Rules, document: Document) -> Result<Vec<Failed>, Error> {
    let run = tokio::task::spawn_blocking(move || table::run(tenant, &rules, &document.tests));
    run.await.map_err(|error| Error::Rules(format!("the tests could not be run: {error}")))
}

/// Makes a checked document the tenant's rules, if they are at the version that is expected.
///
/// # Errors
/// [`Error::OtherVersion`], or the store's.
pub async fn apply(
    tx: &Transaction,
    tenant: TenantId,
    checked: &Applied,
    expected: Option<u32>,
    (author, at, comment): (PrincipalId, Timestamp, &str),
) -> Result<RulesRow, Error> {
    let row = |version| RulesRow {
        version,
        text: checked.text.clone(),
        author,
        at,
        comment: comment.to_owned(),
        rolled_back_to: None,
    };
    put(tx, tenant, expected, comment, row).await
}

/// Makes what an earlier version said hold again, as a new version. `checked` is that version's document.
///
/// # Errors
/// [`Error::Unknown`], [`Error::OtherVersion`] if it is not that version's, or the store's.
pub async fn roll_back(
    tx: &Transaction,
    tenant: TenantId,
    (to, checked): (u32, &Applied),
    expected: Option<u32>,
    (author, at, comment): (PrincipalId, Timestamp, &str),
) -> Result<RulesRow, Error> {
    let row = |version| RulesRow {
        version,
        text: checked.text.clone(),
        author,
        at,
        comment: comment.to_owned(),
        rolled_back_to: Some(to),
    };
    put(tx, tenant, expected, comment, row).await
}

async fn put(
    tx: &Transaction,
    tenant: TenantId,
    expected: Option<u32>,
    comment: &str,
    row: impl Fn(u32) -> RulesRow,
) -> Result<RulesRow, Error> {
    if comment.len() > TEXT_BYTES {
        return Err(Error::Invalid(format!("the comment has more than {TEXT_BYTES} bytes")));
    }
    let head = tx.get::<Head>(tenant, &()).await?.unwrap_or_default();
    if expected.is_some_and(|expected| expected != head.version) {
        return Err(Error::OtherVersion(head.version));
    }
    let row = row(head.version + 1);
    tx.put(tenant, &row.version, &row).await?;
    touch(tx, tenant, Some(row.version)).await?;
    Ok(row)
}

/// Returns the rules that hold, with the version of the tenant's document; 0 if it has none.
///
/// # Errors
/// The store's, or [`Error::Rules`] if the stored document makes no sense to this release.
pub async fn rules(tx: &Transaction, tenant: TenantId) -> Result<(u32, Vec<Ruling>), Error> {
    let head = tx.get::<Head>(tenant, &()).await?.unwrap_or_default();
    let rules = store::rules(tx, tenant, head.version).await?;
    let all = rules.forms().map(|(form, built_in)| Ruling { form: form.clone(), built_in });
    Ok((head.version, all.collect()))
}

/// Returns one of the rules that hold, with the version of the tenant's document.
///
/// # Errors
/// [`Error::Unknown`], or as [`rules`].
pub async fn rule(tx: &Transaction, tenant: TenantId, name: &str) -> Result<(u32, Ruling), Error> {
    let (version, all) = rules(tx, tenant).await?;
    let found = all.into_iter().find(|rule| rule.form.name == name);
    found.map(|rule| (version, rule)).ok_or(Error::Unknown("alert rule"))
}

/// Returns a version of the tenant's document; the one that holds for 0.
///
/// # Errors
/// [`Error::Unknown`], or the store's.
pub async fn version(tx: &Transaction, tenant: TenantId, version: u32) -> Result<RulesRow, Error> {
    let version = match version {
        0 => tx.get::<Head>(tenant, &()).await?.unwrap_or_default().version,
        version => version,
    };
    tx.get::<RulesRow>(tenant, &version).await?.ok_or(Error::Unknown("version of the alert rules"))
}

/// Returns the document that holds, to be changed; an empty one before the first.
///
/// # Errors
/// The store's.
pub async fn applied(tx: &Transaction, tenant: TenantId) -> Result<String, Error> {
    match version(tx, tenant, 0).await {
        Ok(row) => Ok(row.text),
        Err(Error::Unknown(_)) => Ok(String::new()),
        Err(error) => Err(error),
    }
}

/// Returns versions of the tenant's document, the newest first.
///
/// # Errors
/// The store's.
pub async fn versions(
    tx: &Transaction,
    tenant: TenantId,
    before: Option<u32>,
    limit: usize,
) -> Result<Vec<RulesRow>, Error> {
    // A document may be large.
    let limit = limit.min(DOCUMENT_BYTES / 4_096);
    let scan = Scan { after: before.map(|before| encode(&before)), limit, reverse: true, ..Scan::default() };
    Ok(tx.scan::<RulesRow>(tenant, scan).await?.into_iter().map(|(_, row)| row).collect())
}

/// Returns a tenant's alerts, the newest first, and where to go on; nothing when there are no more.
///
/// # Errors
/// The store's.
pub async fn list_alerts(
    tx: &Transaction,
    tenant: TenantId,
    status: Status,
    before: Option<AlertId>,
    limit: usize,
    now: Timestamp,
) -> Result<(Vec<ListedAlert>, Option<AlertId>), Error> {
    let silences = list_silences(tx, tenant, Some(now)).await?;
    let listed = |alert: Alert| {
        let silenced_until = silenced_until(&silences, &alert.labels, now).filter(|_| alert.is_firing());
        ListedAlert { alert, silenced_until }
    };
    if status == Status::Firing {
        let rows = tx.scan_all::<GroupRow>(tenant, Vec::new()).await?;
        let mut ids: Vec<AlertId> = rows
            .iter()
            .filter_map(|row| match row.group.phase {
                Phase::Firing { alert, .. } => Some(alert),
                _ => None,
            })
            .filter(|id| before.is_none_or(|before| *id < before))
            .collect();
        ids.sort_unstable_by(|a, b| b.cmp(a));
        let next = ids.get(limit.saturating_sub(1)).copied().filter(|_| ids.len() > limit);
        let mut out = Vec::new();
        for id in ids.into_iter().take(limit) {
            let alert = tx.get::<Alert>(tenant, &id).await?;
            out.extend(alert.filter(Alert::is_firing).map(&listed));
        }
        return Ok((out, next));
    }
    let (mut out, mut after, mut looked_at) = (Vec::new(), before, 0);
    loop {
        let scan = Scan { after: after.map(|id| encode(&id)), limit, reverse: true, ..Scan::default() };
        let page = tx.scan::<Alert>(tenant, scan).await?;
        let full = page.len() == limit;
        looked_at += page.len();
        for (id, alert) in page {
            after = Some(id);
            if status == Status::Any || !alert.is_firing() {
                out.push(listed(alert));
            }
            if out.len() == limit {
                return Ok((out, after));
            }
        }
        if !full {
            return Ok((out, None));
        }
        if looked_at >= LOOKED_AT {
            return Ok((out, after));
        }
    }
}

/// Returns the conditions that hold, and not yet long enough for an alert.
///
/// # Errors
/// The store's, or as [`rules`].
pub async fn list_pending(tx: &Transaction, tenant: TenantId) -> Result<Vec<PendingAlert>, Error> {
    let head = tx.get::<Head>(tenant, &()).await?.unwrap_or_default();
    let rules = store::rules(tx, tenant, head.version).await?;
    let mut out = Vec::new();
    for row in tx.scan_all::<GroupRow>(tenant, Vec::new()).await? {
        let rule = rules.all().find(|rule| rule.name == row.rule && rule.fingerprint == row.fingerprint);
        if let (Some(rule), Phase::Pending { since }) = (rule, row.group.phase) {
            out.push(PendingAlert { rule: row.rule, labels: labels(tenant, rule, &row.group), since });
        }
    }
    Ok(out)
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

/// Returns the record of deliveries, the newest first, and where to go on; nothing when there are no more.
///
/// # Errors
/// The store's.
pub async fn deliveries(
    tx: &Transaction,
    tenant: TenantId,
    wanted: impl Fn(&Delivery) -> bool,
    before: Option<DeliveryId>,
    limit: usize,
) -> Result<(Vec<Delivery>, Option<DeliveryId>), Error> {
    let (mut out, mut after, mut looked_at) = (Vec::new(), before, 0);
    loop {
        let scan = Scan { after: after.map(|id| encode(&id)), limit, reverse: true, ..Scan::default() };
        let page = tx.scan::<Delivery>(tenant, scan).await?;
        let full = page.len() == limit;
        looked_at += page.len();
        for (id, delivery) in page {
            after = Some(id);
            if wanted(&delivery) {
                out.push(delivery);
            }
            if out.len() == limit {
                return Ok((out, after));
            }
        }
        if !full {
            return Ok((out, None));
        }
        if looked_at >= LOOKED_AT {
            return Ok((out, after));
        }
    }
}
