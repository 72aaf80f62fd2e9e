//! What one receiver is to be told of one group of alerts, and what it was told. Pure.

use std::{collections::BTreeMap, time::Duration};

use aesp_audit_formats::Severity;
use aesp_proto::{AlertId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{Alert, Silence, silence::silenced_until};

/// To whom, and of which group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct NoteKey {
    pub(crate) receiver: String,
    pub(crate) group: String,
}

/// What a receiver is told of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Note {
    pub(crate) key: NoteKey,
    /// From when the first message waits for more to go with it.
    created: Timestamp,
    /// When the last message went out.
    sent: Option<Timestamp>,
    pub(crate) members: BTreeMap<AlertId, Told>,
    pub(crate) trouble: Option<Trouble>,
}

/// What a receiver knows of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Told {
    Nothing,
    Firing { at: Timestamp },
    Acknowledged { at: Timestamp },
}

/// Why a message does not go out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Trouble {
    pub(crate) since: Timestamp,
    pub(crate) attempts: u32,
    pub(crate) cause: String,
    /// Not before then.
    pub(crate) again: Timestamp,
}

/// What a message says of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tell {
    /// It began.
    Fired,
    /// It lasts, and it is time to say so again.
    Again,
    /// It lasts; something else in its group is news.
    Still,
    /// Somebody takes care of it.
    Acknowledged,
    /// It ended.
    Resolved,
}

impl Tell {
    /// Returns its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Fired => "fired",
            Self::Again => "again",
            Self::Still => "still",
            Self::Acknowledged => "acknowledged",
            Self::Resolved => "resolved",
        }
    }
}

/// How a receiver wants to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Manner {
    pub(crate) group_by: GroupBy,
    pub(crate) wait: Duration,
    pub(crate) interval: Duration,
    pub(crate) repeat: Duration,
    /// It forgets what it is not told again, so this is no news.
    pub(crate) forgets: bool,
    /// It is told who takes care of an alert.
    pub(crate) acknowledges: bool,
    pub(crate) resolves: bool,
    /// It is told of alerts of this severity or a higher one.
    pub(crate) least: Severity,
}

/// Which alerts go into one message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GroupBy {
    /// Those of one rule.
    #[default]
    Rule,
    /// Those of a tenant.
    Tenant,
    /// Each by itself.
    Alert,
}

impl GroupBy {
    /// Names the group of an alert.
    pub(crate) fn group(self, alert: &Alert) -> String {
        match self {
            Self::Rule => format!("rule:{}", alert.rule),
            Self::Tenant => "tenant".to_owned(),
            Self::Alert => format!("alert:{}", alert.dedup_key),
        }
    }
}

/// The most alerts in a message.
const MEMBERS: usize = 100;

/// What is to be done about a member.
enum Need {
    /// There is news of it.
    News(Tell),
    /// It is to be told again then.
    Later(Timestamp),
    /// Nothing until then.
    Quiet(Timestamp),
    /// Nothing.
    Nothing,
    /// Never again.
    Over,
}

impl Note {
    pub(crate) fn new(key: NoteKey, created: Timestamp) -> Self {
        Self { key, created, sent: None, members: BTreeMap::new(), trouble: None }
    }

    /// Takes an alert in that the receiver is to be told of.
    pub(crate) fn add(&mut self, alert: AlertId) {
        self.members.entry(alert).or_insert(Told::Nothing);
    }

    /// Forgets alerts of which nothing more is to be told. Tells whether there were any.
    pub(crate) fn tidy(
        &mut self,
        alerts: &BTreeMap<AlertId, Alert>,
        silences: &[Silence],
        manner: Manner,
        now: Timestamp,
    ) -> bool {
        let before = self.members.len();
        self.members.retain(|id, told| {
            alerts
                .get(id)
                .is_some_and(|alert| !matches!(need(alert, *told, silences, manner, now), Need::Over))
        });
        self.members.len() < before
    }

    /// Returns when the receiver is to be told something, if nothing happens before.
    pub(crate) fn due(
        &self,
        alerts: &BTreeMap<AlertId, Alert>,
        silences: &[Silence],
        manner: Manner,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let news = match self.sent {
            Some(sent) => sent.plus(manner.interval),
            None => self.created.plus(manner.wait),
        };
        let each = self.members.iter().filter_map(|(id, told)| {
            match need(alerts.get(id)?, *told, silences, manner, now) {
                Need::News(_) => Some(news),
                Need::Later(at) | Need::Quiet(at) => Some(at),
                Need::Nothing | Need::Over => None,
            }
        });
        let due = each.min()?;
        Some(self.trouble.as_ref().map_or(due, |trouble| due.max(trouble.again)))
    }

