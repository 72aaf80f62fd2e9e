use aesp_proto::v1;
use clap::{Args, Subcommand};

use super::filter::{Times, event_type, moment};
use crate::cli::{context::Context, failure::Failure, page::Page};

const RULES: &[&str] = &["name", "retain_days", "event_types", "action_prefix", "classifications"];
const HOLDS: &[&str] = &["hold_id", "active", "principal_id", "from_ms", "to_ms", "reason"];
const DESTROYED: &[&str] =
    &["destroyed_at_ms", "class", "principal_id", "from_ms", "to_ms", "events", "rule"];
const PARTITIONS: &[&str] = &["class", "from_ms", "to_ms", "until_ms", "held_by"];
const ACCESS: &[&str] = &["tool", "principal_name", "principal_id", "could", "succeeded", "failed", "denied"];

/// How long events are kept.
#[derive(Subcommand, Debug)]
pub(crate) enum Retention {
    /// Show the rules, or those of an earlier version.
    Show {
        /// As the newest rules count it; 0 for the newest.
        #[arg(long, default_value_t = 0, hide_default_value = true)]
        version: u64,
    },
    /// Replace the rules.
    Set(Set),
    /// Show the stretches of time that have their keys, and when these will be destroyed.
    Partitions,
}

#[derive(Args, Debug)]
pub(crate) struct Set {
    /// A rule; the first that fits an event decides: name=NAME,days=DAYS and any number of type=TYPE, action=PREFIX,
    /// classification=NAME. 0 days are for ever.
    #[arg(long = "rule", value_parser = rule, value_name = "RULE")]
    rules: Vec<v1::RetentionRule>,
    /// Days of what no rule fits, 0 for ever [default: what the platform says].
    #[arg(long, value_name = "DAYS")]
    standard_days: Option<u32>,
    /// Refuse if the rules are at another version by now.
    #[arg(long, default_value_t = 0, hide_default_value = true, value_name = "VERSION")]
    expect: u64,
}

fn rule(text: &str) -> Result<v1::RetentionRule, String> {
    let mut rule = v1::RetentionRule::default();
    let mut days = None;
    for part in text.split(',') {
        let (key, value) = part.split_once('=').ok_or("a rule is name=NAME,days=DAYS,…")?;
        match key {
            "name" => value.clone_into(&mut rule.name),
            "days" => days = Some(value.parse().map_err(|_| "days is a number")?),
            "type" => rule.event_types.push(event_type(value)?.as_str_name().to_owned()),
            "action" => value.clone_into(&mut rule.action_prefix),
            "classification" => rule.classifications.push(value.to_uppercase()),
            other => return Err(format!("{other} is none of name, days, type, action, classification")),
        }
    }
    rule.retain_days = days.ok_or("a rule says days=DAYS")?;
    Ok(rule)
}

impl Retention {
    pub(crate) async fn run(self, ctx: &Context) -> Result<(), Failure> {
        let (mut retention, tenant_id) = (ctx.client()?.retention(), ctx.tenant());
        match self {
            Self::Show { version } => {
                let request = v1::GetRetentionPolicyRequest { tenant_id, version };
                let answer = retention.get_retention_policy(request).await?;
                ctx.show_list("RetentionPolicy", answer, "rules", RULES)
            }
            Self::Set(set) => {
                let request = v1::SetRetentionPolicyRequest {
                    tenant_id,
                    rules: set.rules,
                    standard_days: set.standard_days,
                    expected_version: set.expect,
                };
                ctx.show("RetentionPolicy", retention.set_retention_policy(request).await?)
            }
            Self::Partitions => {
                let request = v1::ListAuditPartitionsRequest { tenant_id };
                let answer = retention.list_audit_partitions(request).await?;
                ctx.show_list("ListAuditPartitionsResponse", answer, "partitions", PARTITIONS)
            }
        }
    }
}

/// Legal holds: what one covers is not erased, whatever rules and people say.
#[derive(Subcommand, Debug)]
pub(crate) enum Hold {
    /// Place a hold on all of a tenant's events, or on those of a principal or a time.
    Place {
        /// Only what concerns this principal, by name or id.
        #[arg(long, default_value = "", hide_default_value = true, value_name = "NAME")]
        principal: String,
        /// Only from this time on: RFC 3339, or milliseconds since 1970.
        #[arg(long, value_parser = moment, value_name = "TIME")]
        from: Option<i64>,
        /// Only before this time.
        #[arg(long, value_parser = moment, value_name = "TIME")]
        to: Option<i64>,
        /// Why; stays with the hold.
        #[arg(long)]
        reason: String,
    },
    /// End a hold.
    Release {
        /// As aesp audit hold list shows it.
        hold_id: String,
        /// Why.
        #[arg(long)]
        reason: String,
    },
    /// List the holds, those that ended included.
    List,
}

