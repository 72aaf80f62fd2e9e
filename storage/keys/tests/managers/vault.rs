use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use aesp_keys::{Login, SecretPlace, SecretRef, Secrets, Vault, VaultConfig, VaultSecrets};
use aesp_storage::{Error, KeyProvider};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    bao::{Bao, binary},
    skip,
};

const AAD: &[u8] = b"tenant 7";

async fn bao() -> Option<Bao> {
    if let Err(error) = binary() {
        skip(&error.to_string());
        return None;
    }
    Some(Bao::start().await.unwrap())
}

fn config(bao: &Bao, token: PathBuf) -> VaultConfig {
    VaultConfig {
        address: bao.address(),
        token: Some(format!("file:{}", token.display()).parse().unwrap()),
        ..VaultConfig::default()
    }
}

async fn open(bao: &Bao) -> Vault {
    let token = bao.token("token", &["-ttl=1h"]).await.unwrap();
    Vault::open(config(bao, token)).await.unwrap()
}

#[tokio::test]
async fn keys_are_wrapped_for_their_place_under_the_newest_version() {
    let Some(bao) = bao().await else { return };
    let vault = open(&bao).await;
    let first = vault.wrap(b"a key", AAD).await.unwrap();
    assert_eq!(vault.unwrap(&first, AAD).await.unwrap(), b"a key");
    assert!(matches!(vault.unwrap(&first, b"tenant 8").await, Err(Error::WrongMasterKey)));
    let mut changed = first.clone();
    let last = changed.len() - 6;
    changed[last] = if changed[last] == b'A' { b'B' } else { b'A' };
    assert!(matches!(vault.unwrap(&changed, AAD).await, Err(Error::WrongMasterKey)));
    for nonsense in [&b""[..], b"vault:v1:", b"vault:v1:AAAA", b"\xFF\xFE", b"vault:vx:AAAA"] {
        assert!(matches!(vault.unwrap(nonsense, AAD).await, Err(Error::WrongMasterKey)), "{nonsense:?}");
    }
    assert_eq!(vault.version_of(&first).unwrap(), 1.into());

    assert_eq!(vault.rotate().await.unwrap(), 2.into());
    assert_eq!(vault.current().await.unwrap(), 2.into());
    let second = vault.wrap(b"a key", AAD).await.unwrap();
    assert_eq!(vault.version_of(&second).unwrap(), 2.into());
    assert_eq!(vault.unwrap(&first, AAD).await.unwrap(), b"a key", "old versions unwrap");

    // A version that is not to be used any more, and a key that is gone.
    bao.run(&["write", "transit/keys/aesp/config", "min_decryption_version=2"]).await.unwrap();
    let gone = vault.unwrap(&first, AAD).await.unwrap_err();
    assert!(matches!(&gone, Error::MasterKeyGone(why) if why.contains("version 1")), "{gone}");
    assert_eq!(vault.unwrap(&second, AAD).await.unwrap(), b"a key");
    bao.run(&["write", "transit/keys/aesp/config", "deletion_allowed=true"]).await.unwrap();
    bao.run(&["delete", "transit/keys/aesp"]).await.unwrap();
    assert!(matches!(vault.unwrap(&second, AAD).await, Err(Error::MasterKeyGone(_))));
    assert!(matches!(vault.current().await, Err(Error::KeyProvider(_))));
    // Another key of the same name does not open what the first one wrapped.
    bao.run(&["write", "-f", "transit/keys/aesp"]).await.unwrap();
    bao.run(&["write", "-f", "transit/keys/aesp/rotate"]).await.unwrap();
    assert!(matches!(vault.unwrap(&second, AAD).await, Err(Error::WrongMasterKey)));
}

