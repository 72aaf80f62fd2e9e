//! Receipts: kept with `aesp call --receipt`, checked here offline, against an export, or with the Host.

use std::{
    collections::BTreeSet,
    fs::{self, OpenOptions},
    io::{BufReader, Read, Write, stdin},
    path::{Path, PathBuf},
    time::Duration,
};

use aesp_audit::{Against, Lookup, PublicKey, Trust, look_up};
use aesp_proto::{
    ErrorCode,
    v1::{self, EventType, Outcome},
};
use aesp_sdk::{Acknowledged, Receipt, ReceiptError};
use clap::Args;
use data_encoding::HEXLOWER;
use serde_json::json;
use tokio::time::Instant;

use super::{
    context::Context,
    failure::Failure,
    proof::{self, Trusted},
    verify::{self, public_key},
};

/// How long to wait until an event is sealed, and between two looks.
const SEALED_WITHIN: Duration = Duration::from_secs(15);
const LOOK_AGAIN: Duration = Duration::from_millis(500);

#[derive(Args, Debug)]
pub(crate) struct VerifyReceipt {
    /// The file of receipts, one a line; `-` for standard input.
    file: PathBuf,
    /// A public key that signs batches, 64 hexadecimal digits; may be repeated.
    #[arg(long = "key", value_name = "HEX", value_parser = public_key)]
    batch_keys: Vec<PublicKey>,
    #[command(flatten)]
    trusted: Trusted,
    /// An export of the same log, made later: the very events must be in it. Its header has the keys, which --log-key certifies.
    #[arg(long, value_name = "FILE", conflicts_with = "online")]
    export: Option<PathBuf>,
    /// Ask the Host: for its keys, and for proofs that the very events are in the sealed log.
    #[arg(long)]
    online: bool,
}

/// What a check came to.
struct Checked {
    receipts: Vec<Acknowledged>,
    /// Whether keys that the verifier brought lead to those that signed.
    trusted: bool,
    /// Whether it was looked for the events in the log.
    in_log: bool,
}

impl VerifyReceipt {
    pub(crate) async fn run(self, ctx: &Context) -> Result<(), Failure> {
        let receipts = read(&self.file)?;
        let checked = match &self.export {
            Some(export) => self.against(export, &receipts)?,
            None if self.online => self.with_host(ctx, &receipts).await?,
            None => {
                if self.batch_keys.is_empty() {
                    return Err(Failure::usage(
                        "a receipt does not bring the key that signed it",
                        "give --key; or --log-key together with --export or --online, which bring what it certifies",
                    ));
                }
                Checked { receipts: signed(&receipts, &self.batch_keys)?, trusted: true, in_log: false }
            }
        };
        show(ctx, &checked)
    }

    fn trust(&self) -> Trust {
        Trust { keys: self.batch_keys.clone(), log_keys: self.trusted.keys().to_vec() }
    }

    fn against(&self, export: &Path, receipts: &[Receipt]) -> Result<Checked, Failure> {
        let trust = self.trust();
        let told = (1..).zip(receipts).map(|(line, receipt)| match receipt.told() {
            Ok((_, event)) => Ok(event),
            Err(error) => Err(bad(line, &error)),
        });
        let wanted: BTreeSet<_> = told.collect::<Result<_, _>>()?;
        let found = look_up(BufReader::new(verify::open(export)?), &trust, &wanted);
        let found = found.map_err(|broken| verify::unverified(export, &broken))?;
        let acknowledged = signed(receipts, &found.keys)?;
        acknowledged.iter().try_for_each(|one| is_there(one, &found))?;
        // Only now: of a log that lost something the loss is the first thing to tell.
        verify::check(export, &trust, Against::default())?;
        let trusted = !(trust.keys.is_empty() && trust.log_keys.is_empty());
        Ok(Checked { receipts: acknowledged, trusted, in_log: true })
    }

    async fn with_host(&self, ctx: &Context, receipts: &[Receipt]) -> Result<Checked, Failure> {
        let mut acknowledged = Vec::new();
        for (line, receipt) in (1..).zip(receipts) {
            let tenant_id = receipt.told().map_err(|error| bad(line, &error))?.0.to_string();
            let answer = ctx.client()?.audit().get_log_keys(v1::GetLogKeysRequest { tenant_id }).await?;
            let listed = proof::Listed::read(answer.get_ref())?;
            let keys = if self.batch_keys.is_empty() && self.trusted.keys().is_empty() {
                listed.batch_keys()
            } else {
                [self.batch_keys.clone(), listed.certified(self.trusted.keys())].concat()
            };
            let one = receipt.verify(&keys).map_err(|error| bad(line, &error))?;
            self.proven(ctx, &one, receipt.leaf()).await?;
            acknowledged.push(one);
        }
        // Without a log key nothing shows whose the checkpoint is.
        Ok(Checked { receipts: acknowledged, trusted: !self.trusted.keys().is_empty(), in_log: true })
    }