impl Hold {
    pub(crate) async fn run(self, ctx: &Context) -> Result<(), Failure> {
        let (mut retention, tenant_id) = (ctx.client()?.retention(), ctx.tenant());
        match self {
            Self::Place { principal, from, to, reason } => {
                let request = v1::PlaceLegalHoldRequest {
                    tenant_id,
                    principal_id: principal,
                    from_ms: from.unwrap_or_default(),
                    to_ms: to.unwrap_or_default(),
                    reason,
                };
                ctx.show("LegalHold", retention.place_legal_hold(request).await?)
            }
            Self::Release { hold_id, reason } => {
                let request = v1::ReleaseLegalHoldRequest { tenant_id, hold_id, reason };
                ctx.show("LegalHold", retention.release_legal_hold(request).await?)
            }
            Self::List => {
                let answer = retention.list_legal_holds(v1::ListLegalHoldsRequest { tenant_id }).await?;
                ctx.show_list("ListLegalHoldsResponse", answer, "holds", HOLDS)
            }
        }
    }
}

#[derive(Args, Debug)]
pub(crate) struct Erase {
    /// Whose events, by name or id; the id also of an account that is gone.
    #[arg(long, value_name = "NAME")]
    principal: String,
    /// Why; stays in the report.
    #[arg(long)]
    reason: String,
}

impl Erase {
    pub(crate) async fn run(self, ctx: &Context) -> Result<(), Failure> {
        let request = v1::EraseSubjectRequest {
            tenant_id: ctx.tenant(),
            principal_id: self.principal,
            reason: self.reason,
        };
        ctx.show("EraseSubjectResponse", ctx.client()?.retention().erase_subject(request).await?)
    }
}

#[derive(Args, Debug)]
pub(crate) struct Destructions {
    #[command(flatten)]
    page: Page,
}

impl Destructions {
    pub(crate) async fn run(self, ctx: &Context) -> Result<(), Failure> {
        let request = v1::ListDestructionsRequest { tenant_id: ctx.tenant(), page: self.page.into() };
        let answer = ctx.client()?.retention().list_destructions(request).await?;
        ctx.show_list("ListDestructionsResponse", answer, "destructions", DESTROYED)
    }
}

/// Where the oldest events lie.
#[derive(Subcommand, Debug)]
pub(crate) enum Archive {
    /// Show what of the log lies on the object store.
    Status,
    /// Move what is old enough now, for some seconds.
    Run,
}

impl Archive {
    pub(crate) async fn run(self, ctx: &Context) -> Result<(), Failure> {
        let (mut retention, tenant_id) = (ctx.client()?.retention(), ctx.tenant());
        match self {
            Self::Status => {
                let request = v1::GetAuditArchiveRequest { tenant_id };
                ctx.show("AuditArchive", retention.get_audit_archive(request).await?)
            }
            Self::Run => {
                let request = v1::RunAuditArchiveRequest { tenant_id };
                ctx.show("RunAuditArchiveResponse", retention.run_audit_archive(request).await?)
            }
        }
    }
}

#[derive(Args, Debug)]
pub(crate) struct AccessReport {
    /// Only this tool.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "NAME")]
    tool: String,
    /// Only this principal, by name or id.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "NAME")]
    principal: String,
    #[command(flatten)]
    times: Times,
}

impl AccessReport {
    pub(crate) async fn run(self, ctx: &Context) -> Result<(), Failure> {
        let request = v1::GetAccessReportRequest {
            tenant_id: ctx.tenant(),
            tool: self.tool,
            principal_id: self.principal,
            start_ms: self.times.start.unwrap_or_default(),
            end_ms: self.times.end.unwrap_or_default(),
        };
        let answer = ctx.client()?.access_reports().get_access_report(request).await?;
        ctx.show_list("GetAccessReportResponse", answer, "lines", ACCESS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_has_one_line() {
        let read =
            rule("name=calls,days=30,type=tool-invocation,action=tool.,classification=internal").unwrap();
        assert_eq!((read.name.as_str(), read.retain_days), ("calls", 30));
        assert_eq!(read.event_types, ["TOOL_INVOCATION"]);
        assert_eq!(
            (read.action_prefix.as_str(), read.classifications),
            ("tool.", vec!["INTERNAL".to_owned()])
        );
        for wrong in ["", "name=x", "name=x,days=soon", "days=1,colour=red", "name=x,days=1,type=none"] {
            assert!(rule(wrong).is_err(), "{wrong}");
        }
    }
}
