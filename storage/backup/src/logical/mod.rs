//! A store as one file that every engine can write and read: the way from lmdb to FoundationDB, and a copy that needs no archive.
//!
//! Values stay sealed as they are; the tenants' keys are wrapped for whoever imports. The whole file is under an HMAC whose key is
//! wrapped with them, so that a changed, cut or made-up file is refused before the first row is written.
//!
//! ```text
//! "aespxprt" | format (2) | frame*        frame: tag (1) | length (4) | payload
//! 1 header    JSON: cluster, version, time, what wraps the keys, the wrapped key of the HMAC; in format 2 the one tenant
//! 2 rows      (key length (2) | key | value length (4) | value)*
//! 3 manifest  JSON: counts, HMAC-SHA-256 of every byte before this frame
//! ```

mod arrive;
mod error;
mod export;
mod frame;
mod import;
mod manifest;
mod read;
#[cfg(test)]
mod tests;

#[cfg(any(test, fuzzing))]
pub(crate) use self::import::read_unchecked;
pub use self::{
    arrive::{Adopt, Arrived, import_tenant},
    error::Error,
    export::{Exported, Source, TenantSource, Wrapping, export},
    import::{check, import},
    manifest::{Header, Manifest, TenantHeader},
};
