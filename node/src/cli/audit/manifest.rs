use std::{
    fs::File,
    io::{BufReader, Read, stdin},
    path::Path,
};

use aesp_audit::{PublicKey, verify_manifest};
use serde_json::json;

use crate::cli::{context::Context, failure::Failure};

/// Checks a file by its manifest, offline.
pub(super) fn verify(ctx: &Context, file: &Path, manifest: &Path, keys: &[PublicKey]) -> Result<(), Failure> {
    let file: Box<dyn Read> =
        if file == Path::new("-") { Box::new(stdin().lock()) } else { Box::new(open(file)?) };
    let report = verify_manifest(BufReader::new(open(manifest)?), BufReader::new(file), keys);
    let report = report.map_err(|why| {
        Failure::local(format!("the export does not verify: {why}"), "export again and compare")
    })?;
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
    if report.trusted {
        return Ok(());
    }
    ctx.console.note(
        "The signing keys were not compared with keys of yours: give --key to be sure whose log this is.",
    )
}

fn open(path: &Path) -> Result<File, Failure> {
    File::open(path)
        .map_err(|error| Failure::usage(format!("can't read {}: {error}", path.display()), "name an export"))
}
