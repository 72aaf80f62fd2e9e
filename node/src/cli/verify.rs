use std::{
    fs::File,
    io::{BufRead, BufReader, Read, stdin},
    path::{Path, PathBuf},
};

use aesp_audit::{ManifestReport, PublicKey, Report, verify, verify_manifest};
use clap::Args;
use data_encoding::HEXLOWER_PERMISSIVE;
use serde_json::json;

use super::{context::Context, failure::Failure, progress};

#[derive(Args, Debug)]
pub(crate) struct Verify {
    /// The export; `-` for standard input.
    file: PathBuf,
    /// A public key that may have signed it, 64 hexadecimal digits; may be repeated. Without any, those in the export are
    /// believed: then anybody may have made it.
    #[arg(long = "key", value_name = "HEX", value_parser = public_key)]
    keys: Vec<PublicKey>,
    /// The manifest of an export in another form than JSON Lines.
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
}

fn public_key(text: &str) -> Result<PublicKey, String> {
    let bytes = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok();
    let bytes: Option<[u8; 32]> = bytes.and_then(|bytes| bytes.try_into().ok());
    bytes.map(PublicKey).ok_or_else(|| "a public key has 64 hexadecimal digits".into())
}

impl Verify {
    pub(crate) fn run(self, ctx: &Context) -> Result<(), Failure> {
        if let Some(manifest) = &self.manifest {
            return self.by_manifest(ctx, manifest);
        }
        let outcome = if self.file == Path::new("-") {
            verify(stdin().lock(), &self.keys)
        } else {
            let file = open(&self.file)?;
            let bar = progress::bytes("verified", file.metadata().ok().map(|metadata| metadata.len()));
            let export: Box<dyn BufRead> = Box::new(BufReader::new(bar.wrap_read(file)));
            let outcome = verify(export, &self.keys);
            bar.finish_and_clear();
            outcome
        };
        match outcome {
            Ok(report) => show(ctx, &report),
            Err(broken) => Err(Failure::local(
                format!("the export does not verify: {broken}"),
                "export again and compare; if that breaks at the same event, the stored log was tampered with",
            )),
        }
    }

    fn by_manifest(&self, ctx: &Context, manifest: &Path) -> Result<(), Failure> {
        let file: Box<dyn Read> =
            if self.file == Path::new("-") { Box::new(stdin().lock()) } else { Box::new(open(&self.file)?) };
        let report = verify_manifest(BufReader::new(open(manifest)?), BufReader::new(file), &self.keys);
        let report = report.map_err(|why| {
            Failure::local(format!("the export does not verify: {why}"), "export again and compare")
        })?;
        show_manifest(ctx, &report)
    }
}

fn open(path: &Path) -> Result<File, Failure> {
    File::open(path)
        .map_err(|error| Failure::usage(format!("can't read {}: {error}", path.display()), "name an export"))
}

fn show_manifest(ctx: &Context, report: &ManifestReport) -> Result<(), Failure> {
    let keys: Vec<String> = report.keys.iter().map(|key| data_encoding::HEXLOWER.encode(&key.0)).collect();
    ctx.console.value(&json!({
        "verified": true,
        "complete": report.complete,
        "tenant_id": report.asked.tenant.to_string(),
        "format": report.asked.format,
        "start_ms": report.asked.start_ms,
        "end_ms": report.asked.end_ms,
        "filter": report.asked.filter,
        "events": report.events,
        "bytes": report.bytes,
        "parts": report.parts,
        "keys": keys,
        "trusted": report.trusted,
    }))?;
    if !report.complete {
        ctx.console.note("The export broke off: the file holds only the beginning of what was asked for.")?;
    }
    trust(ctx, report.trusted)
}

fn show(ctx: &Context, report: &Report) -> Result<(), Failure> {
    let keys: Vec<String> = report.keys.iter().map(|key| data_encoding::HEXLOWER.encode(&key.0)).collect();
    ctx.console.value(&json!({
        "verified": true,
        "tenant_id": report.tenant.to_string(),
        "exported_at_ms": report.exported_at.0,
        "events": report.events,
        "batches": report.batches,
        "chains": report.chains,
        "keys": keys,
        "trusted": report.trusted,
    }))?;
    trust(ctx, report.trusted)
}

fn trust(ctx: &Context, trusted: bool) -> Result<(), Failure> {
    if trusted {
        return Ok(());
    }
    ctx.console.note(
        "The signing keys were not compared with keys of yours: give --key to be sure whose log this is.",
    )
}
