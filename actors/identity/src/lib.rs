//! Who is calling: principals, API keys, refresh tokens, certificate bindings, access tokens and the keys that sign them.
//! What a principal may do is the policy component's question.
//!
//! The functions that take a [`Transaction`](aesp_storage::Transaction) change or read the store and belong in the
//! caller's unit of work, so that a change and its audit event commit together. Each that takes a right away bumps the
//! tenant's revision. [`Tokens`] and [`Snapshot`] are in memory and answer on every request.

mod accounts;
mod certificates;
mod claims;
mod credential;
mod error;
mod fingerprint;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod join;
mod key_set;
mod keys;
mod login;
mod name;
mod principal;
mod refresh;
mod revocation;
mod rows;
mod secret;
mod snapshot;
mod sweep;
mod tokens;
mod voucher;

pub use accounts::{
    Page, create_first_administrator, create_principal, create_service_account, find, list, revoke_principal,
    rotate_api_key,
};
pub use certificates::{bind_certificate, certificate_principal, unbind_certificate};
pub use claims::Claims;
pub use credential::{
    ApiKey, Credential, CredentialKind, JoinToken, MalformedCredential, RefreshToken, kind,
};
pub use error::{Error, Refusal};
pub use join::{
    Invitation, JoinRefusal, JoinState, Wanted, create_join_token, find_join_token, list_join_tokens,
    revoke_join_token, use_join_token,
};
pub use keys::{ensure_signing_key, retire_signing_key, rotate_signing_key};
pub use login::{Grant, RefreshLifetime, login_api_key, login_certificate};
pub use name::{CertificateIdentity, PrincipalName};
pub use principal::Principal;
pub use refresh::{Refresh, Reuse, refresh};
pub use revocation::{revoke_access_token, revoke_all, revoke_refresh_token};
pub use secret::Secret;
pub use snapshot::Snapshot;
pub use sweep::{Sweep, sweep};
pub use tokens::{AccessToken, TokenOptions, Tokens};