#[tokio::test]
async fn what_is_wrong_with_the_start_is_told_at_once() {
    let Some(mut bao) = bao().await else { return };
    let token = bao.token("token", &["-ttl=1h"]).await.unwrap();
    let good = config(&bao, token.clone());
    let refused = async |change: &dyn Fn(&mut VaultConfig)| {
        let mut config = good.clone();
        change(&mut config);
        let began = Instant::now();
        let error = Vault::open(config).await.unwrap_err();
        assert!(began.elapsed() < Duration::from_secs(5), "{error}");
        error
    };
    let error = refused(&|config| config.key = "other".into()).await;
    assert!(matches!(error, Error::KeyProviderDenied(_)), "the policy names one key: {error}");
    let error = refused(&|config| config.mount = "nothing".into()).await;
    assert!(matches!(error, Error::KeyProviderDenied(_)), "{error}");
    let root = bao.folder().join("root");
    fs::write(&root, bao.root()).unwrap();
    let by_root = |config: &mut VaultConfig| {
        config.token = Some(format!("file:{}", root.display()).parse().unwrap());
    };
    let error = refused(&|config| {
        by_root(config);
        config.key = "other".into()
    })
    .await;
    assert!(
        matches!(&error, Error::KeyProvider(why) if why.contains("bao write -f transit/keys/other")),
        "{error}"
    );
    bao.run(&["write", "transit/keys/signs", "type=ed25519"]).await.unwrap();
    let error = refused(&|config| {
        by_root(config);
        config.key = "signs".into()
    })
    .await;
    assert!(matches!(&error, Error::KeyProvider(why) if why.contains("type ed25519")), "{error}");

    let wrong = bao.folder().join("wrong");
    fs::write(&wrong, "s.wrong").unwrap();
    let error =
        refused(&|config| config.token = Some(format!("file:{}", wrong.display()).parse().unwrap())).await;
    assert!(
        matches!(&error, Error::KeyProviderDenied(why) if why.contains("wrong: make a new one")),
        "{error}"
    );
    let error = refused(&|config| config.token = Some("file:/nowhere/token".parse().unwrap())).await;
    assert!(matches!(&error, Error::KeyProviderDenied(why) if why.contains("/nowhere/token")), "{error}");
    let error = refused(&|config| config.namespace = "nobody".into()).await;
    assert!(matches!(error, Error::KeyProviderDenied(_) | Error::KeyProvider(_)), "{error}");

    bao.kill().await.unwrap();
    let error = refused(&|_| {}).await;
    assert!(matches!(error, Error::KeyProviderAway(_)), "{error}");
    bao.restart_sealed().await.unwrap();
    let error = refused(&|_| {}).await;
    assert!(matches!(&error, Error::KeyProviderAway(why) if why.contains("sealed")), "{error}");
    bao.restart().await.unwrap();
    Vault::open(good).await.unwrap();
}

#[tokio::test]
async fn a_login_goes_on_beyond_its_lease() {
    let Some(bao) = bao().await else { return };
    // A token that is renewed: it lives for 2 s at a time.
    let token = bao.token("short", &["-period=2s"]).await.unwrap();
    let renewed = Vault::open(config(&bao, token)).await.unwrap();

    bao.policy().await.unwrap();
    bao.run(&["auth", "enable", "approle"]).await.unwrap();
    let role = ["write", "auth/approle/role/node", "token_policies=aesp", "token_ttl=1s", "token_max_ttl=2s"];
    bao.run(&role).await.unwrap();
    let id = bao.run(&["read", "auth/approle/role/node/role-id"]).await.unwrap();
    let secret = bao.run(&["write", "-f", "auth/approle/role/node/secret-id"]).await.unwrap();
    let file = bao.folder().join("secret-id");
    fs::write(&file, secret["data"]["secret_id"].as_str().unwrap()).unwrap();
    let by_role = VaultConfig {
        address: bao.address(),
        login: Login::AppRole,
        role: id["data"]["role_id"].as_str().unwrap().into(),
        secret_id: Some(format!("file:{}", file.display()).parse().unwrap()),
        ..VaultConfig::default()
    };
    let logged_in = Vault::open(by_role.clone()).await.unwrap();

    let end = Instant::now() + Duration::from_secs(6);
    while Instant::now() < end {
        renewed.current().await.unwrap();
        let wrapped = logged_in.wrap(b"a key", AAD).await.unwrap();
        logged_in.unwrap(&wrapped, AAD).await.unwrap();
        sleep(Duration::from_millis(300)).await;
    }

    fs::write(&file, "0f0f").unwrap();
    let error = Vault::open(by_role).await.unwrap_err();
    assert!(matches!(&error, Error::KeyProviderDenied(why) if why.contains("login refused")), "{error}");
    // Nothing that was refused is in a text for people.
    assert!(!error.to_string().contains("0f0f"));
}