    /// Returns what the receiver is to be told at `now`; nothing if it is not time.
    pub(crate) fn message(
        &self,
        alerts: &BTreeMap<AlertId, Alert>,
        silences: &[Silence],
        manner: Manner,
        now: Timestamp,
    ) -> Vec<(AlertId, Tell)> {
        if self.due(alerts, silences, manner, now).is_none_or(|due| due > now) {
            return Vec::new();
        }
        let (mut news, mut rest) = (Vec::new(), Vec::new());
        for (id, told) in &self.members {
            let Some(alert) = alerts.get(id) else { continue };
            match need(alert, *told, silences, manner, now) {
                Need::News(tell) => news.push((*id, tell)),
                Need::Later(at) if at <= now => news.push((*id, Tell::Again)),
                Need::Later(_) => rest.push((*id, Tell::Still)),
                Need::Quiet(_) | Need::Nothing | Need::Over => {}
            }
        }
        // A silence that has just ended, for example: the next look will tell.
        if !news.is_empty() {
            news.append(&mut rest);
            news.truncate(MEMBERS);
        }
        news
    }

    /// Notes that the receiver was told, or will never be.
    pub(crate) fn told(&mut self, tells: &[(AlertId, Tell)], now: Timestamp) {
        for (id, tell) in tells {
            let Some(told) = self.members.get_mut(id) else { continue };
            match tell {
                Tell::Fired | Tell::Again | Tell::Still => *told = Told::Firing { at: now },
                Tell::Acknowledged => *told = Told::Acknowledged { at: now },
                Tell::Resolved => drop(self.members.remove(id)),
            }
        }
        self.sent = Some(now);
        self.trouble = None;
    }

    /// Notes that the receiver could not be told; returns whether that is news.
    pub(crate) fn failed(&mut self, cause: &str, now: Timestamp, again: Timestamp) -> bool {
        let news = self.trouble.as_ref().is_none_or(|trouble| trouble.cause != cause);
        let (since, attempts) =
            self.trouble.as_ref().map_or((now, 0), |trouble| (trouble.since, trouble.attempts));
        self.trouble =
            Some(Trouble { since, attempts: attempts.saturating_add(1), cause: cause.into(), again });
        news
    }
}

