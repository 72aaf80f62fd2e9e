use aesp_audit::{Event, Refused};
use aesp_call::Source;
use aesp_identity::{ApiKey, Claims, Grant, Refresh, RefreshLifetime, RefreshToken};
use aesp_proto::{
    Error, ErrorCode, TenantId,
    v1::{
        AuthenticateServiceAccountRequest, AuthenticateUserRequest, EventType, GetSigningKeysRequest,
        GetSigningKeysResponse, GetUserPermissionsRequest, GetUserPermissionsResponse, GetUserRolesRequest,
        GetUserRolesResponse, Outcome, RefreshTokenRequest, RevokeTokenRequest, RevokeTokenResponse,
        RotateSigningKeyRequest, TokenResponse, ValidateTokenRequest, ValidateTokenResponse,
        authenticate_user_request::Method, enterprise_authentication_service_server,
    },
};
use tonic::{Request, Response, Status};

use super::{Context, context::source, enter};
use crate::tls::PeerInfo;

/// Logs in, refreshes, revokes.
pub(crate) struct Authentication(pub(crate) Context);

impl Authentication {
    /// Issues the access token that goes with a login.
    fn issue(&self, grant: &Grant) -> Result<TokenResponse, Error> {
        let context = &self.0;
        let principal = &grant.principal;
        let issued =
            context.tokens.issue(principal, Some(grant.family), &context.entropy, context.clock.now())?;
        Ok(TokenResponse {
            access_token: issued.reveal().to_owned(),
            refresh_token: grant.refresh_token.reveal().to_string(),
            expires_in_seconds: u32::try_from(issued.lifetime().as_secs()).unwrap_or(u32::MAX),
            principal_id: principal.id.to_string(),
            tenant_id: principal.tenant.to_string(),
        })
    }

    fn event(
        &self,
        source: &Source,
        tenant: TenantId,
        kind: EventType,
        action: &str,
        outcome: Outcome,
    ) -> Event {
        let mut event = Event::new(&self.0.entropy, tenant, kind, action, outcome);
        event.details.source_ip = source.ip.map(|ip| ip.to_string()).unwrap_or_default();
        event.details.user_agent.clone_from(&source.user_agent);
        event.details.correlation_id.clone_from(&source.correlation_id);
        event
    }

    /// Counts a failed login; strangers can't fill the log.
    fn failed(&self, source: &Source, action: &'static str, error: Error) -> Status {
        self.0.recorder.observe_refused(Refused {
            source_ip: source.ip,
            action: action.into(),
            reason: error.code().as_str_name().into(),
            tenant: None,
        });
        error.correlated(&source.correlation_id).into()
    }

    async fn by_api_key(&self, source: &Source, text: &str) -> Result<TokenResponse, Error> {
        let key: ApiKey = text.parse().map_err(|_| malformed())?;
        let (tenant, now, entropy) = (key.tenant(), self.0.clock.now(), self.0.entropy.clone());
        let event =
            self.event(source, tenant, EventType::Authentication, "authentication.login", Outcome::Success);
        let logged_in = self.0.recorder.record_for(tenant, move |tx| {
            let (key, entropy, mut event) = (key.clone(), entropy.clone(), event.clone());
            Box::pin(async move {
                let lifetime = RefreshLifetime::default();
                let grant = aesp_identity::login_api_key(tx, &key, &entropy, now, lifetime).await?;
                event.principal = Some(grant.principal.id);
                event.details.resource = "api key".into();
                Ok::<_, Error>((grant, vec![event]))
            })
        });
        self.issue(&logged_in.await?)
    }

    async fn by_certificate(&self, source: &Source, identity: String) -> Result<TokenResponse, Error> {
        let (now, entropy) = (self.0.clock.now(), self.0.entropy.clone());
        let event = self.event(
            source,
            TenantId::PLATFORM,
            EventType::Authentication,
            "authentication.login",
            Outcome::Success,
        );
        let logged_in = self.0.recorder.record(move |tx| {
            let (identity, entropy, mut event) = (identity.clone(), entropy.clone(), event.clone());
            Box::pin(async move {
                let lifetime = RefreshLifetime::default();
                let grant = aesp_identity::login_certificate(tx, &identity, &entropy, now, lifetime).await?;
                event.tenant = grant.principal.tenant;
                event.principal = Some(grant.principal.id);
                event.details.resource = "certificate".into();
                Ok::<_, Error>((grant, vec![event]))
            })
        });
        self.issue(&logged_in.await?)
    }

