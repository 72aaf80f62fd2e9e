//! The manifest of an export without proofs: one line for each part of the file, signed, so that nothing in the file can be changed,
//! left out or added unnoticed, also when the export broke off and went on later.

use std::io::{BufRead, Read};

use aesp_merkle::{Hash, hash_of, sha256};
use aesp_proto::{TenantId, Timestamp};
use aesp_storage::Store;
use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{Error, PublicKey, key::NodeKey, line::Base64};

/// What each part calls this format.
const FORMAT: &str = "aesp-audit-manifest-v1";
const SIGNED_PREFIX: &[u8] = b"aesp-audit-manifest-v1\n";
/// The longest line that is read.
const LINE_BYTES: u64 = 1 << 20;

/// What a part of an exported file holds. Parts follow each other without a gap, in the file and in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    manifest: String,
    /// Whose log.
    pub tenant: TenantId,
    /// The form of the file, for example `csv`.
    pub format: String,
    /// Events not before this time; 0 for all.
    pub start_ms: i64,
    /// Events before this time; 0 for no end.
    pub end_ms: i64,
    /// Which events: an encoded `AuditFilter`, in base 64.
    pub filter: String,
    /// Where in the log the part begins: after this place (16 bytes, hexadecimal); empty at the beginning.
    pub after: String,
    /// Where it ends: at this place; empty at the end of what was asked for.
    pub upto: String,
    /// Bytes of the file before the part.
    pub offset: u64,
    /// Bytes of the part.
    pub bytes: u64,
    /// Events of the file before the part.
    pub events_before: u64,
    /// Events of the part.
    pub events: u64,
    /// When it was read.
    pub exported_at_ms: Timestamp,
    /// The SHA-256 of the part's bytes.
    digest: Base64,
}

impl Part {
    /// Describes the bytes of a part; `asked` says what the export is of.
    #[must_use]
    pub fn new(asked: Asked, bytes: &[u8]) -> Self {
        Self {
            manifest: FORMAT.to_owned(),
            tenant: asked.tenant,
            format: asked.format,
            start_ms: asked.start_ms,
            end_ms: asked.end_ms,
            filter: asked.filter,
            after: String::new(),
            upto: String::new(),
            offset: 0,
            bytes: bytes.len() as u64,
            events_before: 0,
            events: 0,
            exported_at_ms: Timestamp(0),
            digest: Base64(sha256(&[bytes]).to_vec()),
        }
    }

    /// Tells what the export is of.
    #[must_use]
    pub fn asked(&self) -> Asked {
        Asked {
            tenant: self.tenant,
            format: self.format.clone(),
            start_ms: self.start_ms,
            end_ms: self.end_ms,
            filter: self.filter.clone(),
        }
    }
}

/// What an export is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Whose log.
    pub tenant: TenantId,
    /// The form of the file.
    pub format: String,
    /// Not before this time; 0 for all.
    pub start_ms: i64,
    /// Before this time; 0 for no end.
    pub end_ms: i64,
    /// An encoded `AuditFilter`, in base 64.
    pub filter: String,
}

#[derive(Serialize)]
struct SignedLine<'a> {
    part: &'a RawValue,
    public_key: Base64,
    signature: Base64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReadLine<'a> {
    #[serde(borrow)]
    part: &'a RawValue,
    public_key: Base64,
    signature: Base64,
}

fn signed(part: &RawValue) -> Vec<u8> {
    [SIGNED_PREFIX, &sha256(&[part.get().as_bytes()])].concat()
}

/// Signs the lines of manifests with the audit key.
pub struct ManifestSigner(NodeKey);

impl ManifestSigner {
    /// Loads the audit key.
    ///
    /// # Errors
    /// The store's, or [`Error::Key`] if the audit key is damaged.
    pub async fn load(store: &Store) -> Result<Self, Error> {
        NodeKey::load_or_create(store).await.map(Self)
    }

    /// Returns the line of a part, without its end.
    ///
    /// # Errors
    /// [`Error::Damaged`] if it can't be written as JSON, which does not happen.
    pub fn line(&self, part: &Part) -> Result<String, Error> {
        let unwritable = |_| Error::Damaged("a line can't be written");
        let part = serde_json::value::to_raw_value(part).map_err(unwritable)?;
        let line = SignedLine {
            public_key: Base64(self.0.public().0.to_vec()),
            signature: Base64(self.0.sign(&signed(&part))),
            part: &part,
        };
        serde_json::to_string(&line).map_err(unwritable)
    }
}

