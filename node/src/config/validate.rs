use std::{fmt::Display, ops::RangeInclusive, path::PathBuf};

use aesp_cluster::peer::spoken_protocols;
use tracing_subscriber::EnvFilter;

use super::{
    Backup, Cluster, Config, Engine, Error, Fdb,
    backup_fdb::check_target,
    load::Loaded,
    origin::{Origin, beside},
};

/// Checks every value and turns the file's relative paths into paths beside the file.
pub(super) fn validate(mut config: Config, loaded: &Loaded) -> Result<Config, Error> {
    let check = Check { loaded };
    let limits = &config.limits;
    check.name("node.name", &config.node.name)?;
    for (key, value) in [("node.datacenter", &config.node.datacenter), ("node.zone", &config.node.zone)] {
        if let Some(value) = value {
            check.name(key, value)?;
        }
    }
    check.range("store.map_size_gib", config.store.map_size_gib, 1..=16_384)?;
    check.range("tokens.access_ttl_seconds", config.tokens.access_ttl_seconds, 60..=3_600)?;
    check.range("tokens.refresh_ttl_seconds", config.tokens.refresh_ttl_seconds, 60..=90 * 86_400)?;
    check.filled("tokens.issuer", &config.tokens.issuer)?;
    check.filled("tokens.audience", &config.tokens.audience)?;
    check.range("limits.connections", limits.connections, 1..=1_000_000)?;
    check.range("limits.handshake_timeout_ms", limits.handshake_timeout_ms, 100..=60_000)?;
    check.range("limits.message_bytes", limits.message_bytes, 65_536..=64 << 20)?;
    check.range("limits.streams_per_connection", limits.streams_per_connection, 1..=1_000_000)?;
    check.range("limits.connection_age_seconds", limits.connection_age_seconds, 10..=30 * 86_400)?;
    check.range("limits.calls_in_flight", limits.calls_in_flight, 1..=10_000_000)?;
    check.range("limits.drain_seconds", limits.drain_seconds, 0..=3_600)?;
    if let Err(error) = EnvFilter::try_new(&config.log.level) {
        return check.invalid(
            "log.level",
            &config.log.level,
            format!("a filter such as `info` or `info,aesp_session=debug` ({error})"),
        );
    }

    config.store.path = match config.store.engine() {
        Some(Engine::Memory) => config.store.path,
        Some(Engine::Lmdb(path)) => format!("lmdb:{}", check.beside("store.path", path).display()),
        Some(Engine::Fdb(path)) => format!("fdb:{}", check.beside("store.path", path).display()),
        None => {
            let expected = "`lmdb:PATH`, `fdb:CLUSTER_FILE` or `memory`";
            return check.invalid("store.path", &config.store.path, expected);
        }
    };
    config.store.fdb = check.fdb(config.store.fdb)?;
    config.store.fdb.datacenter = config.store.fdb.datacenter.or_else(|| config.node.datacenter.clone());
    config.node.data_dir = check.beside("node.data_dir", config.node.data_dir);
    config.keys = check.keys(config.keys)?;
    config.tls.certificate = check.beside("tls.certificate", config.tls.certificate);
    config.tls.key = check.beside("tls.key", config.tls.key);
    config.tls.client_ca = check.beside("tls.client_ca", config.tls.client_ca);
    config.tls.crls = config.tls.crls.into_iter().map(|path| check.beside("tls.crls", path)).collect();
    if let Some(cluster) = config.cluster.take() {
        config.cluster = Some(check.cluster(&config, cluster)?);
    }
    if let Some(backup) = config.backup.take() {
        config.backup = Some(check.backup(&config, backup)?);
    }
    config.audit = check.audit(config.audit)?;
    config.alerts = check.alerts(config.alerts)?;
    Ok(config)
}

pub(super) struct Check<'a> {
    loaded: &'a Loaded,
}