    async fn by_refresh(&self, source: &Source, text: &str) -> Result<TokenResponse, Error> {
        let token: RefreshToken = text.parse().map_err(|_| malformed())?;
        let (tenant, now) = (token.tenant(), self.0.clock.now());
        let granted =
            self.event(source, tenant, EventType::Authentication, "authentication.refresh", Outcome::Success);
        let alert =
            self.event(source, tenant, EventType::SecurityAlert, "authentication.refresh", Outcome::Denied);
        let refreshed = self
            .0
            .recorder
            .record_for(tenant, move |tx| {
                let (token, mut granted, mut alert) = (token.clone(), granted.clone(), alert.clone());
                Box::pin(async move {
                    let refreshed =
                        aesp_identity::refresh(tx, &token, now, RefreshLifetime::default()).await?;
                    let event = match &refreshed {
                        Refresh::Granted(grant) => {
                            granted.principal = Some(grant.principal.id);
                            granted
                        }
                        Refresh::Reused(reuse) => {
                            alert.principal = Some(reuse.principal);
                            alert.details.reason =
                                "a refresh token was used twice; its family was revoked".into();
                            alert
                        }
                    };
                    Ok::<_, Error>((refreshed, vec![event]))
                })
            })
            .await?;
        match refreshed {
            Refresh::Granted(grant) => self.issue(&grant),
            Refresh::Reused(reuse) => {
                self.0.apply(reuse.tenant).await?;
                Err(reuse.refusal().into())
            }
        }
    }

    /// Reads an access token of the tenant's own, for those who may.
    fn read(&self, token: &str, tenant: TenantId) -> Result<std::sync::Arc<Claims>, Error> {
        let claims = self.0.tokens.verify(token, self.0.clock.now())?;
        if claims.tenant == tenant { Ok(claims) } else { Err(aesp_call::tenant_access_denied()) }
    }
}

/// What every failed login hears.
fn malformed() -> Error {
    Error::new(ErrorCode::InvalidCredentials, "the credentials are not valid").remedy(
        "check that the whole key was copied; an administrator can rotate it: aesp account rotate-key",
    )
}

#[tonic::async_trait]
impl enterprise_authentication_service_server::EnterpriseAuthenticationService for Authentication {
    async fn authenticate_user(
        &self,
        request: Request<AuthenticateUserRequest>,
    ) -> Result<Response<TokenResponse>, Status> {
        let source = source(&request);
        let peer = request.extensions().get::<PeerInfo>().and_then(|peer| peer.identity.clone());
        let answer = match (request.into_inner().method, peer) {
            (Some(Method::Certificate(_)), Some(peer)) => {
                self.by_certificate(&source, peer.identity.clone()).await
            }
            (Some(Method::Certificate(_)), None) => {
                Err(Error::new(ErrorCode::CertificateInvalid, "the connection has no client certificate"))
            }
            (Some(_), _) => {
                Err(Error::new(ErrorCode::ConfigurationError, "no such identity provider is configured")
                    .remedy("log in with a client certificate, or as a service account"))
            }
            (None, _) => Err(Error::invalid("method is missing")),
        };
        answer.map(Response::new).map_err(|error| self.failed(&source, "authentication.login", error))
    }

    async fn authenticate_service_account(
        &self,
        request: Request<AuthenticateServiceAccountRequest>,
    ) -> Result<Response<TokenResponse>, Status> {
        let source = source(&request);
        let answer = self.by_api_key(&source, &request.get_ref().api_key).await;
        answer.map(Response::new).map_err(|error| self.failed(&source, "authentication.login", error))
    }

    async fn refresh_token(
        &self,
        request: Request<RefreshTokenRequest>,
    ) -> Result<Response<TokenResponse>, Status> {
        let source = source(&request);
        let answer = self.by_refresh(&source, &request.get_ref().refresh_token).await;
        answer.map(Response::new).map_err(|error| self.failed(&source, "authentication.refresh", error))
    }

    async fn get_signing_keys(
        &self,
        _: Request<GetSigningKeysRequest>,
    ) -> Result<Response<GetSigningKeysResponse>, Status> {
        Ok(Response::new(GetSigningKeysResponse { jwks_json: self.0.tokens.jwks() }))
    }

