use std::path::PathBuf;

use aesp_alerts::Wait;
use aesp_proto::{Clock, SystemClock, v1};
use clap::Subcommand;

use super::{audit::moment, context::Context, failure::Failure, file, page::Page};

const ALERTS: &[&str] = &["alert_id", "status", "severity", "rule", "began_ms", "acknowledged_by", "labels"];
const RULES: &[&str] = &["name", "severity", "kind", "built_in", "group_by", "receivers"];
const VERSIONS: &[&str] = &["version", "at_ms", "author", "rolled_back_to", "comment"];
const SILENCES: &[&str] = &["silence_id", "matchers", "until_ms", "author", "reason"];
const DELIVERIES: &[&str] = &["at_ms", "receiver", "group", "outcome", "attempts", "cause", "trouble"];
const RECEIVERS: &[&str] = &["name", "kind", "target", "by_default"];

/// Rules over the audit log, and the alerts that they give.
#[derive(Subcommand, Debug)]
pub(crate) enum Alert {
    /// The rules.
    #[command(subcommand)]
    Rules(Rules),
    /// List alerts, the newest first.
    List {
        /// firing, pending, resolved or all.
        #[arg(long, default_value = "firing")]
        status: String,
        #[command(flatten)]
        page: Page,
    },
    /// Say that you take care of an alert: escalations and repetitions end.
    Ack {
        /// As aesp alert list shows it.
        alert: String,
        #[arg(long, default_value = "")]
        note: String,
        /// It is over, too.
        #[arg(long)]
        resolve: bool,
    },
    /// Have nobody told of some alerts for some time. They are found and recorded all the same.
    Silence {
        /// All must fit: alertname=NAME, severity!=low, source_ip=192.0.2.0/24.
        #[arg(required = true)]
        matchers: Vec<String>,
        /// For how long, such as 30m, 2h or 7d.
        #[arg(long = "for", default_value = "2h")]
        time: Wait,
        #[arg(long)]
        reason: String,
    },
    /// List silences.
    Silences {
        /// Those that are over, too.
        #[arg(long)]
        all: bool,
    },
    /// End a silence.
    Unsilence {
        /// As aesp alert silences shows it.
        silence: String,
    },
    /// Show who was told of what, and what came of it, the newest first.
    Deliveries {
        /// Only to this receiver.
        #[arg(long, default_value = "")]
        receiver: String,
        /// Only about this alert.
        #[arg(long, default_value = "")]
        alert: String,
        /// delivered, failed or dead.
        #[arg(long, default_value = "")]
        outcome: String,
        #[command(flatten)]
        page: Page,
    },
    /// Who can be told.
    #[command(subcommand)]
    Receivers(Receivers),
}

#[derive(Subcommand, Debug)]
pub(crate) enum Rules {
    /// Make a file the tenant's rules, as a new version; its tests must hold.
    Apply {
        /// TOML or JSON; `-` for standard input.
        #[arg(long, short)]
        file: PathBuf,
        #[arg(long, default_value = "")]
        comment: String,
        /// Only if this version holds; 0 for none.
        #[arg(long)]
        expected_version: Option<u32>,
        /// Check it, and change nothing.
        #[arg(long)]
        check: bool,
    },
    /// List the rules that hold, the built-in ones among them.
    List,
    /// Show one rule; without a name, the tenant's file as it was applied.
    Show {
        name: Option<String>,
        /// Of the file: this version.
        #[arg(long, default_value_t = 0)]
        version: u32,
    },
    /// List the versions of the tenant's file, the newest first.
    History(Page),
    /// Make what an earlier version said hold again, as a new version.
    Rollback {
        version: u32,
        #[arg(long, default_value = "")]
        comment: String,
        /// Only if this version holds.
        #[arg(long)]
        expected_version: Option<u32>,
    },
    /// Run a file's tests, and say what its rules would have said of a part of the log.
    Test {
        /// TOML or JSON; `-` for standard input; without it, the rules that hold.
        #[arg(long, short)]
        file: Option<PathBuf>,
        /// Look through the log from here: RFC 3339, or milliseconds since 1970.
        #[arg(long, value_parser = moment)]
        since: Option<i64>,
        /// Up to here; now, if nothing is said.
        #[arg(long, value_parser = moment, requires = "since")]
        until: Option<i64>,
    },
}

#[derive(Subcommand, Debug)]
pub(crate) enum Receivers {
    /// List those that the tenant's rules may name.
    List,
    /// Tell one of a made-up alert, and that it is over, and show what it says.
    Test {
        /// As aesp alert receivers list shows it.
        name: String,
    },
}

