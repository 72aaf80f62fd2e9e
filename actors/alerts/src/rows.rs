//! What alerts keep in the store. Natural identifiers are in keys as blinds under the tenant's keys only; everything is sealed, and gone with them.

use std::collections::BTreeMap;

use aesp_audit::Position;
use aesp_proto::{AlertId, DeliveryId, PrincipalId, SilenceId, TenantId, Timestamp};
use aesp_storage::{Blind, Error, Kind, Row, TenantKeys, Transaction};
use serde::{Deserialize, Serialize};

use crate::{
    Alert, Silence,
    group::Group,
    note::{Note, NoteKey},
    tracker::Key,
};

/// A version of a tenant's rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RulesRow {
    /// Counts from 1.
    pub version: u32,
    /// The document, as it was given.
    pub text: String,
    /// Who gave it.
    pub author: PrincipalId,
    /// When.
    pub at: Timestamp,
    /// Why.
    pub comment: String,
    /// The version that it repeats, if it does.
    pub rolled_back_to: Option<u32>,
}

impl Row for RulesRow {
    const KIND: Kind = Kind::ALERT_RULES;
    type Key = u32;
}

/// What people changed about a tenant's alerts: the home compares it in each of its transactions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    /// Which version of the rules holds; 0 before the first.
    pub(crate) version: u32,
    /// Grows with every change.
    pub(crate) touched: u64,
}

impl Row for Head {
    const KIND: Kind = Kind::ALERT_HEAD;
    const SEALED: bool = false;
    type Key = ();
}

/// How far a tenant's log is looked through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cursor {
    pub(crate) position: Option<Position>,
    /// Up to when time has passed.
    pub(crate) at: Timestamp,
    /// Grows with every step: two homes never take the same.
    pub(crate) step: u64,
}

impl Row for Cursor {
    const KIND: Kind = Kind::ALERT_CURSOR;
    const SEALED: bool = false;
    type Key = ();
}

/// Since when a rule is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SinceRow {
    pub(crate) rule: String,
    pub(crate) fingerprint: String,
    pub(crate) since: Timestamp,
}

impl Row for SinceRow {
    const KIND: Kind = Kind::ALERT_RULE_SINCE;
    type Key = Blind;
}

/// A group of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GroupRow {
    pub(crate) rule: String,
    pub(crate) fingerprint: String,
    pub(crate) group: Group,
}

impl Row for GroupRow {
    const KIND: Kind = Kind::ALERT_GROUP;
    type Key = Blind;
}

impl Row for Alert {
    const KIND: Kind = Kind::ALERT;
    type Key = AlertId;
}

impl Row for Silence {
    const KIND: Kind = Kind::ALERT_SILENCE;
    type Key = SilenceId;
}

impl Row for Note {
    const KIND: Kind = Kind::ALERT_NOTE;
    type Key = Blind;
}

/// A message about alerts, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// Names it.
    pub id: DeliveryId,
    /// When.
    pub at: Timestamp,
    /// To whom.
    pub receiver: String,
    /// About which group.
    pub group: String,
    /// About which alerts, and what was said of each.
    pub alerts: BTreeMap<AlertId, String>,
    /// What became of it.
    pub outcome: Outcome,
    /// How often it was tried.
    pub attempts: u32,
    /// Why it was not taken.
    pub cause: String,
    /// What was seen.
    pub why: String,
    /// How long the receiver took.
    pub took_ms: u64,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The receiver has it.
    Delivered,
    /// It is tried again.
    Failed,
    /// It is not tried any more.
    Dead,
}

impl Outcome {
    /// Returns its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Dead => "dead",
        }
    }
}

impl Row for Delivery {
    const KIND: Kind = Kind::ALERT_DELIVERY;
    type Key = DeliveryId;
}

pub(crate) fn rule_key(keys: &TenantKeys, rule: &str) -> Blind {
    keys.blind(Kind::ALERT_RULE_SINCE, rule)
}

pub(crate) fn group_key(keys: &TenantKeys, rule: &str, key: &Key) -> Blind {
    let mut text = rule.to_owned();
    for part in key {
        text.push('\u{1f}');
        text.push_str(part);
    }
    keys.blind(Kind::ALERT_GROUP, &text)
}

pub(crate) fn note_key(keys: &TenantKeys, key: &NoteKey) -> Blind {
    keys.blind(Kind::ALERT_NOTE, &format!("{}\u{1f}{}", key.receiver, key.group))
}

/// Says that something was changed that the home must take in before it goes on.
pub(crate) async fn touch(tx: &Transaction, tenant: TenantId, version: Option<u32>) -> Result<(), Error> {
    let mut head = tx.get::<Head>(tenant, &()).await?.unwrap_or_default();
    head.touched += 1;
    head.version = version.unwrap_or(head.version);
    tx.put(tenant, &(), &head).await
}