    async fn validate_token(
        &self,
        request: Request<ValidateTokenRequest>,
    ) -> Result<Response<ValidateTokenResponse>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, "").await?;
        let checked = match self.read(&entry.message.token, granted.tenant()) {
            Ok(claims) => {
                let view = self.0.views.get(claims.tenant).await.map_err(Error::from)?;
                view.identity.check(&claims).map(|_| claims).map_err(Error::from)
            }
            Err(error) => Err(error),
        };
        let event = granted.event(EventType::DataAccess, Outcome::Success, "token");
        self.0.recorder.append(vec![event]).await.map_err(Error::from)?;
        self.0.access.still(&granted).await?;
        Ok(Response::new(match checked {
            Ok(claims) => ValidateTokenResponse {
                valid: true,
                principal_id: claims.principal.to_string(),
                tenant_id: claims.tenant.to_string(),
                expires_at_ms: claims.expires_at.0,
                reason: String::new(),
            },
            Err(error) => ValidateTokenResponse { reason: error.message().to_owned(), ..Default::default() },
        }))
    }

    async fn revoke_token(
        &self,
        request: Request<RevokeTokenRequest>,
    ) -> Result<Response<RevokeTokenResponse>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, "").await?;
        let (tenant, now) = (granted.tenant(), self.0.clock.now());
        let RevokeTokenRequest { token, principal_id } = entry.message;
        if token.is_empty() {
            self.0
                .change(&granted, format!("principal:{principal_id}"), move |tx| {
                    let named = principal_id.clone();
                    Box::pin(async move {
                        let principal = aesp_identity::find(tx, tenant, &named).await?;
                        aesp_identity::revoke_all(tx, tenant, principal.id).await?;
                        Ok(())
                    })
                })
                .await?;
        } else if let Ok(refresh) = token.parse::<RefreshToken>() {
            let own =
                if refresh.tenant() == tenant { Ok(()) } else { Err(aesp_call::tenant_access_denied()) };
            self.0.denied(&granted, "refresh token", own).await?;
            self.0
                .change(&granted, "refresh token".into(), move |tx| {
                    let refresh = refresh.clone();
                    Box::pin(async move {
                        aesp_identity::revoke_refresh_token(tx, &refresh, now).await?;
                        Ok(())
                    })
                })
                .await?;
        } else {
            let claims = self.0.denied(&granted, "token", self.read(&token, tenant)).await?;
            self.0
                .change(&granted, format!("token:{}", claims.token), move |tx| {
                    let claims = std::sync::Arc::clone(&claims);
                    Box::pin(async move { Ok(aesp_identity::revoke_access_token(tx, &claims).await?) })
                })
                .await?;
        }
        Ok(Response::new(RevokeTokenResponse { revoked: 1 }))
    }

    async fn get_user_roles(
        &self,
        request: Request<GetUserRolesRequest>,
    ) -> Result<Response<GetUserRolesResponse>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let (principal, view) = self.0.principal(&granted, &entry.message.principal_id).await?;
        let roles = view.policy.roles_of(principal.id, self.0.clock.now());
        Ok(Response::new(GetUserRolesResponse { roles }))
    }

    async fn get_user_permissions(
        &self,
        request: Request<GetUserPermissionsRequest>,
    ) -> Result<Response<GetUserPermissionsResponse>, Status> {
        Ok(Response::new(self.0.permissions(&enter(request)?).await?))
    }

    async fn rotate_signing_key(
        &self,
        request: Request<RotateSigningKeyRequest>,
    ) -> Result<Response<GetSigningKeysResponse>, Status> {
        let entry = enter(request)?;
        let granted = self.0.access.permit_tenant(&entry.caller, &entry.action, TenantId::PLATFORM).await?;
        let (entropy, now) = (self.0.entropy.clone(), self.0.clock.now());
        self.0
            .change(&granted, "signing key".into(), move |tx| {
                let entropy = entropy.clone();
                Box::pin(async move {
                    aesp_identity::rotate_signing_key(tx, &entropy, now).await?;
                    Ok(())
                })
            })
            .await?;
        Ok(Response::new(GetSigningKeysResponse { jwks_json: self.0.tokens.jwks() }))
    }
}