#[tokio::test]
async fn a_token_that_was_revoked_is_read_again() {
    let Some(bao) = bao().await else { return };
    let token = bao.token("token", &["-ttl=1h"]).await.unwrap();
    let vault = Vault::open(config(&bao, token.clone())).await.unwrap();
    let old = fs::read_to_string(&token).unwrap();
    bao.run(&["token", "revoke", &old]).await.unwrap();
    sleep(Duration::from_millis(1_100)).await;
    assert!(matches!(vault.current().await, Err(Error::KeyProviderDenied(_))));
    bao.token("token", &["-ttl=1h"]).await.unwrap();
    vault.current().await.unwrap();
}

#[tokio::test]
async fn namespaces_have_keys_of_their_own() {
    let Some(bao) = bao().await else { return };
    bao.run(&["namespace", "create", "bank"]).await.unwrap();
    bao.run(&["secrets", "enable", "-namespace=bank", "transit"]).await.unwrap();
    bao.run(&["write", "-namespace=bank", "-f", "transit/keys/aesp"]).await.unwrap();
    let root = bao.folder().join("root");
    fs::write(&root, bao.root()).unwrap();
    let outer = Vault::open(config(&bao, root.clone())).await.unwrap();
    let inner = Vault::open(VaultConfig { namespace: "bank".into(), ..config(&bao, root) }).await.unwrap();
    assert!(inner.describe().starts_with("vault:bank/transit/aesp at http"), "{}", inner.describe());
    let wrapped = inner.wrap(b"a key", AAD).await.unwrap();
    assert_eq!(inner.unwrap(&wrapped, AAD).await.unwrap(), b"a key");
    assert!(matches!(outer.unwrap(&wrapped, AAD).await, Err(Error::WrongMasterKey)));
}

#[tokio::test]
async fn secrets_of_the_key_value_store_are_followed() {
    let Some(mut bao) = bao().await else { return };
    let put = async |bao: &Bao, value: &str| {
        let value = format!("password={value}");
        bao.run(&["kv", "put", "-mount=secret", "aesp/ldap", &value]).await.unwrap();
    };
    put(&bao, "canary-one").await;
    let token = bao.token("token", &["-ttl=1h"]).await.unwrap();
    let place: Arc<dyn SecretPlace> = Arc::new(VaultSecrets::new(config(&bao, token)).unwrap());
    let secrets = Secrets::new(vec![place]).refreshed_every(Duration::from_millis(100));
    let reference: SecretRef = "vault:secret/aesp/ldap#password".parse().unwrap();
    let mut secret = secrets.follow(&reference).await.unwrap();
    assert_eq!(secret.newest().expose(), "canary-one");
    put(&bao, "canary-two").await;
    let changed = timeout(Duration::from_secs(20), secret.changed()).await.unwrap();
    assert_eq!(changed.expose(), "canary-two");

    for (reference, part) in [
        ("vault:secret/aesp/ldap#user", "no text in the field user"),
        ("vault:secret/aesp/nobody#password", "no such secret"),
        ("vault:secret/other#password", "permission denied"),
    ] {
        let error = secrets.read(&reference.parse().unwrap()).await.unwrap_err();
        assert!(error.to_string().contains(part) && !error.away, "{error}");
    }
    bao.kill().await.unwrap();
    let error = secrets.read(&reference).await.unwrap_err();
    assert!(error.away, "{error}");
    assert_eq!(secret.newest().expose(), "canary-two", "what was read goes on");
}
