//! A stub of Azure Key Vault, Entra ID's token endpoint and the metadata service, after their published REST interfaces (Key Vault 7.4): no
//! such service can be had for tests. Its keys are real RSA keys, its wrapping is RSA-OAEP-256.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use aws_lc_rs::rsa::{
    KeySize, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, OaepPublicEncryptingKey, PrivateDecryptingKey,
};
use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
    routing::{get, post},
};
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

pub(crate) struct Stub {
    pub(crate) address: SocketAddr,
    pub(crate) vault: Arc<Mutex<Vault>>,
    server: JoinHandle<()>,
}

#[derive(Default)]
pub(crate) struct Vault {
    /// The versions of the key `aesp`, the newest last.
    versions: Vec<(String, PrivateDecryptingKey)>,
    pub(crate) disabled: Vec<String>,
    pub(crate) secrets: HashMap<String, String>,
    /// Tokens that are good; each is taken back by removing it.
    pub(crate) tokens: Vec<String>,
    pub(crate) logins: usize,
    pub(crate) client_secret: String,
    /// Answers with this status, whatever is asked.
    pub(crate) broken: Option<u16>,
}

type Shared = Arc<Mutex<Vault>>;
type Answer = (StatusCode, Json<Value>);

impl Vault {
    pub(crate) fn add_version(&mut self) -> String {
        let version = format!("{:032x}", 0xA0 + self.versions.len());
        self.versions.push((version.clone(), PrivateDecryptingKey::generate(KeySize::Rsa2048).unwrap()));
        version
    }

    fn bundle(&self) -> Value {
        let (version, _) = self.versions.last().unwrap();
        json!({ "key": { "kid": kid(version), "kty": "RSA", "key_ops": ["wrapKey", "unwrapKey"] },
            "attributes": { "enabled": true } })
    }

    fn log_in(&mut self) -> String {
        self.logins += 1;
        let token = format!("token-{}", self.logins);
        self.tokens.push(token.clone());
        token
    }
}

fn kid(version: &str) -> String {
    format!("https://corp.vault.azure.net/keys/aesp/{version}")
}

fn refuse(status: u16, code: &str, inner: Option<&str>) -> Answer {
    let inner = inner.map(|code| json!({ "code": code }));
    let body = json!({ "error": { "code": code, "message": "as the stub says", "innererror": inner } });
    (StatusCode::from_u16(status).unwrap(), Json(body))
}

/// Refuses what comes without a good token or without the version of the interface.
fn admit(vault: &Vault, headers: &HeaderMap, query: &HashMap<String, String>) -> Result<(), Answer> {
    if let Some(status) = vault.broken {
        return Err(refuse(status, "Throttled", None));
    }
    if query.get("api-version").map(String::as_str) != Some("7.4") {
        return Err(refuse(400, "BadParameter", None));
    }
    let token = headers.get("authorization").and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    match token {
        Some(token) if vault.tokens.iter().any(|good| good == token) => Ok(()),
        _ => Err(refuse(401, "Unauthorized", None)),
    }
}

