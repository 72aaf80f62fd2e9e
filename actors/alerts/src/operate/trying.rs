//! Trying rules and receivers before they count.

use std::collections::BTreeMap;

use aesp_audit::{ReadFrom, tail};
use aesp_outbound::Cause;
use aesp_proto::{AlertId, PrincipalId, TenantId, Timestamp};

use crate::{
    Alert, Alerts, Document, Error, Failed, Happening, RuleForm,
    config::Receiver,
    group::BY_HAND,
    note::Tell,
    rules::Rules,
    table::{self, Play},
    transport::Message,
};

/// Rules that were found to make sense, to agree with their tests, and to name receivers that there are.
#[derive(Clone, Debug)]
pub struct Applied {
    pub(super) text: String,
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

/// Events that a dry run looks at, and rows that it reads at once.
const DRY_EVENTS: u64 = 200_000;
const DRY_READ: usize = 1_000;
const DRY_HAPPENINGS: usize = 1_000;
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