fn need(alert: &Alert, told: Told, silences: &[Silence], manner: Manner, now: Timestamp) -> Need {
    let silenced = silenced_until(silences, &alert.labels, now);
    let repeat = match alert.repeat_ms {
        Some(ms) if !manner.forgets => Duration::from_millis(ms.unsigned_abs()),
        _ => manner.repeat,
    };
    match (told, silenced) {
        (Told::Nothing, Some(_)) if !alert.is_firing() => Need::Over,
        (Told::Nothing, Some(until)) => Need::Quiet(until),
        (Told::Nothing, None) => Need::News(Tell::Fired),
        (Told::Firing { .. } | Told::Acknowledged { .. }, _) if !alert.is_firing() => {
            if manner.resolves {
                Need::News(Tell::Resolved)
            } else {
                Need::Over
            }
        }
        (Told::Firing { .. }, _) if alert.acknowledged.is_some() && manner.acknowledges => {
            Need::News(Tell::Acknowledged)
        }
        (Told::Firing { .. }, Some(until)) => Need::Quiet(until),
        (Told::Firing { at }, None) if manner.forgets || alert.acknowledged.is_none() => {
            Need::Later(at.plus(repeat))
        }
        (Told::Acknowledged { at }, None) if manner.forgets => Need::Later(at.plus(repeat)),
        (Told::Firing { .. } | Told::Acknowledged { .. }, _) => Need::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use aesp_proto::{PrincipalId, SilenceId};

    use super::*;
    use crate::{Acknowledged, sample};

    const MANNER: Manner = Manner {
        group_by: GroupBy::Rule,
        wait: Duration::from_secs(5),
        interval: Duration::from_secs(60),
        repeat: Duration::from_secs(3_600),
        forgets: false,
        acknowledges: true,
        resolves: true,
        least: Severity::Informational,
    };

    /// A note about some alerts that began at 1 s, created then, and a clock.
    struct World {
        alerts: BTreeMap<AlertId, Alert>,
        silences: Vec<Silence>,
        note: Note,
        manner: Manner,
    }

    fn id(number: u8) -> AlertId {
        AlertId::from_bytes([number; 16])
    }

    impl World {
        fn new(count: u8) -> Self {
            let key = NoteKey { receiver: "a".into(), group: "g".into() };
            let mut note = Note::new(key, Timestamp(1_000));
            let mut alerts = BTreeMap::new();
            for number in 1..=count {
                let mut alert = sample::alert("r");
                alert.id = id(number);
                alert.labels.insert("number".into(), number.to_string());
                note.add(alert.id);
                alerts.insert(alert.id, alert);
            }
            Self { alerts, silences: Vec::new(), note, manner: MANNER }
        }

        /// Returns when the next message is due, and what it says then, which the receiver is told.
        fn next(&mut self, now: i64) -> Option<(i64, Vec<(AlertId, Tell)>)> {
            self.note.tidy(&self.alerts, &self.silences, self.manner, Timestamp(now));
            let due = self.note.due(&self.alerts, &self.silences, self.manner, Timestamp(now))?;
            let at = due.max(Timestamp(now));
            let early = Timestamp(due.0 - 1);
            if early.0 >= now {
                assert!(self.note.message(&self.alerts, &self.silences, self.manner, early).is_empty());
            }
            let told = self.note.message(&self.alerts, &self.silences, self.manner, at);
            self.note.told(&told, at);
            Some((at.0, told))
        }

        fn alert(&mut self, number: u8) -> &mut Alert {
            self.alerts.get_mut(&id(number)).unwrap()
        }
    }

    #[test]
    fn a_first_message_waits_for_more_and_later_ones_keep_their_distance() {
        let mut world = World::new(2);
        assert_eq!(world.next(1_000), Some((6_000, vec![(id(1), Tell::Fired), (id(2), Tell::Fired)])));
        world.alert(1).ended = Some(Timestamp(10_000));
        assert_eq!(world.next(10_000), Some((66_000, vec![(id(1), Tell::Resolved), (id(2), Tell::Still)])));
        // Only what lasts is told again.
        assert_eq!(world.next(66_000), Some((66_000 + 3_600_000, vec![(id(2), Tell::Again)])));
        world.alert(2).ended = Some(Timestamp(4_000_000));
        assert_eq!(world.next(4_000_000).unwrap().1, vec![(id(2), Tell::Resolved)]);
        assert_eq!((world.next(5_000_000), world.note.members.len()), (None, 0));
    }

    #[test]
    fn what_is_over_before_it_was_told_is_told_all_the_same() {
        let mut world = World::new(1);
        world.alert(1).ended = Some(Timestamp(2_000));
        assert_eq!(world.next(2_000), Some((6_000, vec![(id(1), Tell::Fired)])));
        assert_eq!(world.next(6_000), Some((66_000, vec![(id(1), Tell::Resolved)])));
        let mut silent = World::new(1);
        silent.manner.resolves = false;
        silent.alert(1).ended = Some(Timestamp(2_000));
        assert_eq!(silent.next(2_000).unwrap().1, vec![(id(1), Tell::Fired)]);
        assert_eq!(silent.next(6_000), None);
    }

    #[test]
    fn a_silence_holds_back_what_is_not_told_yet() {
        let mut world = World::new(2);
        world.silences.push(Silence {
            id: SilenceId::from_bytes([1; 16]),
            matchers: vec!["number=1".parse().unwrap()],
            from: Timestamp(0),
            until: Timestamp(500_000),
            reason: String::new(),
            author: PrincipalId::from_bytes([1; 16]),
        });
        assert_eq!(world.next(1_000), Some((6_000, vec![(id(2), Tell::Fired)])));
        assert_eq!(world.next(6_000), Some((500_000, vec![(id(1), Tell::Fired), (id(2), Tell::Still)])));
        // Nobody hears of what began and ended in silence.
        let mut over = World::new(1);
        over.silences = world.silences;
        over.alert(1).ended = Some(Timestamp(2_000));
        assert_eq!((over.next(2_000), over.note.members.len()), (None, 0));
    }

    #[test]
    fn whoever_takes_care_is_told_and_ends_repetitions() {
        let taken = || Acknowledged {
            by: PrincipalId::from_bytes([1; 16]),
            at: Timestamp(7_000),
            note: String::new(),
        };
        let mut world = World::new(1);
        world.next(1_000);
        world.alert(1).acknowledged = Some(taken());
        assert_eq!(world.next(7_000), Some((66_000, vec![(id(1), Tell::Acknowledged)])));
        assert_eq!(world.next(70_000), None);
        // One that forgets is told on and on.
        let mut forgets = World::new(1);
        forgets.manner =
            Manner { forgets: true, acknowledges: false, repeat: Duration::from_secs(60), ..MANNER };
        forgets.next(1_000);
        forgets.alert(1).acknowledged = Some(taken());
        assert_eq!(forgets.next(7_000), Some((66_000, vec![(id(1), Tell::Again)])));
        forgets.alert(1).ended = Some(Timestamp(70_000));
        assert_eq!(forgets.next(70_000).unwrap().1, vec![(id(1), Tell::Resolved)]);
    }

    #[test]
    fn a_failure_is_news_once_and_holds_the_message_up() {
        let mut world = World::new(1);
        assert!(world.note.failed("busy", Timestamp(6_000), Timestamp(7_000)));
        assert!(!world.note.failed("busy", Timestamp(7_000), Timestamp(9_000)));
        assert!(world.note.failed("refused", Timestamp(9_000), Timestamp(20_000)));
        assert_eq!(
            world.note.trouble.as_ref().map(|one| (one.since, one.attempts)),
            Some((Timestamp(6_000), 3))
        );
        assert_eq!(world.next(9_000), Some((20_000, vec![(id(1), Tell::Fired)])));
        assert_eq!(world.note.trouble, None);
    }

    #[test]
    fn a_message_has_so_many_alerts_and_the_rest_comes_next() {
        let mut world = World::new(150);
        let (at, first) = world.next(1_000).unwrap();
        let (later, rest) = world.next(at).unwrap();
        assert_eq!((first.len(), later), (MEMBERS, at + 60_000));
        assert_eq!(rest.iter().filter(|(_, tell)| *tell == Tell::Fired).count(), 50);
        assert_eq!(rest.len(), MEMBERS);
    }
}
