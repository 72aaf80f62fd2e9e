use std::sync::Arc;

use aesp_audit::{Recorder, Refused};
use aesp_identity::Tokens;
use aesp_proto::{Clock, Error, ErrorCode};
use aesp_storage::Store;

use crate::{
    Views,
    caller::{Caller, Means, Source},
};

/// Turns a token or a certificate into a [`Caller`], or a counted refusal. Cheap to clone.
#[derive(Clone)]
pub struct Authenticator {
    pub(crate) store: Store,
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) views: Views,
    pub(crate) recorder: Recorder,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Authenticator {
    /// Creates the authenticator.
    #[must_use]
    pub fn new(
        store: Store,
        tokens: Arc<Tokens>,
        views: Views,
        recorder: Recorder,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { store, tokens, views, recorder, clock }
    }

    /// Authenticates the bearer of `token`.
    ///
    /// # Errors
    /// `AUTHENTICATION_FAILED` or `INVALID_CREDENTIALS`, which say no more than the client needs.
    pub async fn by_token(&self, token: &str, source: Source) -> Result<Caller, Error> {
        let result = self.check_token(token).await;
        let (principal, claims) = result.map_err(|error| self.refused(error, &source, "token"))?;
        Ok(Caller { principal, means: Means::Token(claims), source: Arc::new(source) })
    }

    async fn check_token(
        &self,
        token: &str,
    ) -> Result<(Arc<aesp_identity::Principal>, Arc<aesp_identity::Claims>), Error> {
        let claims = self.tokens.verify(token, self.clock.now())?;
        let view = self.views.get(claims.tenant).await?;
        let principal = view.identity.check(&claims)?;
        Ok((Arc::clone(principal), claims))
    }

    /// Authenticates the holder of a verified client certificate.
    ///
    /// # Errors
    /// `CERTIFICATE_INVALID` when it is bound to no active principal.
    pub async fn by_certificate(&self, identity: &str, source: Source) -> Result<Caller, Error> {
        let result = self.check_certificate(identity).await;
        let principal = result.map_err(|error| self.refused(error, &source, "certificate"))?;
        Ok(Caller { principal, means: Means::Certificate(identity.into()), source: Arc::new(source) })
    }

    async fn check_certificate(&self, identity: &str) -> Result<Arc<aesp_identity::Principal>, Error> {
        let unbound = || {
            Error::new(ErrorCode::CertificateInvalid, "the certificate belongs to no account")
                .remedy("have an administrator bind it: aesp account bind-certificate")
        };
        let name = identity.to_owned();
        let bound = self
            .store
            .run(move |tx| {
                let name = name.clone();
                Box::pin(async move { aesp_identity::certificate_principal(tx, &name).await })
            })
            .await?;
        let (tenant, principal) = bound.ok_or_else(unbound)?;
        let view = self.views.get(tenant).await?;
        let principal = view.identity.active(principal).ok_or_else(unbound)?;
        Ok(Arc::clone(principal))
    }

    /// Tells whether the caller is still who it was: its account active, its token not revoked, not expired.
    ///
    /// # Errors
    /// As at authentication.
    pub async fn recheck(&self, caller: &Caller) -> Result<(), Error> {
        let view = self.views.get(caller.tenant()).await?;
        match &caller.means {
            Means::Token(claims) => {
                // As at authentication, with the same allowance for clocks.
                claims.check_time(self.clock.now()).map_err(aesp_identity::Error::Token)?;
                view.identity.check(claims)?;
            }
            Means::Certificate(identity) => {
                let still = self.check_certificate(identity).await?;
                if still.id != caller.principal.id {
                    return Err(Error::new(ErrorCode::CertificateInvalid, "the certificate was bound anew"));
                }
            }
        }
        Ok(())
    }

    /// Counts a refusal that a stranger caused; the recorder writes how many there were.
    pub fn refused(&self, error: Error, source: &Source, action: &'static str) -> Error {
        self.recorder.observe_refused(Refused {
            source_ip: source.ip,
            action: action.into(),
            reason: error.code().as_str_name().into(),
            tenant: None,
        });
        error.correlated(&source.correlation_id)
    }
}