impl Check<'_> {
    pub(super) fn invalid<T>(
        &self,
        key: &str,
        found: impl Display,
        expected: impl Into<String>,
    ) -> Result<T, Error> {
        let origin = self.loaded.origin(&split(key));
        Err(Error::Invalid {
            origin,
            key: key.into(),
            found: format!("\"{found}\""),
            expected: expected.into(),
        })
    }

    pub(super) fn range(&self, key: &str, value: u32, allowed: RangeInclusive<u32>) -> Result<(), Error> {
        if allowed.contains(&value) {
            return Ok(());
        }
        self.invalid(key, value, format!("from {} to {}", allowed.start(), allowed.end()))
    }

    fn filled(&self, key: &str, value: &str) -> Result<(), Error> {
        if value.trim().is_empty() { self.invalid(key, value, "not empty") } else { Ok(()) }
    }

    fn cluster(&self, config: &Config, mut cluster: Cluster) -> Result<Cluster, Error> {
        self.range("cluster.lease_ms", cluster.lease_ms, 500..=60_000)?;
        let spoken = spoken_protocols();
        if cluster.protocol_max != 0 && !spoken.contains(&cluster.protocol_max) {
            let expected = format!("0 for the newest, or from {} to {}", spoken.start(), spoken.end());
            return self.invalid("cluster.protocol_max", cluster.protocol_max, expected);
        }
        self.name("cluster.trust_domain", &cluster.trust_domain)?;
        if config.store.engine() == Some(Engine::Memory) {
            return self.invalid(
                "store.path",
                &config.store.path,
                "`lmdb:PATH` or `fdb:CLUSTER_FILE` where there is a [cluster]",
            );
        }
        for seed in &cluster.seeds {
            self.endpoint("cluster.seeds", seed)?;
        }
        if !cluster.advertise.is_empty() {
            self.endpoint("cluster.advertise", &cluster.advertise)?;
        } else if config.listen.peers.ip().is_unspecified() {
            let expected =
                "the host and port where others reach this node, because listen.peers names no host";
            return self.invalid("cluster.advertise", "", expected);
        }
        if cluster.certificate.is_some() != cluster.key.is_some() {
            let found = cluster.certificate.or(cluster.key).unwrap_or_default();
            let expected = "given together with cluster.key, or both left out";
            return self.invalid("cluster.certificate", found.display(), expected);
        }
        cluster.secret_file = self.beside("cluster.secret_file", cluster.secret_file);
        cluster.certificate = cluster.certificate.map(|path| self.beside("cluster.certificate", path));
        cluster.key = cluster.key.map(|path| self.beside("cluster.key", path));
        Ok(cluster)
    }

    fn backup(&self, config: &Config, mut backup: Backup) -> Result<Backup, Error> {
        self.range("backup.segment_seconds", backup.segment_seconds, 1..=10)?;
        self.range("backup.snapshot_minutes", backup.snapshot_minutes, 1..=30 * 1_440)?;
        self.range("backup.keep_days", backup.keep_days, 1..=3_650)?;
        self.range("backup.throttle_mib_per_second", backup.throttle_mib_per_second, 1..=100_000)?;
        self.range("backup.journal_max_mib", backup.journal_max_mib, 16..=1 << 20)?;
        self.range("backup.object_lock_days", backup.object_lock_days, 0..=3_650)?;
        self.range("backup.drill_hours", backup.drill_hours, 0..=24 * 366)?;
        backup.credentials_file =
            backup.credentials_file.map(|path| self.beside("backup.credentials_file", path));
        match config.store.engine() {
            Some(Engine::Lmdb(_)) => self.backup_lmdb(backup),
            Some(Engine::Fdb(_)) => self.backup_fdb(backup),
            _ => {
                let expected = "`lmdb:PATH` or `fdb:CLUSTER_FILE` where there is a [backup]; nothing of `memory` can be restored";
                self.invalid("store.path", &config.store.path, expected)
            }
        }
    }

    fn backup_fdb(&self, mut backup: Backup) -> Result<Backup, Error> {
        if let Err(expected) = check_target(&backup) {
            // The secret that may stand in it is not repeated.
            let shown = backup.target.split('@').next_back().unwrap_or_default();
            return self.invalid("backup.target", shown, expected);
        }
        self.range("backup.fdb.agents", backup.fdb.agents, 0..=64)?;
        let usual = Backup::default();
        for (key, found, usual) in [
            ("backup.segment_seconds", backup.segment_seconds, usual.segment_seconds),
            ("backup.throttle_mib_per_second", backup.throttle_mib_per_second, usual.throttle_mib_per_second),
            ("backup.journal_max_mib", backup.journal_max_mib, usual.journal_max_mib),
            ("backup.object_lock_days", backup.object_lock_days, usual.object_lock_days),
        ] {
            if found != usual {
                return self.invalid(
                    key,
                    found,
                    "left out for a store on FoundationDB, which knows no such thing",
                );
            }
        }
        if let Some(ca) = &backup.ca {
            let expected = "left out for a store on FoundationDB: its agents believe what store.fdb.ca names";
            return self.invalid("backup.ca", ca.display(), expected);
        }
        if backup.fdb.drill_cluster.is_none() && backup.drill_hours > 0 {
            let expected = "0 where there is no backup.fdb.drill_cluster, the FoundationDB cluster that drills restore to";
            return self.invalid("backup.drill_hours", backup.drill_hours, expected);
        }
        let fdb = &mut backup.fdb;
        fdb.programs = self.beside("backup.fdb.programs", std::mem::take(&mut fdb.programs));
        fdb.agent = self.beside("backup.fdb.agent", std::mem::take(&mut fdb.agent));
        fdb.drill_cluster =
            fdb.drill_cluster.take().map(|path| self.beside("backup.fdb.drill_cluster", path));
        Ok(backup)
    }

    fn backup_lmdb(&self, mut backup: Backup) -> Result<Backup, Error> {
        let place = ["file:///", "s3://", "az://", "gs://"];
        if !place.iter().any(|scheme| backup.target.len() > scheme.len() && backup.target.starts_with(scheme))
        {
            let expected = "`file:///PATH`, `s3://BUCKET/PREFIX`, `az://ACCOUNT/CONTAINER/PREFIX` or `gs://BUCKET/PREFIX`";
            return self.invalid("backup.target", &backup.target, expected);
        }
        if backup.object_lock_days > 0 && !backup.target.starts_with("s3://") {
            let expected = "0 where backup.target is no `s3://`: only S3 locks objects";
            return self.invalid("backup.object_lock_days", backup.object_lock_days, expected);
        }
        backup.ca = backup.ca.map(|path| self.beside("backup.ca", path));
        backup.scratch_dir = self.beside("backup.scratch_dir", backup.scratch_dir);
        Ok(backup)
    }

    fn fdb(&self, mut fdb: Fdb) -> Result<Fdb, Error> {
        let ordinary =
            (1..=32).contains(&fdb.prefix.len()) && fdb.prefix.bytes().all(|byte| byte.is_ascii_graphic());
        if !ordinary {
            return self.invalid("store.fdb.prefix", &fdb.prefix, "1 to 32 printable ASCII characters");
        }
        let files = [&fdb.certificate, &fdb.key, &fdb.ca].map(Option::is_some);
        if files.contains(&true) && files.contains(&false) {
            let found = [&fdb.certificate, &fdb.key, &fdb.ca].into_iter().flatten().next();
            let found = found.map(|path| path.display().to_string()).unwrap_or_default();
            let expected = "given together with store.fdb.key and store.fdb.ca, or all three left out";
            return self.invalid("store.fdb.certificate", found, expected);
        }
        if let (Some(rule), false) = (&fdb.verify_peers, files[0]) {
            let expected = "left out where there is no store.fdb.certificate, store.fdb.key and store.fdb.ca";
            return self.invalid("store.fdb.verify_peers", rule, expected);
        }
        fdb.certificate = fdb.certificate.map(|path| self.beside("store.fdb.certificate", path));
        fdb.key = fdb.key.map(|path| self.beside("store.fdb.key", path));
        fdb.ca = fdb.ca.map(|path| self.beside("store.fdb.ca", path));
        fdb.library = fdb.library.map(|path| self.library(path));
        Ok(fdb)
    }

    /// A bare name is for the system to find; anything else is a path.
    fn library(&self, path: PathBuf) -> PathBuf {
        if path.components().count() == 1 { path } else { self.beside("store.fdb.library", path) }
    }

    fn endpoint(&self, key: &str, value: &str) -> Result<(), Error> {
        let parts = value.rsplit_once(':');
        let whole = |(host, port): (&str, &str)| {
            !host.is_empty()
                && host.bytes().all(|byte| byte.is_ascii_graphic())
                && port.parse::<u16>().is_ok_and(|port| port > 0)
        };
        if parts.is_some_and(whole) {
            return Ok(());
        }
        self.invalid(key, value, "a host and a port, for example \"node-2.example:9444\"")
    }

    fn name(&self, key: &str, value: &str) -> Result<(), Error> {
        let ordinary = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if (1..=63).contains(&value.len()) && value.chars().all(ordinary) {
            return Ok(());
        }
        self.invalid(key, value, "1 to 63 letters, digits, `-`, `_` or `.`")
    }

    /// A path in the file is seen from the file; one in a variable or flag, from the working directory.
    pub(super) fn beside(&self, key: &str, path: PathBuf) -> PathBuf {
        match self.loaded.origin(&split(key)) {
            Origin::Line(file, _) => beside(&file, &path),
            Origin::Flag(_) | Origin::Variable(_) => path,
            Origin::Default => {
                self.loaded.file.as_deref().map_or_else(|| path.clone(), |file| beside(file, &path))
            }
        }
    }
}

fn split(key: &str) -> Vec<String> {
    key.split('.').map(str::to_owned).collect()
}
