use aesp_merkle::sha256;
use data_encoding::BASE64URL_NOPAD;

use crate::{
    Error, Query,
    rows::{POSITION_BYTES, Position},
};

const VERSION: u8 = 2;
const QUERY_BYTES: usize = 8;

/// Returns the cursor of a query after this position: version, a hash of the query, the position.
pub(crate) fn encode(query: &Query, position: &Position) -> String {
    let bytes = [&[VERSION], fingerprint(query).as_slice(), position].concat();
    BASE64URL_NOPAD.encode(&bytes)
}

/// Returns the position of a cursor, which must be one of this very query. It holds no right: the tenant is the query's.
pub(crate) fn decode(query: &Query, cursor: &str) -> Result<Position, Error> {
    let bytes = BASE64URL_NOPAD.decode(cursor.as_bytes()).map_err(|_| Error::InvalidCursor)?;
    let (&version, rest) = bytes.split_first().ok_or(Error::InvalidCursor)?;
    let (of, position) = rest.split_at_checked(QUERY_BYTES).ok_or(Error::InvalidCursor)?;
    if version != VERSION || of != fingerprint(query) {
        return Err(Error::InvalidCursor);
    }
    <[u8; POSITION_BYTES]>::try_from(position).map_err(|_| Error::InvalidCursor)
}

/// Identifies all of the query but its cursor and limit.
fn fingerprint(query: &Query) -> [u8; QUERY_BYTES] {
    let Query { tenant, start, end, filter, newest_first, .. } = query;
    let text = format!("{tenant} {start:?} {end:?} {filter:?} {newest_first}");
    let mut out = [0; QUERY_BYTES];
    out.copy_from_slice(&sha256(&[text.as_bytes()])[..QUERY_BYTES]);
    out
}
