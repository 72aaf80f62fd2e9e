use aesp_storage::{KeyProvider, Kind};
use zeroize::Zeroizing;

use super::Error;

/// The first byte of a row with a tenant's keys; the wrapped keys follow, bound to the row's key.
const KEYS_VERSION: u8 = 1;

/// Wraps what a row holds anew, if it is one that holds something wrapped.
pub(super) async fn rewrap(
    key: &[u8],
    value: &[u8],
    source: &dyn KeyProvider,
    target: &dyn KeyProvider,
) -> Result<Option<Vec<u8>>, Error> {
    let kind = key.get(16..18);
    let (head, wrapped) = if kind == Some(&Kind::TENANT_KEYS.to_bytes()[..]) {
        (&[KEYS_VERSION][..], value.strip_prefix(&[KEYS_VERSION]).ok_or(Error::KeyForm)?)
    } else if kind == Some(&Kind::CANARY.to_bytes()[..]) {
        (&[][..], value)
    } else {
        return Ok(None);
    };
    let plain = Zeroizing::new(source.unwrap(wrapped, key).await?);
    Ok(Some([head, &target.wrap(&plain, key).await?].concat()))
}
