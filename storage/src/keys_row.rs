use aesp_proto::TenantId;
use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::{Error, KeyProvider, KeyVersion, Kind, key::row_key, seal, tenant_keys::PlainKeys};

/// The row with a tenant's wrapped keys.
///
/// The first form is `1 | wrapped`, which the release without versions reads. Whoever rotates writes the second, `2 | name (16) |
/// wrapped`: the name is random and stays as long as the keys do, so that caches hold them through a change of their wrapping.
#[derive(Clone)]
pub(crate) struct KeysRow {
    form: Form,
    value: Bytes,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    First,
    Named,
}

const FIRST: u8 = 1;
const NAMED: u8 = 2;
const NAME_BYTES: usize = 16;

/// Returns where the keys of a tenant lie.
pub(crate) fn keys_key(tenant: TenantId) -> Vec<u8> {
    row_key(tenant, Kind::TENANT_KEYS, &[])
}

impl KeysRow {
    pub(crate) fn read(tenant: TenantId, value: &Bytes) -> Result<Self, Error> {
        let damaged = || {
            Error::damaged(
                format!("the keys of tenant {tenant} have an unknown version"),
                "start the release that wrote the store, or restore a backup",
            )
        };
        match value.split_first() {
            Some((&FIRST, _)) => Ok(Self { form: Form::First, value: value.clone() }),
            Some((&NAMED, rest)) if rest.len() >= NAME_BYTES => {
                Ok(Self { form: Form::Named, value: value.clone() })
            }
            _ => Err(damaged()),
        }
    }

    /// Returns what the keys are called; rows of the first form are called by their digest.
    pub(crate) fn name(&self) -> [u8; NAME_BYTES] {
        let mut name = [0; NAME_BYTES];
        match self.form {
            Form::First => name.copy_from_slice(&Sha256::digest(&self.value)[..NAME_BYTES]),
            Form::Named => name.copy_from_slice(&self.value[1..=NAME_BYTES]),
        }
        name
    }

    /// Tells whether these are the keys that `value` held, or that are called `name`. Every transaction asks: no digest is made.
    pub(crate) fn is(&self, value: &Bytes, name: [u8; NAME_BYTES]) -> bool {
        self.value == *value || (self.form == Form::Named && self.name() == name)
    }

    /// Returns the row's bytes.
    pub(crate) fn value(&self) -> &Bytes {
        &self.value
    }

    fn wrapped(&self) -> &[u8] {
        match self.form {
            Form::First => &self.value[1..],
            Form::Named => &self.value[1 + NAME_BYTES..],
        }
    }

    /// Returns the version of the master key that wraps them.
    pub(crate) fn version(&self, provider: &dyn KeyProvider) -> Result<KeyVersion, Error> {
        provider.version_of(self.wrapped())
    }

    pub(crate) async fn plain(
        &self,
        provider: &dyn KeyProvider,
        tenant: TenantId,
    ) -> Result<PlainKeys, Error> {
        let aad = match self.form {
            Form::First => keys_key(tenant),
            Form::Named => named_aad(tenant, &self.name()),
        };
        let bytes = zeroize::Zeroizing::new(provider.unwrap(self.wrapped(), &aad).await?);
        match self.form {
            Form::First => PlainKeys::read_first(&bytes),
            Form::Named => PlainKeys::read(&bytes),
        }
    }

    /// Returns the row of new keys.
    pub(crate) async fn first(
        plain: &PlainKeys,
        provider: &dyn KeyProvider,
        tenant: TenantId,
    ) -> Result<Vec<u8>, Error> {
        let wrapped = provider.wrap(&plain.write_first(), &keys_key(tenant)).await?;
        Ok([&[FIRST], wrapped.as_slice()].concat())
    }

    /// Returns the row of the same keys, wrapped anew.
    pub(crate) async fn rewrapped(
        &self,
        plain: &PlainKeys,
        provider: &dyn KeyProvider,
        tenant: TenantId,
    ) -> Result<Vec<u8>, Error> {
        named(plain, provider, tenant, self.name()).await
    }

    /// Returns the row of keys that have changed.
    pub(crate) async fn changed(
        plain: &PlainKeys,
        provider: &dyn KeyProvider,
        tenant: TenantId,
    ) -> Result<Vec<u8>, Error> {
        let mut name = [0; 16];
        seal::fill(&mut name)?;
        named(plain, provider, tenant, name).await
    }
}

/// Wraps what a raw row holds anew, for the provider of another store; nothing if it holds nothing that is wrapped.
///
/// # Errors
/// That of either provider; [`Error::Damaged`] if the row is none.
pub async fn wrap_for(
    key: &[u8],
    value: &Bytes,
    source: &dyn KeyProvider,
    target: &dyn KeyProvider,
) -> Result<Option<Vec<u8>>, Error> {
    let Some((tenant, rest)) = key.split_first_chunk::<16>() else { return Ok(None) };
    if rest == Kind::CANARY.to_bytes() {
        let plain = zeroize::Zeroizing::new(source.unwrap(value, key).await?);
        return target.wrap(&plain, key).await.map(Some);
    }
    if rest != Kind::TENANT_KEYS.to_bytes() {
        return Ok(None);
    }
    let tenant = TenantId::from_bytes(*tenant);
    let row = KeysRow::read(tenant, value)?;
    let plain = row.plain(source, tenant).await?;
    match row.form {
        Form::First => KeysRow::first(&plain, target, tenant).await.map(Some),
        Form::Named => row.rewrapped(&plain, target, tenant).await.map(Some),
    }
}

async fn named(
    plain: &PlainKeys,
    provider: &dyn KeyProvider,
    tenant: TenantId,
    name: [u8; 16],
) -> Result<Vec<u8>, Error> {
    let wrapped = provider.wrap(&plain.write(), &named_aad(tenant, &name)).await?;
    Ok([&[NAMED], name.as_slice(), wrapped.as_slice()].concat())
}

fn named_aad(tenant: TenantId, name: &[u8; 16]) -> Vec<u8> {
    [keys_key(tenant).as_slice(), name].concat()
}
