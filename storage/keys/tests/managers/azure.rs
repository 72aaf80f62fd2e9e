use std::{fs, sync::Arc};

use aesp_keys::{AzureConfig, AzureKeyVault, AzureLogin, AzureSecrets, SecretPlace, Secrets};
use aesp_storage::{Error, KeyProvider};

use crate::azure_stub::Stub;

const AAD: &[u8] = b"tenant 7";

fn config(stub: &Stub) -> AzureConfig {
    AzureConfig { address: stub.url(), metadata: stub.url(), ..AzureConfig::default() }
}

#[tokio::test]
async fn keys_are_wrapped_for_their_place_under_the_newest_version() {
    let stub = Stub::start().await;
    let vault = AzureKeyVault::open(config(&stub)).await.unwrap();
    let first = vault.current().await.unwrap();
    let old = vault.wrap(&[7; 400], AAD).await.unwrap();
    assert_eq!(vault.unwrap(&old, AAD).await.unwrap(), [7; 400], "longer than RSA takes");
    assert_eq!(vault.version_of(&old).unwrap(), first);
    assert!(matches!(vault.unwrap(&old, b"tenant 8").await, Err(Error::WrongMasterKey)));
    for nonsense in [&b""[..], b"vault:v1:AAAA", b"aesp-azkv1:", &old[..old.len() / 2]] {
        assert!(matches!(vault.unwrap(nonsense, AAD).await, Err(Error::WrongMasterKey)));
    }
    let second = vault.rotate().await.unwrap();
    assert_ne!(first, second);
    let new = vault.wrap(b"a key", AAD).await.unwrap();
    assert_eq!(vault.version_of(&new).unwrap(), second);
    assert_eq!(vault.unwrap(&old, AAD).await.unwrap(), [7; 400]);
    stub.vault.lock().unwrap().disabled.push(first.to_string());
    let gone = vault.unwrap(&old, AAD).await.unwrap_err();
    assert!(matches!(&gone, Error::MasterKeyGone(why) if why.contains("KeyDisabled")), "{gone}");
    assert_eq!(vault.unwrap(&new, AAD).await.unwrap(), b"a key");
}

#[tokio::test]
async fn a_token_is_kept_and_replaced_when_it_is_refused() {
    let stub = Stub::start().await;
    let vault = AzureKeyVault::open(config(&stub)).await.unwrap();
    for _ in 0..5 {
        vault.current().await.unwrap();
    }
    assert_eq!(stub.vault.lock().unwrap().logins, 1);
    stub.vault.lock().unwrap().tokens.clear();
    assert!(
        matches!(vault.current().await, Err(Error::KeyProviderDenied(_))),
        "a fresh token is not replaced"
    );
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    vault.current().await.unwrap();
    assert_eq!(stub.vault.lock().unwrap().logins, 2);
}

#[tokio::test]
async fn an_application_logs_in_with_its_secret() {
    let stub = Stub::start().await;
    stub.vault.lock().unwrap().client_secret = "s%2Fcr%2Bt%26".into();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    fs::write(&file, "s/cr+t&\n").unwrap();
    let by_secret = AzureConfig {
        login: AzureLogin::ClientCredentials,
        authority: stub.url(),
        client_id: "client-1".into(),
        directory_id: "directory-1".into(),
        client_secret: Some(format!("file:{}", file.display()).parse().unwrap()),
        ..config(&stub)
    };
    assert_eq!(by_secret.check(), Ok(()));
    AzureKeyVault::open(by_secret.clone()).await.unwrap();
    fs::write(&file, "wrong-9x").unwrap();
    let error = AzureKeyVault::open(by_secret).await.unwrap_err();
    assert!(matches!(&error, Error::KeyProviderDenied(why) if why.contains("AADSTS7000215")), "{error}");
    assert!(!error.to_string().contains("wrong-9x"));
}

#[tokio::test]
async fn what_is_wrong_is_told() {
    let stub = Stub::start().await;
    let error = AzureKeyVault::open(AzureConfig { key: "other".into(), ..config(&stub) }).await.unwrap_err();
    assert!(matches!(&error, Error::KeyProvider(why) if why.contains("az keyvault key create")), "{error}");
    let vault = AzureKeyVault::open(config(&stub)).await.unwrap();
    for (status, away) in [(429, true), (503, true), (500, true), (403, false)] {
        stub.vault.lock().unwrap().broken = Some(status);
        let error = vault.wrap(b"a key", AAD).await.unwrap_err();
        assert_eq!(matches!(error, Error::KeyProviderAway(_)), away, "{status}: {error}");
    }
    stub.stop();
    assert!(matches!(AzureKeyVault::open(config(&stub)).await, Err(Error::KeyProviderAway(_))));
    let nowhere = AzureConfig { metadata: "http://192.0.2.1".into(), ..AzureConfig::default() };
    assert_eq!(nowhere.check().unwrap_err().0, "address");
    let nowhere = AzureConfig { address: "https://corp.vault.azure.net".into(), ..nowhere };
    assert_eq!(nowhere.check().unwrap_err().0, "metadata");
    assert!(matches!(AzureKeyVault::open(nowhere).await, Err(Error::KeyProvider(_))));
}

#[tokio::test]
async fn secrets_are_read() {
    let stub = Stub::start().await;
    stub.vault.lock().unwrap().secrets.insert("ldap".into(), "canary".into());
    let place: Arc<dyn SecretPlace> = Arc::new(AzureSecrets::new(config(&stub)).unwrap());
    let secrets = Secrets::new(vec![place]);
    assert_eq!(secrets.read(&"azkv:ldap".parse().unwrap()).await.unwrap().expose(), "canary");
    let error = secrets.read(&"azkv:nobody".parse().unwrap()).await.unwrap_err();
    assert!(error.to_string().contains("no such secret"), "{error}");
}