/// Reads what a line of a manifest says, without believing it.
///
/// # Errors
/// What is wrong with it.
pub fn read_part(line: &str) -> Result<Part, String> {
    let line: ReadLine<'_> = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let part: Part = serde_json::from_str(line.part.get()).map_err(|error| error.to_string())?;
    if part.manifest == FORMAT {
        Ok(part)
    } else {
        Err(format!("a manifest of another format: {}", part.manifest))
    }
}

/// What a good manifest says of its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestReport {
    /// What was exported.
    pub asked: Asked,
    /// Parts.
    pub parts: u64,
    /// Events in the file.
    pub events: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Whether the export came to its end. If not, it broke off after the last part.
    pub complete: bool,
    /// The keys that signed.
    pub keys: Vec<PublicKey>,
    /// Whether they were compared with keys that the verifier brought. If not, anybody may have made file and manifest.
    pub trusted: bool,
}

/// Verifies a file by its manifest, offline.
///
/// # Errors
/// What is wrong, with the number of the manifest's line.
pub fn verify_manifest(
    mut manifest: impl BufRead,
    mut file: impl Read,
    trusted: &[PublicKey],
) -> Result<ManifestReport, String> {
    let mut checked: Option<Checked> = None;
    let mut line = String::new();
    for number in 1_u64.. {
        line.clear();
        let read = manifest.by_ref().take(LINE_BYTES).read_line(&mut line);
        read.map_err(|error| format!("line {number} of the manifest can't be read: {error}"))?;
        if line.is_empty() {
            break;
        }
        let next = check(checked.take(), line.trim_end_matches('\n'), &mut file, trusted);
        checked = Some(next.map_err(|why| format!("line {number} of the manifest: {why}"))?);
    }
    let Some(checked) = checked else { return Err("the manifest is empty".into()) };
    let mut rest = [0];
    match file.read(&mut rest) {
        Ok(0) => {}
        Ok(_) => return Err("the file goes on after what the manifest describes".into()),
        Err(error) => return Err(format!("the file can't be read: {error}")),
    }
    Ok(ManifestReport {
        asked: checked.last.asked(),
        parts: checked.parts,
        events: checked.last.events_before + checked.last.events,
        bytes: checked.last.offset + checked.last.bytes,
        complete: checked.last.upto.is_empty(),
        keys: checked.keys,
        trusted: !trusted.is_empty(),
    })
}

struct Checked {
    last: Part,
    parts: u64,
    keys: Vec<PublicKey>,
}

fn check(
    before: Option<Checked>,
    line: &str,
    file: &mut impl Read,
    trusted: &[PublicKey],
) -> Result<Checked, String> {
    let part = read_part(line)?;
    let line: ReadLine<'_> = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let key = <[u8; 32]>::try_from(line.public_key.0.as_slice()).map_err(|_| "its public key is none")?;
    let key = PublicKey(key);
    if !trusted.is_empty() && !trusted.contains(&key) {
        return Err("it is signed by a key that you don't trust".into());
    }
    if !key.verifies(&signed(line.part), &line.signature.0) {
        return Err("its signature is not of these bytes".into());
    }
    let (mut checked, expected) = match before {
        None => (Checked { last: part.clone(), parts: 0, keys: Vec::new() }, (String::new(), 0, 0)),
        Some(before) => {
            let last = &before.last;
            if last.asked() != part.asked() {
                return Err("it is of another export".into());
            }
            if last.upto.is_empty() {
                return Err("it comes after the last part".into());
            }
            let expected = (last.upto.clone(), last.offset + last.bytes, last.events_before + last.events);
            (before, expected)
        }
    };
    if (part.after.as_str(), part.offset, part.events_before) != (expected.0.as_str(), expected.1, expected.2)
    {
        return Err("it does not begin where the part before ended".into());
    }
    if digest(file, part.bytes)?.as_slice() != part.digest.0 {
        let end = part.offset + part.bytes;
        return Err(format!("bytes {} to {end} of the file are not those that were exported", part.offset));
    }
    if !checked.keys.contains(&key) {
        checked.keys.push(key);
    }
    Ok(Checked { last: part, parts: checked.parts + 1, keys: checked.keys })
}