    /// Asks for the proof that the very leaf is in the sealed log; waits until it is sealed.
    async fn proven(&self, ctx: &Context, receipt: &Acknowledged, leaf: &[u8]) -> Result<(), Failure> {
        let until = Instant::now() + SEALED_WITHIN;
        let request = v1::GetInclusionProofRequest {
            tenant_id: receipt.tenant.to_string(),
            event_id: receipt.event.to_string(),
            ..v1::GetInclusionProofRequest::default()
        };
        let answer = loop {
            match ctx.client()?.audit().get_inclusion_proof(request.clone()).await {
                Ok(answer) => break answer.into_inner(),
                Err(status) => {
                    let error = aesp_proto::Error::from_status(&status);
                    let waits = matches!(error.code(), ErrorCode::NotFound | ErrorCode::ResourceUnavailable);
                    if !waits {
                        return Err(error.into());
                    }
                    if Instant::now() >= until {
                        return Err(lost(receipt, "the Host has no sealed event with this id"));
                    }
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
            }
        };
        if answer.leaf != leaf {
            return Err(lost(receipt, "the Host has another event under this id"));
        }
        proof::check_inclusion(&answer)?;
        let tenant_id = receipt.tenant.to_string();
        let told = (answer.origin.as_str(), answer.size, answer.root.as_slice());
        self.trusted.check(ctx, tenant_id, &answer.checkpoint, told).await
    }
}

/// Adds a receipt to a file of receipts; it is on the disk when this returns.
pub(super) fn keep(path: &Path, receipt: &Receipt) -> Result<(), Failure> {
    let unwritable = |error: std::io::Error| {
        Failure::local(format!("can't write {}: {error}", path.display()), "name another file with --receipt")
    };
    let line = receipt
        .to_line()
        .map_err(|error| Failure::local(format!("the receipt shows nothing: {error}"), ANOTHER))?;
    let mut file = OpenOptions::new().append(true).create(true).open(path).map_err(unwritable)?;
    file.write_all(format!("{line}\n").as_bytes()).and_then(|()| file.sync_all()).map_err(unwritable)
}

fn read(path: &Path) -> Result<Vec<Receipt>, Failure> {
    let text = if path == Path::new("-") {
        let mut text = String::new();
        stdin().lock().read_to_string(&mut text).map(|_| text)
    } else {
        fs::read_to_string(path)
    };
    let text = text.map_err(|error| {
        Failure::usage(
            format!("can't read {}: {error}", path.display()),
            "name a file of receipts: aesp call --receipt FILE keeps them",
        )
    })?;
    let receipts: Vec<Receipt> = (1..)
        .zip(text.lines())
        .map(|(number, line)| {
            Receipt::from_line(line).map_err(|error| {
                Failure::local(format!("line {number} of {}: {error}", path.display()), ANOTHER)
            })
        })
        .collect::<Result<_, _>>()?;
    if receipts.is_empty() {
        return Err(Failure::usage(format!("{} holds no receipt", path.display()), ANOTHER));
    }
    Ok(receipts)
}

const ANOTHER: &str = "a receipt is only good as it came: take it from where it was kept first";

fn signed(receipts: &[Receipt], keys: &[PublicKey]) -> Result<Vec<Acknowledged>, Failure> {
    (1..)
        .zip(receipts)
        .map(|(line, receipt)| receipt.verify(keys).map_err(|error| bad(line, &error)))
        .collect()
}

/// Says what is wrong with the receipt in this line.
fn bad(line: usize, error: &ReceiptError) -> Failure {
    let next = match error {
        ReceiptError::UnknownKey(_) => {
            "take the key from the operator or from a certified export; if it is not among them, somebody else made the receipt"
        }
        _ => ANOTHER,
    };
    Failure::local(format!("the receipt in line {line} shows nothing: {error}"), next)
}

fn is_there(receipt: &Acknowledged, export: &Lookup) -> Result<(), Failure> {
    if receipt.tenant != export.tenant {
        return Err(Failure::usage(
            format!("the export is of {}, and the receipt of {}", export.tenant, receipt.tenant),
            "export the log of the receipt's tenant",
        ));
    }
    if export.exported_at < receipt.at {
        return Err(Failure::usage("the export is older than the receipt", "export the log again"));
    }
    match export.found.get(&receipt.event) {
        Some(leaves) if leaves.contains(&receipt.leaf_hash) => Ok(()),
        Some(_) => Err(lost(receipt, "the export has another event under this id")),
        None => Err(lost(receipt, "the export has no event with this id")),
    }
}

fn lost(receipt: &Acknowledged, how: &str) -> Failure {
    Failure::local(
        format!(
            "the log has lost an event that was acknowledged: {} ({}, {}): {how}",
            receipt.event, receipt.leaf.action, receipt.at
        ),
        "keep the receipt and a copy of the store: one proves that the Host signed the event, the other that it is gone",
    )
}

fn show(ctx: &Context, checked: &Checked) -> Result<(), Failure> {
    let receipts: Vec<_> = checked
        .receipts
        .iter()
        .map(|receipt| {
            json!({
                "event_id": receipt.event.to_string(),
                "tenant_id": receipt.tenant.to_string(),
                "timestamp_ms": receipt.at.0,
                "event_type": EventType::try_from(receipt.leaf.event_type).unwrap_or_default().as_str_name(),
                "action": receipt.leaf.action,
                "outcome": Outcome::try_from(receipt.leaf.outcome).unwrap_or_default().as_str_name(),
                "key": HEXLOWER.encode(&receipt.key.0),
            })
        })
        .collect();
    ctx.console.value(&json!({
        "verified": true,
        "trusted": checked.trusted,
        "in_log": checked.in_log,
        "receipts": receipts,
    }))?;
    if !checked.trusted {
        ctx.console.note(
            "No key of yours leads to those that signed: give --log-key to be sure whose log this is.",
        )?;
    }
    if checked.in_log {
        return Ok(());
    }
    ctx.console.note("That the Host signed is shown; whether the log still has the events is not: give --export or --online.")
}
