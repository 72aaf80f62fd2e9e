//! A tenant's desk as it is taken out of the store and put back.

use std::{collections::BTreeMap, sync::Arc};

use aesp_audit::Event;
use aesp_cluster::Fence;
use aesp_proto::{AlertId, TenantId, Timestamp};
use aesp_storage::{Blind, Error as StoreError, Transaction};

use crate::{
    Alert, Document, Error, Silence,
    desk::{Book, Changes, Desk},
    group::{Group, Phase},
    note::{Note, NoteKey},
    rows::{self, Cursor, Delivery, GroupRow, Head, RulesRow, SinceRow},
    rules::Rules,
    tracker::Key,
};

/// How far back a log is looked through that never was before.
pub(crate) const LOOK_BACK_MS: i64 = 3_600_000;
/// Why alerts end whose rules do not hold any more.
const OTHER_RULES: &str = "the rule was changed, switched off or removed";

/// A desk with what it was taken out with.
pub(crate) struct Loaded {
    pub(crate) desk: Desk,
    pub(crate) head: Head,
    pub(crate) cursor: Cursor,
    /// What taking it out has changed already.
    pub(crate) changes: Changes,
    /// Rows of groups that mean nothing any more.
    pub(crate) orphans: Vec<Blind>,
    /// Rules that are new, with the time from which they are there.
    pub(crate) since: Vec<SinceRow>,
}

/// Returns the rules that hold at a version of a tenant's document.
///
/// # Errors
/// The store's, or [`Error::Rules`] if the stored document makes no sense to this release.
pub(crate) async fn rules(tx: &Transaction, tenant: TenantId, version: u32) -> Result<Rules, Error> {
    let row = match version {
        0 => None,
        version => tx.get::<RulesRow>(tenant, &version).await?,
    };
    let document =
        row.map_or(Ok(Document::default()), |row| Document::read(&row.text)).map_err(Error::Rules)?;
    Rules::compile(tenant, &document).map_err(Error::Rules)
}

/// Takes a tenant's desk out of the store.
///
/// # Errors
/// The store's.
pub(crate) async fn load(
    tx: &Transaction,
    tenant: TenantId,
    fence: Fence,
    book: Arc<Book>,
    now: Timestamp,
) -> Result<Loaded, StoreError> {
    fence.check(tx).await?;
    let head = tx.get::<Head>(tenant, &()).await?.unwrap_or_default();
    let cursor = tx.get::<Cursor>(tenant, &()).await?;
    let cursor =
        cursor.unwrap_or(Cursor { at: Timestamp(now.0.saturating_sub(LOOK_BACK_MS)), ..Cursor::default() });
    let rules = match rules(tx, tenant, head.version).await {
        Ok(rules) => rules,
        Err(Error::Store(error)) => return Err(error),
        Err(error) => {
            tracing::error!(%tenant, version = head.version, %error, "stored alert rules can't be used: the built-in ones hold");
            Rules::compile(tenant, &Document::default()).expect("the built-in rules are tested")
        }
    };
    let mut desk = Desk::new(tenant, rules.into(), book, cursor.at);
    let since = ages(tx, &mut desk, now).await?;
    let silences = tx.scan_all::<Silence>(tenant, Vec::new()).await?;
    desk.silences =
        silences.into_iter().filter(|one| one.until > cursor.at).map(|one| (one.id, one)).collect();
    for note in tx.scan_all::<Note>(tenant, Vec::new()).await? {
        desk.notes.insert(note.key.clone(), note);
    }
    let keys = tx.tenant_keys(tenant).await?;
    let (mut orphans, mut lost) = (Vec::new(), Vec::new());
    let mut wanted: Vec<AlertId> =
        desk.notes.values().flat_map(|note| note.members.keys().copied()).collect();
    for row in tx.scan_all::<GroupRow>(tenant, Vec::new()).await? {
        let alert = match row.group.phase {
            Phase::Firing { alert, .. } => Some(alert),
            _ => None,
        };
        wanted.extend(alert);
        let rule = desk
            .trackers
            .iter_mut()
            .find(|tracker| tracker.rule.name == row.rule && tracker.rule.fingerprint == row.fingerprint);
        match rule {
            Some(tracker) => tracker.restore(row.group, cursor.at),
            None => {
                lost.extend(alert);
                orphans.push(rows::group_key(&keys, &row.rule, &key_of(&row.group)));
            }
        }
    }
    for id in wanted {
        if let Some(alert) = tx.get::<Alert>(tenant, &id).await? {
            desk.alerts.insert(id, alert);
        }
    }
    let mut changes = Changes::default();
    for id in lost {
        desk.resolve(id, now, OTHER_RULES, &mut changes);
    }
    desk.end_ended(&mut changes);
    desk.drop_strangers(&mut changes);
    Ok(Loaded { desk, head, cursor, changes, orphans, since })
}