fn digest(file: &mut impl Read, bytes: u64) -> Result<Hash, String> {
    let mut context = Context::new(&SHA256);
    let mut part = file.take(bytes);
    let mut buffer = vec![0; 64 << 10];
    let mut left = bytes;
    while left > 0 {
        let read = part.read(&mut buffer).map_err(|error| format!("the file can't be read: {error}"))?;
        if read == 0 {
            return Err(format!("the file ends {left} bytes too early"));
        }
        context.update(&buffer[..read]);
        left -= read as u64;
    }
    Ok(hash_of(context))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENANT: TenantId = TenantId::from_bytes([1; 16]);

    fn asked() -> Asked {
        Asked { tenant: TENANT, format: "csv".into(), start_ms: 0, end_ms: 9, filter: String::new() }
    }

    /// Three parts and their signed lines.
    fn export() -> (ManifestSigner, Vec<String>, Vec<u8>) {
        let signer = ManifestSigner(NodeKey::from_seed(&[7; 32]).unwrap());
        let places = ["", "01", "02", ""];
        let (mut lines, mut file) = (Vec::new(), Vec::new());
        for number in 0..3_usize {
            let bytes = format!("part {number}\n").into_bytes();
            let part = Part {
                after: places[number].into(),
                upto: places[number + 1].into(),
                offset: file.len() as u64,
                events_before: number as u64 * 10,
                events: 10,
                ..Part::new(asked(), &bytes)
            };
            lines.push(signer.line(&part).unwrap());
            file.extend(bytes);
        }
        (signer, lines, file)
    }

    fn verified(lines: &[String], file: &[u8], trusted: &[PublicKey]) -> Result<ManifestReport, String> {
        let manifest: String = lines.iter().map(|line| format!("{line}\n")).collect();
        verify_manifest(manifest.as_bytes(), file, trusted)
    }

    #[test]
    fn a_good_file_verifies_and_one_that_broke_off_says_so() {
        let (signer, lines, file) = export();
        let report = verified(&lines, &file, &[signer.0.public()]).unwrap();
        assert_eq!((report.parts, report.events, report.bytes), (3, 30, file.len() as u64));
        assert!(report.complete && report.trusted && report.asked == asked());
        let report = verified(&lines[..2], &file[..14], &[]).unwrap();
        assert!(!report.complete && !report.trusted);
    }

    #[test]
    fn every_change_is_found() {
        let (signer, lines, file) = export();
        let trusted = [signer.0.public()];
        for at in 0..file.len() {
            let mut changed = file.clone();
            changed[at] ^= 1;
            assert!(verified(&lines, &changed, &trusted).unwrap_err().contains("not those"), "byte {at}");
        }
        assert!(verified(&lines, &file[..20], &trusted).unwrap_err().contains("too early"));
        assert!(
            verified(&lines, &[file.as_slice(), b"x"].concat(), &trusted).unwrap_err().contains("goes on")
        );
        // A part left out, doubled, moved.
        for order in [vec![0, 2], vec![1, 2], vec![0, 0, 1, 2], vec![1, 0, 2]] {
            let lines: Vec<String> = order.iter().map(|index| lines[*index].clone()).collect();
            assert!(verified(&lines, &file, &trusted).unwrap_err().contains("does not begin"), "{order:?}");
        }
        assert!(verified(&[lines.clone(), lines[..1].to_vec()].concat(), &file, &trusted).is_err());
        assert!(verified(&[], &file, &trusted).is_err());
    }

    #[test]
    fn every_byte_of_a_line_counts() {
        let (signer, lines, file) = export();
        for at in 0..lines[0].len() {
            let mut changed = lines[0].clone().into_bytes();
            changed[at] ^= 2;
            let Ok(changed) = String::from_utf8(changed) else { continue };
            let lines = [vec![changed], lines[1..].to_vec()].concat();
            assert!(verified(&lines, &file, &[signer.0.public()]).is_err(), "byte {at}");
        }
        let stranger = NodeKey::from_seed(&[8; 32]).unwrap().public();
        assert!(verified(&lines, &file, &[stranger]).unwrap_err().contains("don't trust"));
    }
}
