use std::{io::Write, sync::Arc, time::Duration};

use aesp_proto::Clock;
use aesp_storage::{Engine, KeyProvider, wrap_for};
use aws_lc_rs::{hmac, rand};
use data_encoding::HEXLOWER;
use zeroize::Zeroizing;

use super::{
    Error,
    frame::{FORMAT, FRAME_BYTES, Frames, HEADER, MANIFEST, ROWS, TENANT_FORMAT, put_row},
    manifest::{Count, Header, Manifest, TenantHeader},
    read::Pass,
};
use crate::{ArchiveKey, ClusterId};

/// What the HMAC's key is bound to.
pub(super) const MAC_AAD: &[u8] = b"aesp store export 1";
/// Bytes of that key.
const MAC_KEY_BYTES: usize = 32;

/// Who unwraps the keys of the store, and who is to unwrap those of the export.
pub struct Wrapping {
    /// That of the store.
    pub source: Arc<dyn KeyProvider>,
    /// That of whoever imports, if it is another one.
    pub target: Option<ArchiveKey>,
    /// The name of the store's own.
    pub source_description: String,
}

/// What was exported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// What stands before the rows.
    pub header: Header,
    /// What stands after them.
    pub manifest: Manifest,
}

/// What is read.
pub struct Source<'a> {
    /// The store's engine.
    pub engine: &'a Arc<dyn Engine>,
    /// The cluster that it is the store of.
    pub cluster: ClusterId,
    /// For how long the engine keeps a snapshot: nothing for lmdb, which keeps the space of what was overwritten meanwhile; below
    /// 5 s for FoundationDB, where more than one makes the export read everything twice and fail if something has changed.
    pub kept: Option<Duration>,
    /// One tenant's rows only.
    pub tenant: Option<TenantSource>,
}

/// What an export of one tenant holds besides its rows.
#[derive(Clone, Debug)]
pub struct TenantSource {
    /// What stands in the clear.
    pub header: TenantHeader,
    /// What the platform knows of it, as a row under the tenant's own keys: key and value.
    pub packed: (Vec<u8>, Vec<u8>),
}

/// Writes every row of a store, or of one tenant, as it was at one moment.
///
/// # Errors
/// [`Error::Changed`]; the file's, the store's and the key providers'.
pub async fn export(
    source: &Source<'_>,
    wrapping: &Wrapping,
    clock: &dyn Clock,
    out: &mut (dyn Write + Send),
    told: &mut (dyn FnMut(&Manifest) + Send),
) -> Result<Exported, Error> {
    let mut mac_key = Zeroizing::new([0; MAC_KEY_BYTES]);
    rand::fill(mac_key.as_mut_slice())
        .map_err(|_| std::io::Error::other("the system gives no randomness"))?;
    let (target, description) = match &wrapping.target {
        Some(target) => (&target.provider, target.description.clone()),
        None => (&wrapping.source, wrapping.source_description.clone()),
    };
    let wrapped = target.wrap(mac_key.as_slice(), MAC_AAD).await?;
    let tenant = source.tenant.as_ref();
    let mut pass = Pass::begin(source.engine, source.kept, tenant.map(|tenant| tenant.header.id)).await?;
    let header = Header {
        cluster: source.cluster.0.clone(),
        version: pass.version(),
        exported_at: clock.now(),
        key_provider: description,
        tenant: tenant.map(|tenant| tenant.header.clone()),
        mac_key: HEXLOWER.encode(&wrapped),
    };
    let format = if tenant.is_some() { TENANT_FORMAT } else { FORMAT };
    let mac_key = hmac::Key::new(hmac::HMAC_SHA256, mac_key.as_slice());
    let mut frames = Frames::begin(out, &mac_key, format)?;
    frames.frame(HEADER, &json(&header)?)?;
    let (mut count, mut frame) = (Count::default(), Vec::new());
    if let Some(TenantSource { packed: (key, value), .. }) = tenant {
        count.add(key, value);
        put_row(&mut frame, key, value);
    }
    loop {
        let rows = pass.page().await?;
        for (key, value) in &rows {
            let anew = match &wrapping.target {
                Some(target) => wrap_for(key, value, &*wrapping.source, &*target.provider).await?,
                None => None,
            };
            let value = anew.as_deref().unwrap_or(value);
            count.add(key, value);
            put_row(&mut frame, key, value);
            if frame.len() >= FRAME_BYTES {
                frames.frame(ROWS, &std::mem::take(&mut frame))?;
            }
        }
        told(&count.manifest);
        if rows.is_empty() {
            break;
        }
    }
    if !frame.is_empty() {
        frames.frame(ROWS, &frame)?;
    }
    pass.confirm().await?;
    let mut manifest = count.manifest;
    manifest.mac = frames.mac();
    frames.frame(MANIFEST, &json(&manifest)?)?;
    Ok(Exported { header, manifest })
}

fn json(value: &impl serde::Serialize) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(value).map_err(|error| Error::File(error.into()))
}
