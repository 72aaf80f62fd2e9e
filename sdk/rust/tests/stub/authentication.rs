use std::sync::{Arc, atomic::Ordering};

use aesp_proto::{
    Error, ErrorCode,
    v1::{enterprise_authentication_service_server::EnterpriseAuthenticationService, *},
};
use tonic::{Request, Response, Status};

use super::server::Script;

pub const API_KEY: &str = "aesp_key";

pub struct Authentication(pub Arc<Script>);

impl Authentication {
    fn tokens(&self, kind: &str, number: u32) -> TokenResponse {
        let access_token = format!("{kind}-{number}");
        self.0.valid_tokens.lock().unwrap().push(access_token.clone());
        TokenResponse {
            access_token,
            refresh_token: format!("refresh-{kind}-{number}"),
            expires_in_seconds: self.0.token_life_seconds.load(Ordering::Relaxed),
            ..TokenResponse::default()
        }
    }
}

fn unused<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("the stub does not play this"))
}

#[tonic::async_trait]
impl EnterpriseAuthenticationService for Authentication {
    async fn authenticate_service_account(
        &self,
        request: Request<AuthenticateServiceAccountRequest>,
    ) -> Result<Response<TokenResponse>, Status> {
        self.0.hear("login", &request, "")?;
        if request.into_inner().api_key != API_KEY {
            return Err(Error::new(ErrorCode::InvalidCredentials, "no such key").into());
        }
        let number = self.0.logins.fetch_add(1, Ordering::Relaxed) + 1;
        Ok(Response::new(self.tokens("login", number)))
    }

    async fn refresh_token(
        &self,
        request: Request<RefreshTokenRequest>,
    ) -> Result<Response<TokenResponse>, Status> {
        self.0.hear("refresh", &request, &request.get_ref().refresh_token)?;
        let number = self.0.refreshes.fetch_add(1, Ordering::Relaxed) + 1;
        Ok(Response::new(self.tokens("refreshed", number)))
    }

    async fn authenticate_user(
        &self,
        _: Request<AuthenticateUserRequest>,
    ) -> Result<Response<TokenResponse>, Status> {
        unused()
    }
    async fn get_signing_keys(
        &self,
        _: Request<GetSigningKeysRequest>,
    ) -> Result<Response<GetSigningKeysResponse>, Status> {
        unused()
    }
    async fn validate_token(
        &self,
        _: Request<ValidateTokenRequest>,
    ) -> Result<Response<ValidateTokenResponse>, Status> {
        unused()
    }
    async fn revoke_token(
        &self,
        _: Request<RevokeTokenRequest>,
    ) -> Result<Response<RevokeTokenResponse>, Status> {
        unused()
    }
    async fn get_user_roles(
        &self,
        _: Request<GetUserRolesRequest>,
    ) -> Result<Response<GetUserRolesResponse>, Status> {
        unused()
    }
    async fn get_user_permissions(
        &self,
        _: Request<GetUserPermissionsRequest>,
    ) -> Result<Response<GetUserPermissionsResponse>, Status> {
        unused()
    }
    async fn rotate_signing_key(
        &self,
        _: Request<RotateSigningKeyRequest>,
    ) -> Result<Response<GetSigningKeysResponse>, Status> {
        unused()
    }
}
