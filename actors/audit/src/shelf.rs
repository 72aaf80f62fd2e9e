//! The shelf: where the oldest part of a tenant's log lies once it was moved out of the store, as bundles on an object store. What
//! reads the log reads through it, and finds the same bytes; every bundle is compared with its digest, which stays in the store.
//!
//! `tenant (16) | AUDIT_BUNDLE (2) | log epoch (4) | versionstamp (10)` of a bundle's last commit → a [`Bundle`], in the clear: it has
//! nothing but numbers and names. Bundles follow each other without a gap from the first commit on; what is not in one lies in the store.

mod bundle;
mod pack;
mod read;
mod seek;

use std::sync::Arc;

use aesp_proto::Timestamp;
use aesp_storage::{Kind, Row};
use async_trait::async_trait;
use bytes::Bytes;
use quick_cache::{Weighter, sync::Cache};
use serde::{Deserialize, Serialize};

use self::bundle::Opened;
pub use self::{
    pack::{Packed, pack, settle},
    read::{Bundles, bundles},
};
pub(crate) use self::{
    read::{get, range},
    seek::seek,
};
use crate::{Error, rows::COMMIT_BYTES};

/// Bytes of opened bundles that are kept in memory.
const CACHE_BYTES: u64 = 256 << 20;
/// Bundles that are kept, about.
const CACHE_BUNDLES: usize = 64;

/// Reads objects by their names.
#[async_trait]
pub trait Objects: Send + Sync {
    /// Returns the object's bytes.
    ///
    /// # Errors
    /// What is in the way, for people.
    async fn read(&self, name: &str) -> Result<Bytes, String>;
}

/// A bundle, as the store knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// The name of its object.
    pub object: String,
    /// The SHA-256 of the object, in hexadecimal digits.
    pub digest: String,
    /// Bytes of the object.
    pub object_bytes: u64,
    /// Bytes of what is packed in it.
    pub body_bytes: u64,
    /// Events in it.
    pub events: u64,
    /// The time of its oldest event.
    pub first_at: Timestamp,
    /// The time of its newest event.
    pub last_at: Timestamp,
    /// When it was moved.
    pub moved_at: Timestamp,
}

impl Row for Bundle {
    const KIND: Kind = Kind::AUDIT_BUNDLE;
    const SEALED: bool = false;
    type Key = [u8; COMMIT_BYTES];
}

/// The bundles on an object store. Attached to a [`Store`](aesp_storage::Store), through which the log is read.
pub struct Shelf {
    objects: Arc<dyn Objects>,
    opened: Cache<String, Arc<Opened>, Weight>,
}

#[derive(Clone)]
struct Weight;

impl Weighter<String, Arc<Opened>> for Weight {
    fn weight(&self, name: &String, opened: &Arc<Opened>) -> u64 {
        (name.len() + opened.bytes()) as u64
    }
}

impl Shelf {
    /// Opens the shelf.
    #[must_use]
    pub fn new(objects: Arc<dyn Objects>) -> Self {
        Self { objects, opened: Cache::with_weighter(CACHE_BUNDLES, CACHE_BYTES, Weight) }
    }

    /// Returns what is packed in a bundle, from memory or from its object.
    ///
    /// # Errors
    /// [`Error::Shelf`] if the object can't be read, [`Error::ShelfDamaged`] if it is not the one that was moved.
    async fn open(&self, bundle: &Bundle) -> Result<Arc<Opened>, Error> {
        let read = async {
            let failed = |what: String| Error::Shelf { object: bundle.object.clone(), what };
            let object = self.objects.read(&bundle.object).await.map_err(failed)?;
            Opened::read(bundle, &object).map(Arc::new)
        };
        self.opened.get_or_insert_async(&bundle.object, read).await
    }
}

impl std::fmt::Debug for Shelf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shelf")
    }
}
