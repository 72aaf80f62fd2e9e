//! Logins that need more than a file: client certificates, and the tokens of service accounts.

use std::{fs, path::Path};

use aesp_keys::{Login, Vault, VaultConfig};
use aesp_storage::{Error, KeyProvider};
use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use data_encoding::BASE64URL_NOPAD;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

use crate::{
    bao::{Bao, Pki, binary},
    skip,
};

/// An authority that signs for servers and clients.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn sign(&self, folder: &Path, name: &str, usage: ExtendedKeyUsagePurpose) -> Pki {
        let mut params = CertificateParams::new(vec!["localhost".into(), "127.0.0.1".into()]).unwrap();
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        let signed = params.signed_by(&key, &self.issuer).unwrap();
        let pki =
            Pki { certificate: folder.join(format!("{name}.pem")), key: folder.join(format!("{name}.key")) };
        fs::write(&pki.certificate, signed.pem()).unwrap();
        fs::write(&pki.key, key.serialize_pem()).unwrap();
        pki
    }
}

#[tokio::test]
async fn a_node_logs_in_with_its_certificate_over_tls() {
    if let Err(error) = binary() {
        return skip(&error.to_string());
    }
    let folder = tempfile::tempdir().unwrap();
    let (authority, stranger) = (Authority::new(), Authority::new());
    let ca = folder.path().join("ca.pem");
    fs::write(&ca, &authority.pem).unwrap();
    let server = authority.sign(folder.path(), "server", ExtendedKeyUsagePurpose::ServerAuth);
    let client = authority.sign(folder.path(), "client", ExtendedKeyUsagePurpose::ClientAuth);
    let bao = Bao::with(Some(server)).await.unwrap();
    bao.policy().await.unwrap();
    bao.run(&["auth", "enable", "cert"]).await.unwrap();
    let certificate = format!("certificate=@{}", ca.display());
    bao.run(&["write", "auth/cert/certs/node", "token_policies=aesp", &certificate]).await.unwrap();

    let config = VaultConfig {
        address: bao.address(),
        ca: Some(ca),
        login: Login::Certificate,
        certificate: Some(client.certificate.clone()),
        certificate_key: Some(client.key),
        ..VaultConfig::default()
    };
    assert_eq!(config.check(), Ok(()));
    let vault = Vault::open(config.clone()).await.unwrap();
    let wrapped = vault.wrap(b"a key", b"aad").await.unwrap();
    assert_eq!(vault.unwrap(&wrapped, b"aad").await.unwrap(), b"a key");

    let other = stranger.sign(folder.path(), "other", ExtendedKeyUsagePurpose::ClientAuth);
    let strange = VaultConfig {
        certificate: Some(other.certificate),
        certificate_key: Some(other.key),
        ..config.clone()
    };
    let error = Vault::open(strange).await.unwrap_err();
    assert!(matches!(error, Error::KeyProviderDenied(_)), "{error}");
    // A server that the named authority does not know is not spoken to.
    let unknown = folder.path().join("unknown.pem");
    fs::write(&unknown, &stranger.pem).unwrap();
    let error = Vault::open(VaultConfig { ca: Some(unknown), ..config }).await.unwrap_err();
    assert!(matches!(&error, Error::KeyProviderAway(why) if why.contains("certificate")), "{error}");
}

/// Signs a token as a cluster signs those of its service accounts.
fn service_account(key: &KeyPair, subject: &str) -> String {
    let part = |json: serde_json::Value| BASE64URL_NOPAD.encode(json.to_string().as_bytes());
    let signed = format!(
        "{}.{}",
        part(serde_json::json!({ "alg": "ES256", "typ": "JWT" })),
        part(
            serde_json::json!({ "sub": subject, "aud": "vault", "nbf": 1_000_000_000, "exp": 4_000_000_000_u64 })
        ),
    );
    let signer = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &key.serialize_der()).unwrap();
    let signature = signer.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
    format!("{signed}.{}", BASE64URL_NOPAD.encode(signature.as_ref()))
}

/// The login of the Kubernetes method, answered by the JWT method in its place, which takes the same request: an API server that reviews
/// tokens can't be had.
#[tokio::test]
async fn a_node_logs_in_as_its_service_account() {
    if let Err(error) = binary() {
        return skip(&error.to_string());
    }
    let bao = Bao::start().await.unwrap();
    bao.policy().await.unwrap();
    let key = KeyPair::generate().unwrap();
    let (public, jwt_file) = (bao.folder().join("public.pem"), bao.folder().join("jwt"));
    fs::write(&public, key.public_key_pem()).unwrap();
    bao.run(&["auth", "enable", "-path=kubernetes", "jwt"]).await.unwrap();
    let keys = format!("jwt_validation_pubkeys=@{}", public.display());
    bao.run(&["write", "auth/kubernetes/config", &keys]).await.unwrap();
    let role = [
        "write",
        "auth/kubernetes/role/node",
        "role_type=jwt",
        "user_claim=sub",
        "bound_audiences=vault",
        "bound_subject=system:serviceaccount:aesp:node",
        "token_policies=aesp",
    ];
    bao.run(&role).await.unwrap();
    let config = VaultConfig {
        address: bao.address(),
        login: Login::Kubernetes,
        role: "node".into(),
        jwt_file: jwt_file.clone(),
        ..VaultConfig::default()
    };
    fs::write(&jwt_file, service_account(&key, "system:serviceaccount:aesp:node")).unwrap();
    let vault = Vault::open(config.clone()).await.unwrap();
    vault.wrap(b"a key", b"aad").await.unwrap();
    let other = service_account(&key, "system:serviceaccount:aesp:other");
    fs::write(&jwt_file, &other).unwrap();
    let error = Vault::open(config).await.unwrap_err();
    assert!(matches!(&error, Error::KeyProviderDenied(why) if why.contains("login refused")), "{error}");
    assert!(!error.to_string().contains(&other));
}