async fn key(
    State(vault): State<Shared>,
    Path(name): Path<String>,
    query: Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Answer {
    let vault = vault.lock().unwrap();
    if let Err(refused) = admit(&vault, &headers, &query) {
        return refused;
    }
    if name != "aesp" { refuse(404, "KeyNotFound", None) } else { (StatusCode::OK, Json(vault.bundle())) }
}

/// `POST /keys/aesp/wrapkey` and `POST /keys/aesp/rotate`.
async fn act(
    State(vault): State<Shared>,
    Path((name, verb)): Path<(String, String)>,
    query: Query<HashMap<String, String>>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Answer {
    let mut vault = vault.lock().unwrap();
    if let Err(refused) = admit(&vault, &headers, &query) {
        return refused;
    }
    match (name.as_str(), verb.as_str()) {
        ("aesp", "rotate") => {
            vault.add_version();
            (StatusCode::OK, Json(vault.bundle()))
        }
        ("aesp", "wrapkey") => {
            assert_eq!(body["alg"], "RSA-OAEP-256");
            let (version, key) = vault.versions.last().unwrap();
            if vault.disabled.contains(version) {
                return refuse(403, "Forbidden", Some("KeyDisabled"));
            }
            let plain = BASE64URL_NOPAD.decode(body["value"].as_str().unwrap().as_bytes()).unwrap();
            let public = OaepPublicEncryptingKey::new(key.public_key()).unwrap();
            let mut out = vec![0; public.ciphertext_size()];
            let wrapped = public.encrypt(&OAEP_SHA256_MGF1SHA256, &plain, &mut out, None).unwrap();
            (StatusCode::OK, Json(json!({ "kid": kid(version), "value": BASE64URL_NOPAD.encode(wrapped) })))
        }
        _ => refuse(404, "KeyNotFound", None),
    }
}

async fn unwrap_key(
    State(vault): State<Shared>,
    Path((_, version, verb)): Path<(String, String, String)>,
    query: Query<HashMap<String, String>>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Answer {
    let vault = vault.lock().unwrap();
    if let Err(refused) = admit(&vault, &headers, &query) {
        return refused;
    }
    assert_eq!(verb, "unwrapkey");
    let Some((_, key)) = vault.versions.iter().find(|(known, _)| *known == version) else {
        return refuse(404, "KeyNotFound", None);
    };
    if vault.disabled.contains(&version) {
        return refuse(403, "Forbidden", Some("KeyDisabled"));
    }
    let wrapped = BASE64URL_NOPAD.decode(body["value"].as_str().unwrap().as_bytes()).unwrap();
    let private = OaepPrivateDecryptingKey::new(key.clone()).unwrap();
    let mut out = vec![0; private.min_output_size()];
    match private.decrypt(&OAEP_SHA256_MGF1SHA256, &wrapped, &mut out, None) {
        Ok(plain) => {
            (StatusCode::OK, Json(json!({ "kid": kid(&version), "value": BASE64URL_NOPAD.encode(plain) })))
        }
        Err(_) => refuse(400, "BadParameter", None),
    }
}

async fn secret(
    State(vault): State<Shared>,
    Path(name): Path<String>,
    query: Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Answer {
    let vault = vault.lock().unwrap();
    if let Err(refused) = admit(&vault, &headers, &query) {
        return refused;
    }
    match vault.secrets.get(&name) {
        Some(value) => (StatusCode::OK, Json(json!({ "value": value }))),
        None => refuse(404, "SecretNotFound", None),
    }
}

async fn managed_identity(
    State(vault): State<Shared>,
    query: Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Answer {
    assert_eq!(headers.get("metadata").unwrap(), "true");
    assert_eq!(query["resource"], "https://vault.azure.net");
    // The metadata service writes the number as a text.
    let token = vault.lock().unwrap().log_in();
    (StatusCode::OK, Json(json!({ "access_token": token, "expires_in": "3600", "token_type": "Bearer" })))
}

async fn client_credentials(
    State(vault): State<Shared>,
    Path(directory): Path<String>,
    body: Bytes,
) -> Answer {
    let mut vault = vault.lock().unwrap();
    assert_eq!(directory, "directory-1");
    let body = String::from_utf8(body.to_vec()).unwrap();
    let wanted = format!(
        "grant_type=client_credentials&client_id=client-1&client_secret={}&scope=https%3A%2F%2Fvault.azure.net%2F.default",
        vault.client_secret,
    );
    if body != wanted {
        let refusal = json!({ "error": "invalid_client", "error_description": "AADSTS7000215: Invalid client secret provided." });
        return (StatusCode::UNAUTHORIZED, Json(refusal));
    }
    let token = vault.log_in();
    (StatusCode::OK, Json(json!({ "access_token": token, "expires_in": 3600, "token_type": "Bearer" })))
}

impl Stub {
    pub(crate) async fn start() -> Self {
        let vault = Shared::default();
        vault.lock().unwrap().add_version();
        let routes = Router::new()
            .route("/keys/{name}", get(key))
            .route("/keys/{name}/{verb}", post(act))
            .route("/keys/{name}/{version}/{verb}", post(unwrap_key))
            .route("/secrets/{name}", get(secret))
            .route("/metadata/identity/oauth2/token", get(managed_identity))
            .route("/{directory}/oauth2/v2.0/token", post(client_credentials))
            .with_state(Arc::clone(&vault));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { address, vault, server }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn stop(&self) {
        self.server.abort();
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.server.abort();
    }
}
