use std::{path::PathBuf, sync::Arc, time::Duration};

use aesp_backup::{Point, Scope, Version};
use aesp_proto::{Entropy, SystemClock, TenantId, Timestamp};
use clap::Args;
use data_encoding::HEXLOWER;
use serde_json::json;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::time::Instant;

use super::{config, context::Context, failure::Failure, progress};
use crate::{
    Config,
    backup::{Destination, Place, Wanted, map_size, restore, restore_fdb},
    config::Engine,
};

/// Restore a backup into an empty store, offline. Which archive and which keys, the node's configuration says.
#[derive(Args, Debug)]
pub(crate) struct Restore {
    /// `latest`, a time such as 2026-11-26T14:03:05.250Z, or a version.
    #[arg(long, value_parser = point)]
    at: Point,
    /// The new store: for lmdb a folder that is not there yet, or is empty; for FoundationDB the cluster file of the cluster,
    /// which is locked meanwhile [default for FoundationDB: that of store.path].
    #[arg(long, value_name = "PATH")]
    into: Option<PathBuf>,
    /// FoundationDB: the prefix of the new store, under which nothing may be [default: store.fdb.prefix].
    #[arg(long)]
    prefix: Option<String>,
}

fn point(text: &str) -> Result<Point, String> {
    if text == "latest" {
        return Ok(Point::Latest);
    }
    if let Ok(version) = text.parse() {
        return Ok(Point::Version(Version(version)));
    }
    let at = OffsetDateTime::parse(text, &Rfc3339)
        .map_err(|_| "write latest, a time such as 2026-11-26T14:03:05Z, or a version")?;
    let ms = at.unix_timestamp_nanos().div_euclid(1_000_000);
    i64::try_from(ms).map(|ms| Point::Time(Timestamp(ms))).map_err(|_| "there is no such time".to_owned())
}

impl Restore {
    pub(crate) async fn run(self, ctx: &Context) -> Result<(), Failure> {
        let scope = match &ctx.named_tenant {
            None => Scope::Everything,
            Some(named) => Scope::Tenant(named.parse::<TenantId>().map_err(|_| {
                let next = "aesp tenant list shows ids; without --tenant everything is restored";
                Failure::usage("a restore knows tenants by their id only", next)
            })?),
        };
        let config = config::load(ctx, Vec::new())?;
        if let Some(Engine::Fdb(cluster_file)) = config.store.engine() {
            if scope != Scope::Everything {
                let next = "leave --tenant out, and look the tenant up in what was restored elsewhere";
                return Err(Failure::usage("FoundationDB restores a store as a whole", next));
            }
            return self.run_fdb(ctx, &config, cluster_file).await;
        }
        if self.prefix.is_some() {
            return Err(Failure::usage("a store on lmdb has no prefix", "leave --prefix out"));
        }
        let into = self.into.ok_or_else(|| {
            Failure::usage("a restore needs a folder", "name one that is not there yet with --into")
        })?;
        let place = Place::of(&config, crate::keys::open(&config.keys).await.map_err(anyhow::Error::from)?)?;
        let wanted = Wanted { at: self.at, scope, into: &into, options: map_size(&config) };
        let started = Instant::now();
        let mut bar = progress::Steps::new();
        let (clock, entropy) = (Arc::new(SystemClock), Entropy::from_system());
        let outcome = restore(&place, wanted, clock, &entropy, &mut |step| bar.show(step)).await;
        bar.finish();
        let outcome = outcome?;
        let (restored, took) = (&outcome.restored, started.elapsed());
        ctx.console.value(&json!({
            "restored": into,
            "scope": match scope {
                Scope::Everything => "everything".to_owned(),
                Scope::Tenant(tenant) => tenant.to_string(),
            },
            "cluster_id": outcome.cluster,
            "version": restored.version.0,
            "restored_to_ms": restored.time.0,
            "backup_id": restored.snapshot.to_string(),
            "commits": restored.commits,
            "rows": restored.rows,
            "bytes": restored.bytes,
            "digest": HEXLOWER.encode(&restored.digest),
            "keys_destroyed_since": restored.destroyed.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "unread_after": restored.unread_after,
            "log_epoch": outcome.reborn.log_epoch,
            "tenants": outcome.logs.tenants,
            "events_verified": outcome.logs.events,
            "took_ms": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            "bytes_per_second": per_second(restored.bytes, took),
        }))?;
        ctx.console.note(&format!(
            "\nEverybody logs in again. API keys and passwords are as they were at that moment: revoke again what was revoked since.\n\
             Next:  set store.path = \"lmdb:{}\", start the nodes, then aesp backup now",
            into.display(),
        ))
    }

    async fn run_fdb(self, ctx: &Context, config: &Config, own: PathBuf) -> Result<(), Failure> {
        let to = Destination {
            cluster_file: self.into.unwrap_or(own),
            prefix: self.prefix.unwrap_or_else(|| config.store.fdb.prefix.clone()),
        };
        let provider = crate::keys::open(&config.keys).await.map_err(anyhow::Error::from)?;
        let started = Instant::now();
        let mut bar = progress::Steps::new();
        let (clock, entropy) = (Arc::new(SystemClock), Entropy::from_system());
        let restored =
            restore_fdb(config, self.at, &to, provider, clock, &entropy, &mut |step| bar.show(step)).await;
        bar.finish();
        let (outcome, took) = (restored?, started.elapsed());
        ctx.console.value(&json!({
            "restored": to.cluster_file,
            "prefix": to.prefix,
            "cluster_id": outcome.cluster,
            "version": outcome.version,
            "restored_to_ms": outcome.time.0,
            "backup_id": outcome.backup,
            "rows": outcome.rows,
            "bytes": outcome.bytes,
            "log_epoch": outcome.reborn.log_epoch,
            "tenants": outcome.logs.tenants,
            "events_verified": outcome.logs.events,
            "took_ms": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            "bytes_per_second": per_second(outcome.bytes, took),
        }))?;
        ctx.console.note(&format!(
            "\nEverybody logs in again. API keys and passwords are as they were at that moment: revoke again what was revoked since.\n\
             Next:  set store.path = \"fdb:{}\" and store.fdb.prefix = \"{}\", and start the nodes",
            to.cluster_file.display(),
            to.prefix,
        ))
    }
}

fn per_second(bytes: u64, took: Duration) -> u64 {
    let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX).max(1);
    bytes.saturating_mul(1_000) / ms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_read_as_people_write_them() {
        assert_eq!(point("latest"), Ok(Point::Latest));
        assert_eq!(point("4711"), Ok(Point::Version(Version(4_711))));
        assert_eq!(point("1970-01-01T00:00:01.250Z"), Ok(Point::Time(Timestamp(1_250))));
        assert_eq!(point("1970-01-01T02:00:01+02:00"), Ok(Point::Time(Timestamp(1_000))));
        for wrong in ["", "yesterday", "2026-11-26", "2026-11-26 10:00", "-1"] {
            assert!(point(wrong).is_err(), "{wrong}");
        }
    }
}
