use std::{
    fs::File,
    io::{BufRead, BufReader, stdin},
    path::{Path, PathBuf},
};

use aesp_audit::{Against, Broken, PublicKey, RangeReport, Report, TimeRange, Trust, Witness, verify_with};
use clap::Args;
use data_encoding::HEXLOWER_PERMISSIVE;
use serde_json::json;

use super::{audit::Times, context::Context, failure::Failure, progress};

#[derive(Args, Debug)]
pub(crate) struct Verify {
    /// The export; `-` for standard input.
    file: PathBuf,
    /// A public key that may have signed its batches, 64 hexadecimal digits; may be repeated. Without any key, those in the export are
    /// believed: then anybody may have made it.
    #[arg(long = "key", value_name = "HEX", value_parser = public_key)]
    keys: Vec<PublicKey>,
    /// A public key that signs checkpoints, 64 hexadecimal digits; may be repeated. The keys that it certifies, and those that
    /// hand-overs connect with it, need not be given.
    #[arg(long = "log-key", value_name = "HEX", value_parser = public_key)]
    log_keys: Vec<PublicKey>,
    /// An earlier export of the same log: everything in it must be in this one.
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// Ask whether the events of a time range are all that the log has of it. Without, that is asked of an export of a range about that.
    #[command(flatten)]
    times: Times,
    /// The manifest of an export in another form than JSON Lines.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["log_keys", "against", "start", "end"])]
    manifest: Option<PathBuf>,
}

pub(super) fn public_key(text: &str) -> Result<PublicKey, String> {
    let bytes = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok();
    let bytes: Option<[u8; 32]> = bytes.and_then(|bytes| bytes.try_into().ok());
    bytes.map(PublicKey).ok_or_else(|| "a public key has 64 hexadecimal digits".into())
}

impl Verify {
    /// Returns the manifest to check the file by, if there is one.
    pub(super) fn manifest(&self) -> Option<&Path> {
        self.manifest.as_deref()
    }

    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    pub(super) fn keys(&self) -> &[PublicKey] {
        &self.keys
    }

    pub(crate) fn run(self, ctx: &Context) -> Result<(), Failure> {
        let trust = Trust { keys: self.keys, log_keys: self.log_keys };
        let range = self.times.range()?;
        let earlier =
            self.against.as_deref().map(|file| check(file, &trust, Against::default())).transpose()?;
        show(ctx, &check(&self.file, &trust, Against { earlier: earlier.as_ref(), range })?)
    }
}

/// Opens an export.
pub(super) fn open(file: &Path) -> Result<File, Failure> {
    File::open(file)
        .map_err(|error| Failure::usage(format!("can't read {}: {error}", file.display()), "name an export"))
}

/// Says that an export does not verify.
pub(super) fn unverified(file: &Path, broken: &Broken) -> Failure {
    Failure::local(
        format!("{} does not verify: {broken}", file.display()),
        "export again and compare; if that breaks at the same event, the stored log was tampered with",
    )
}

pub(super) fn check(file: &Path, trust: &Trust, against: Against<'_>) -> Result<Report, Failure> {
    let outcome = if file == Path::new("-") {
        verify_with(stdin().lock(), trust, against)
    } else {
        let opened = open(file)?;
        let bar = progress::bytes("verified", opened.metadata().ok().map(|metadata| metadata.len()));
        let export: Box<dyn BufRead> = Box::new(BufReader::new(bar.wrap_read(opened)));
        let outcome = verify_with(export, trust, against);
        bar.finish_and_clear();
        outcome
    };
    outcome.map_err(|broken| unverified(file, &broken))
}

fn show(ctx: &Context, report: &Report) -> Result<(), Failure> {
    let keys: Vec<String> = report.keys.iter().map(|key| data_encoding::HEXLOWER.encode(&key.0)).collect();
    let sealed = report.sealed.values();
    let logs: Vec<_> = sealed
        .map(|log| {
            let root = data_encoding::HEXLOWER.encode(&log.root);
            json!({ "origin": log.origin, "checkpoints": log.checkpoints, "size": log.size, "root": root })
        })
        .collect();
    ctx.console.value(&json!({
        "verified": true,
        "tenant_id": report.tenant.to_string(),
        "exported_at_ms": report.exported_at.0,
        "events": report.events,
        "batches": report.batches,
        "chains": report.chains,
        "keys": keys,
        "trusted": report.trusted,
        "logs": logs,
        "unsealed_events": report.unsealed(),
        "checkpoints_trusted": report.sealed_trusted,
        "range": report.range.as_ref().map(of_range),
    }))?;
    if let Some(range) = &report.range {
        told_of_range(ctx, range)?;
    }
    if report.sealed_trusted || report.trusted && report.sealed.is_empty() {
        return Ok(());
    }
    ctx.console.note(
        "The keys that sign checkpoints were not compared with keys of yours: give --log-key to be sure whose log this is.",
    )
}

fn of_range(shown: &RangeReport) -> serde_json::Value {
    let witness = |witness: &Witness| {
        json!({
            "event_id": witness.event.to_string(),
            "timestamp_ms": witness.at.0,
            "log_epoch": witness.log_epoch,
            "leaf": witness.leaf,
        })
    };
    let TimeRange { start, end } = shown.range;
    json!({
        "start_ms": start.0,
        "end_ms": end.unwrap_or_default().0,
        "events": shown.events,
        "sealed_events": shown.sealed_events,
        "first": shown.first_last.as_ref().map(|(first, _)| witness(first)),
        "last": shown.first_last.as_ref().map(|(_, last)| witness(last)),
        "before": shown.before.as_ref().map(witness),
        "behind": shown.behind.as_ref().map(witness),
        "margin_before_ms": shown.margin_before_ms,
        "margin_behind_ms": shown.margin_behind_ms,
        "complete": shown.not_proven.is_empty(),
        "not_proven": shown.not_proven,
    })
}

fn told_of_range(ctx: &Context, shown: &RangeReport) -> Result<(), Failure> {
    if shown.not_proven.is_empty() {
        return ctx.console.note("These are all events of the time range that the log has.");
    }
    shown.not_proven.iter().try_for_each(|what| ctx.console.note(&format!("Not proven: {what}.")))
}
