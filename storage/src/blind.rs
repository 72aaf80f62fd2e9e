use serde::{Deserialize, Serialize};

use crate::{KeyError, KeyReader, KeyWriter, RowKey};

/// A natural identifier as it may stand in a key: the first 16 bytes of its HMAC-SHA-256 under the tenant's index key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Blind(pub [u8; 16]);

impl RowKey for Blind {
    fn write(&self, out: &mut KeyWriter) {
        out.bytes(&self.0);
    }
    fn read(input: &mut KeyReader<'_>) -> Result<Self, KeyError> {
        input.array().map(Self)
    }
}