impl Alert {
    pub(crate) async fn run(self, ctx: &Context) -> Result<(), Failure> {
        let tenant_id = ctx.tenant();
        let mut alerts = ctx.client()?.alerts();
        match self {
            Self::Rules(rules) => rules.run(ctx).await,
            Self::Receivers(receivers) => receivers.run(ctx).await,
            Self::List { status, page } => {
                let request = v1::ListAlertsRequest { tenant_id, status, page: page.into() };
                ctx.show_list("ListAlertsResponse", alerts.list_alerts(request).await?, "alerts", ALERTS)
            }
            Self::Ack { alert: alert_id, note, resolve } => {
                let request = v1::AcknowledgeAlertRequest { tenant_id, alert_id, note, resolve };
                ctx.show("Alert", alerts.acknowledge_alert(request).await?)
            }
            Self::Silence { matchers, time, reason } => {
                let until_ms = SystemClock.now().plus(time.0).0;
                let request = v1::SilenceAlertsRequest { tenant_id, matchers, until_ms, reason };
                ctx.show("AlertSilence", alerts.silence_alerts(request).await?)
            }
            Self::Silences { all } => {
                let answer = alerts.list_silences(v1::ListSilencesRequest { tenant_id, all }).await?;
                ctx.show_list("ListSilencesResponse", answer, "silences", SILENCES)
            }
            Self::Unsilence { silence: silence_id } => {
                let request = v1::ExpireSilenceRequest { tenant_id, silence_id };
                ctx.show("AlertSilence", alerts.expire_silence(request).await?)
            }
            Self::Deliveries { receiver, alert: alert_id, outcome, page } => {
                let page = page.into();
                let request = v1::ListDeliveriesRequest { tenant_id, receiver, alert_id, outcome, page };
                let answer = alerts.list_deliveries(request).await?;
                ctx.show_list("ListDeliveriesResponse", answer, "deliveries", DELIVERIES)
            }
        }
    }
}

impl Rules {
    async fn run(self, ctx: &Context) -> Result<(), Failure> {
        let tenant_id = ctx.tenant();
        let mut alerts = ctx.client()?.alerts();
        match self {
            Self::Apply { file, comment, expected_version, check: validate_only } => {
                let text = file::text(&file)?;
                let request =
                    v1::ApplyAlertRulesRequest { tenant_id, text, expected_version, comment, validate_only };
                ctx.show("AlertRulesVersion", alerts.apply_alert_rules(request).await?)
            }
            Self::List => {
                let answer = alerts.list_alert_rules(v1::ListAlertRulesRequest { tenant_id }).await?;
                ctx.show_list("ListAlertRulesResponse", answer, "rules", RULES)
            }
            Self::Show { name: Some(name), .. } => {
                let request = v1::GetAlertRuleRequest { tenant_id, name };
                ctx.show("GetAlertRuleResponse", alerts.get_alert_rule(request).await?)
            }
            Self::Show { name: None, version } => {
                let request = v1::GetAlertRulesRequest { tenant_id, version };
                ctx.show("AlertRulesVersion", alerts.get_alert_rules(request).await?)
            }
            Self::History(page) => {
                let request = v1::ListAlertRuleVersionsRequest { tenant_id, page: page.into() };
                let answer = alerts.list_alert_rule_versions(request).await?;
                ctx.show_list("ListAlertRuleVersionsResponse", answer, "versions", VERSIONS)
            }
            Self::Rollback { version, comment, expected_version } => {
                let request = v1::RollbackAlertRulesRequest { tenant_id, version, expected_version, comment };
                ctx.show("AlertRulesVersion", alerts.rollback_alert_rules(request).await?)
            }
            Self::Test { file, since, until } => {
                let text = file.as_deref().map(file::text).transpose()?.unwrap_or_default();
                let (from_ms, to_ms) = (since.unwrap_or_default(), until.unwrap_or_default());
                let request = v1::TestAlertRulesRequest { tenant_id, text, from_ms, to_ms };
                let answer = alerts.test_alert_rules(request).await?;
                let failed = answer.get_ref().failed.len();
                ctx.show("TestAlertRulesResponse", answer)?;
                if failed == 0 {
                    return Ok(());
                }
                Err(Failure::local(
                    format!("{failed} tests failed"),
                    "correct the rules, or what is expected of them",
                ))
            }
        }
    }
}

impl Receivers {
    async fn run(self, ctx: &Context) -> Result<(), Failure> {
        let mut alerts = ctx.client()?.alerts();
        match self {
            Self::List => {
                let request = v1::ListAlertReceiversRequest { tenant_id: ctx.tenant() };
                let answer = alerts.list_alert_receivers(request).await?;
                ctx.show_list("ListAlertReceiversResponse", answer, "receivers", RECEIVERS)
            }
            Self::Test { name } => {
                let answer =
                    alerts.test_alert_receiver(v1::TestAlertReceiverRequest { name: name.clone() }).await?;
                let told = answer.get_ref().clone();
                ctx.show("TestAlertReceiverResponse", answer)?;
                if told.taken {
                    return Ok(());
                }
                let message = format!("{name} did not take the alert: {}: {}", told.cause, told.trouble);
                Err(Failure::local(message, "docs/alerts.md says what to do for each cause"))
            }
        }
    }
}
