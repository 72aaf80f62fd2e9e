use std::{
    io::{Read, Seek, SeekFrom},
    sync::Arc,
    time::Duration,
};

use aesp_proto::{Clock, Entropy};
use aesp_storage::{KeyProvider, Range, Store, Transaction};
use aws_lc_rs::hmac;
use data_encoding::HEXLOWER;
use zeroize::Zeroizing;

use super::{
    Error, Exported,
    export::MAC_AAD,
    frame::{HEADER, MANIFEST, ROWS, Reader, take_row},
    manifest::{Count, Header, Manifest},
};
use crate::rebirth::{self, Descent, Reborn, rebirth};

/// What one transaction writes, about: a good deal below its limit.
const COMMIT_BYTES: usize = 2 << 20;

type Rows = Vec<(Vec<u8>, Vec<u8>)>;

/// Reads an export from its beginning to its end and makes sure that it is whole, unchanged and meant for this key provider.
///
/// # Errors
/// [`Error`] about the file or the key.
pub async fn check(
    file: &mut (impl Read + Seek + Send),
    provider: &dyn KeyProvider,
) -> Result<Exported, Error> {
    file.seek(SeekFrom::Start(0))?;
    let mut reader = Reader::begin(file)?;
    let header = header(&mut reader)?;
    let wrapped = HEXLOWER.decode(header.mac_key.as_bytes());
    let wrapped = wrapped.map_err(|_| Error::Altered("the key of its HMAC is none"))?;
    let key = provider.unwrap(&wrapped, MAC_AAD).await.map(Zeroizing::new);
    let key = key.map_err(|source| Error::OtherKey { provider: header.key_provider.clone(), source })?;
    reader.keyed(&hmac::Key::new(hmac::HMAC_SHA256, &key));
    let mut count = Count::default();
    let manifest: Manifest = loop {
        match reader.next()? {
            (ROWS, frame) => {
                let mut frame = frame.as_slice();
                while let Some((key, value)) = take_row(&mut frame)? {
                    count.add(key, value);
                }
            }
            (MANIFEST, json) => {
                break serde_json::from_slice(&json).map_err(|_| Error::Altered("its manifest is none"))?;
            }
            _ => return Err(Error::Altered("a frame has no meaning")),
        }
    };
    let counted = Manifest { mac: reader.mac(), ..count.manifest };
    if counted.mac != manifest.mac {
        return Err(Error::Altered("its bytes are not those that were written"));
    }
    if counted != manifest {
        return Err(Error::Altered("its manifest counts other rows"));
    }
    reader.end()?;
    Ok(Exported { header, manifest })
}

/// Writes an export into an empty store and gives it its life. Nothing is written of an export that [`check`] refuses. One that
/// was cut off keeps nodes away from the store; it is removed and imported again.
///
/// # Errors
/// Those of [`check`]; [`Error::NotEmpty`]; the store's and those of its new life.
pub async fn import(
    file: &mut (impl Read + Seek + Send),
    store: &Store,
    provider: &dyn KeyProvider,
    clock: Arc<dyn Clock>,
    entropy: &Entropy,
    told: &mut (dyn FnMut(u64) + Send),
) -> Result<(Exported, Reborn), Error> {
    let exported = check(file, provider).await?;
    if let Some(tenant) = &exported.header.tenant {
        return Err(Error::OneTenant(tenant.id));
    }
    let claimed = store.run(|tx| Box::pin(claim(tx)));
    claimed.await?;
    load(file, store, told).await?;
    store.initialise().await?;
    let descent = Descent {
        cause: "import",
        life: format!("import/{}", exported.manifest.mac),
        cluster: exported.header.cluster.clone(),
        version: exported.header.version,
        time: exported.header.exported_at,
    };
    let reborn = rebirth(store, clock, entropy, &descent, Duration::ZERO).await?;
    Ok((exported, reborn))
}

/// Writes the rows of an export that was checked.
pub(super) async fn load(
    file: &mut (impl Read + Seek + Send),
    store: &Store,
    told: &mut (dyn FnMut(u64) + Send),
) -> Result<(), Error> {
    file.seek(SeekFrom::Start(0))?;
    let mut reader = Reader::begin(file)?;
    header(&mut reader)?;
    let (mut rows, mut bytes, mut written) = (Rows::new(), 0, 0);
    while let (ROWS, frame) = reader.next()? {
        let mut frame = frame.as_slice();
        while let Some((key, value)) = take_row(&mut frame)? {
            bytes += key.len() + value.len();
            rows.push((key.to_vec(), value.to_vec()));
            if bytes >= COMMIT_BYTES {
                written += write(store, std::mem::take(&mut rows)).await?;
                bytes = 0;
                told(written);
            }
        }
    }
    written += write(store, rows).await?;
    told(written);
    Ok(())
}

fn header<R: Read>(reader: &mut Reader<R>) -> Result<Header, Error> {
    match reader.next()? {
        (HEADER, json) => serde_json::from_slice(&json).map_err(|_| Error::Altered("its header is none")),
        _ => Err(Error::Altered("it does not begin with its header")),
    }
}

/// Makes sure that the store is empty, and keeps nodes away from it until the import is done.
async fn claim(tx: &Transaction) -> Result<(), Error> {
    let all = Range::new([0], Range::prefix(&[u8::MAX]).end);
    if !tx.range_raw(all.limit(1)).await?.is_empty() {
        return Err(Error::NotEmpty);
    }
    Ok(rebirth::keep_away(tx, "import").await?)
}

async fn write(store: &Store, rows: Rows) -> Result<u64, Error> {
    let rows = &rows;
    let written = store.run_borrowing(|tx| {
        Box::pin(async move {
            for (key, value) in rows {
                tx.set_raw(key, value)?;
            }
            Ok::<_, Error>(())
        })
    });
    written.await?;
    Ok(rows.len() as u64)
}

/// Reads frames and rows as [`check`] does, without a key, and counts the rows; stops at the first thing that is wrong.
#[cfg(any(test, fuzzing))]
pub(crate) fn read_unchecked(file: &[u8]) -> usize {
    let mut rows = 0;
    let mut read = || -> Result<(), Error> {
        let mut reader = Reader::begin(file)?;
        header(&mut reader)?;
        loop {
            match reader.next()? {
                (ROWS, frame) => {
                    let mut frame = frame.as_slice();
                    while take_row(&mut frame)?.is_some() {
                        rows += 1;
                    }
                }
                (_, json) => {
                    serde_json::from_slice::<Manifest>(&json)
                        .map_err(|_| Error::Altered("its manifest is none"))?;
                    return reader.end();
                }
            }
        }
    };
    // Where it is wrong is not asked here.
    drop(read());
    rows
}
