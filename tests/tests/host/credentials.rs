use aesp_sdk::{Credentials, Error, ErrorCode, v1};
use aesp_tests::{HOUR, World};
use data_encoding::BASE64URL_NOPAD;

use crate::support::refused;

const REFUSALS: [ErrorCode; 2] = [ErrorCode::AuthenticationFailed, ErrorCode::InvalidCredentials];

async fn login(world: &World) -> v1::TokenResponse {
    let request = v1::AuthenticateServiceAccountRequest { api_key: world.agent.api_key.clone() };
    let mut authentication = world.administrator.authentication();
    authentication.authenticate_service_account(request).await.unwrap().into_inner()
}

async fn opens(world: &World, token: &str) -> Result<String, Error> {
    let client = world.host.client(Credentials::Token(token.into())).unwrap();
    client.session(HOUR).await.map(|session| session.id().to_owned())
}

/// Returns the token with its header replaced.
fn with_header(token: &str, header: &str) -> String {
    let (_, rest) = token.split_once('.').unwrap();
    format!("{}.{rest}", BASE64URL_NOPAD.encode(header.as_bytes()))
}

#[tokio::test]
async fn only_a_whole_token_of_ours_opens_anything() {
    let world = World::new().await.unwrap();
    let token = login(&world).await.access_token;
    opens(&world, &token).await.unwrap();
    let unsigned = format!("{}.", token.rsplit_once('.').unwrap().0);
    let mut flipped = token.clone().into_bytes();
    let middle = flipped.len() / 2;
    flipped[middle] = if flipped[middle] == b'A' { b'B' } else { b'A' };
    let forged = [
        with_header(&token, r#"{"alg":"none","typ":"JWT"}"#),
        with_header(&token, r#"{"alg":"HS256","typ":"JWT"}"#),
        with_header(&token, r#"{"alg":"EdDSA","typ":"JWT","kid":"unknown"}"#),
        unsigned,
        String::from_utf8(flipped).unwrap(),
        "a.b.c".into(),
        "x".repeat(20_000),
    ];
    for token in forged {
        let outcome = opens(&world, &token).await;
        // A header that is too long is cut off before anybody reads it.
        let codes = [&REFUSALS[..], &[ErrorCode::TransportError]].concat();
        refused(outcome, &codes);
    }
    refused(
        world.host.client(Credentials::ApiKey("aesp_nothing".into())).unwrap().session(HOUR).await,
        &REFUSALS,
    );
}

#[tokio::test]
async fn a_revoked_token_is_refused_and_a_refresh_token_works_once() {
    let world = World::new().await.unwrap();
    let first = login(&world).await;
    let second = login(&world).await;
    let client = world.host.client(Credentials::Token(first.access_token.as_str().into())).unwrap();
    client.session(HOUR).await.unwrap();
    let request = v1::RevokeTokenRequest {
        token: String::new(),
        principal_id: world.agent.principal.principal_id.clone(),
    };
    let owner = world.acme.account("owner", &["tenant-admin"]).await.unwrap().client(&world.host).unwrap();
    owner.authentication().revoke_token(request).await.unwrap();
    refused(opens(&world, &first.access_token).await, &REFUSALS);
    refused(opens(&world, &second.access_token).await, &REFUSALS);

    let fresh = login(&world).await;
    let refresh = async |token: &str| {
        let request = v1::RefreshTokenRequest { refresh_token: token.into() };
        let answer = world.administrator.authentication().refresh_token(request).await;
        answer.map(tonic::Response::into_inner).map_err(|status| Error::from_status(&status))
    };
    let next = refresh(&fresh.refresh_token).await.unwrap();
    opens(&world, &next.access_token).await.unwrap();
    refused(refresh(&fresh.refresh_token).await, &REFUSALS);
    // Somebody else has it: the whole family ends.
    refused(refresh(&next.refresh_token).await, &REFUSALS);
}