/// Gives rules for which it matters the time since when they are there; returns those that are new.
async fn ages(tx: &Transaction, desk: &mut Desk, now: Timestamp) -> Result<Vec<SinceRow>, StoreError> {
    let mut new = Vec::new();
    let mut known: BTreeMap<(String, String), Timestamp> = BTreeMap::new();
    if desk.trackers.iter().any(|tracker| tracker.rule.condition.needs_since()) {
        for row in tx.scan_all::<SinceRow>(desk.tenant, Vec::new()).await? {
            known.insert((row.rule, row.fingerprint), row.since);
        }
    }
    for tracker in desk.trackers.iter_mut().filter(|tracker| tracker.rule.condition.needs_since()) {
        let (rule, fingerprint) = (tracker.rule.name.clone(), tracker.rule.fingerprint.clone());
        let since = match known.get(&(rule.clone(), fingerprint.clone())) {
            Some(since) => *since,
            None => {
                new.push(SinceRow { rule, fingerprint, since: now });
                now
            }
        };
        tracker.begin(since);
    }
    Ok(new)
}

/// Returns the key under which a tracker has the group.
fn key_of(group: &Group) -> Key {
    if group.overflow { crate::tracker::overflow() } else { group.values.clone() }
}

/// What one transaction puts back.
#[derive(Clone, Default)]
pub(crate) struct Writing {
    groups: Vec<(String, Key, Option<GroupRow>)>,
    orphans: Vec<Blind>,
    since: Vec<SinceRow>,
    alerts: Vec<Alert>,
    notes: Vec<(NoteKey, Option<Note>)>,
    pub(crate) delivery: Option<Delivery>,
    pub(crate) events: Vec<Event>,
}

/// Why nothing was put back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotWritten {
    /// Somebody changed something meanwhile: take the desk out anew.
    #[error("something was changed meanwhile")]
    Stale,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Log(aesp_audit::Error),
}

impl From<aesp_audit::Error> for NotWritten {
    fn from(error: aesp_audit::Error) -> Self {
        match error {
            aesp_audit::Error::Store(error) => Self::Store(error),
            error => Self::Log(error),
        }
    }
}

impl Writing {
    /// Copies what has changed.
    pub(crate) fn of(desk: &Desk, changes: &Changes) -> Self {
        let group = |(place, key): &(usize, Key)| {
            let tracker = &desk.trackers[*place];
            let (rule, fingerprint) = (tracker.rule.name.clone(), tracker.rule.fingerprint.clone());
            let row = tracker.group(key).map(|group| GroupRow {
                rule: rule.clone(),
                fingerprint,
                group: group.clone(),
            });
            (rule, key.clone(), row)
        };
        Self {
            groups: changes.groups.iter().map(group).collect(),
            alerts: changes.alerts.iter().filter_map(|id| desk.alerts.get(id).cloned()).collect(),
            notes: changes.notes.iter().map(|key| (key.clone(), desk.notes.get(key).cloned())).collect(),
            ..Self::default()
        }
    }

    pub(crate) fn with(mut self, orphans: Vec<Blind>, since: Vec<SinceRow>) -> Self {
        (self.orphans, self.since) = (orphans, since);
        self
    }

    /// Writes it, if nobody was here meanwhile.
    ///
    /// # Errors
    /// As [`NotWritten`] has them.
    pub(crate) async fn write(
        &self,
        tx: &Transaction,
        tenant: TenantId,
        fence: Fence,
        (head, before, after): (Head, Cursor, Cursor),
    ) -> Result<(), NotWritten> {
        fence.check(tx).await?;
        if tx.get::<Head>(tenant, &()).await?.unwrap_or_default() != head
            || tx.get::<Cursor>(tenant, &()).await?.map_or(0, |cursor| cursor.step) != before.step
        {
            return Err(NotWritten::Stale);
        }
        tx.put(tenant, &(), &after).await?;
        let keys = tx.tenant_keys(tenant).await?;
        for (rule, key, row) in &self.groups {
            let at = rows::group_key(&keys, rule, key);
            match row {
                Some(row) => tx.put(tenant, &at, row).await?,
                None => tx.delete::<GroupRow>(tenant, &at).await?,
            }
        }
        for orphan in &self.orphans {
            tx.delete::<GroupRow>(tenant, orphan).await?;
        }
        for row in &self.since {
            tx.put(tenant, &rows::rule_key(&keys, &row.rule), row).await?;
        }
        for alert in &self.alerts {
            tx.put(tenant, &alert.id, alert).await?;
        }
        for (key, note) in &self.notes {
            let at = rows::note_key(&keys, key);
            match note {
                Some(note) => tx.put(tenant, &at, note).await?,
                None => tx.delete::<Note>(tenant, &at).await?,
            }
        }
        if let Some(delivery) = &self.delivery {
            tx.put(tenant, &delivery.id, delivery).await?;
        }
        Ok(())
    }
}
