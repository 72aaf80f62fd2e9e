use std::{fs, path::Path, process::Command};

use aesp_keys::{Pkcs11, Pkcs11Config};
use aesp_storage::{Error, KeyProvider};
use tempfile::TempDir;

use crate::skip;

const MODULES: [&str; 2] =
    ["/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so"];
const AAD: &[u8] = b"tenant 7";

/// A SoftHSM token in a folder of its own. One a process: the module reads its configuration once.
struct Hsm {
    folder: TempDir,
    module: &'static str,
}

impl Hsm {
    fn new() -> Option<Self> {
        let module = MODULES.into_iter().find(|module| Path::new(module).exists());
        let tools =
            ["/usr/bin/softhsm2-util", "/usr/bin/pkcs11-tool"].iter().all(|tool| Path::new(tool).exists());
        let Some(module) = module.filter(|_| tools) else {
            skip("SoftHSM and OpenSC are not there: run scripts/install-peers");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("tokens")).unwrap();
        let config = folder.path().join("softhsm2.conf");
        let text = format!(
            "directories.tokendir = {}\nobjectstore.backend = file\n",
            folder.path().join("tokens").display()
        );
        fs::write(&config, text).unwrap();
        // SAFETY: nothing else runs in this process yet that reads the environment.
        #[expect(unsafe_code, reason = "the module takes its configuration from the environment alone")]
        unsafe {
            std::env::set_var("SOFTHSM2_CONF", &config);
        }
        let hsm = Self { folder, module };
        hsm.tool(
            "softhsm2-util",
            &["--init-token", "--free", "--label", "aesp-test", "--pin", "1234", "--so-pin", "5678"],
        );
        fs::write(hsm.folder.path().join("pin"), "1234\n").unwrap();
        Some(hsm)
    }

    fn tool(&self, program: &str, arguments: &[&str]) {
        let output = Command::new(program).args(arguments).output().unwrap();
        assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
    }

    fn key(&self, id: &str, options: &[&str]) {
        let fixed = ["--module", self.module, "--token-label", "aesp-test", "--login", "--pin", "1234"];
        self.tool("pkcs11-tool", &[&fixed, options, &["--id", id]].concat());
    }

    fn config(&self) -> Pkcs11Config {
        Pkcs11Config {
            module: self.module.into(),
            token: "aesp-test".into(),
            pin: Some(format!("file:{}", self.folder.path().join("pin").display()).parse().unwrap()),
            ..Pkcs11Config::default()
        }
    }
}

const GENERATE: [&str; 6] = ["--keygen", "--key-type", "aes:32", "--label", "aesp", "--sensitive"];

#[tokio::test]
async fn keys_are_wrapped_on_the_token_for_their_place() {
    let Some(hsm) = Hsm::new() else { return };
    let error = Pkcs11::open(hsm.config()).await.unwrap_err();
    assert!(matches!(&error, Error::KeyProvider(why) if why.contains("pkcs11-tool --keygen")), "{error}");
    hsm.key("01", &GENERATE);
    let token = Pkcs11::open(hsm.config()).await.unwrap();
    assert_eq!(token.current().await.unwrap(), 1.into());
    let old = token.wrap(b"a key", AAD).await.unwrap();
    assert_eq!(token.unwrap(&old, AAD).await.unwrap(), b"a key");
    assert_ne!(token.wrap(b"a key", AAD).await.unwrap(), old);
    assert!(matches!(token.unwrap(&old, b"tenant 8").await, Err(Error::WrongMasterKey)));
    for at in [17, old.len() - 1] {
        let mut changed = old.clone();
        changed[at] ^= 1;
        let refused = token.unwrap(&changed, AAD).await.unwrap_err();
        assert!(matches!(refused, Error::WrongMasterKey), "byte {at}: {refused}");
    }
    for nonsense in [&b""[..], b"vault:v1:AAAA", b"aesp-p11:", &old[..20]] {
        assert!(matches!(token.unwrap(nonsense, AAD).await, Err(Error::WrongMasterKey)), "{nonsense:?}");
    }

    assert_eq!(token.rotate().await.unwrap(), 2.into());
    let new = token.wrap(b"a key", AAD).await.unwrap();
    assert_eq!(token.version_of(&new).unwrap(), 2.into());
    assert_eq!(token.unwrap(&old, AAD).await.unwrap(), b"a key", "old versions unwrap");
    hsm.key("01", &["--delete-object", "--type", "secrkey", "--label", "aesp"]);
    let gone = token.unwrap(&old, AAD).await.unwrap_err();
    assert!(matches!(&gone, Error::MasterKeyGone(why) if why.contains("version 1")), "{gone}");
    assert_eq!(token.unwrap(&new, AAD).await.unwrap(), b"a key");
}

#[tokio::test]
async fn what_is_wrong_is_told_and_a_pin_is_tried_once() {
    let Some(hsm) = Hsm::new() else { return };
    hsm.key("01", &GENERATE);
    let error =
        Pkcs11::open(Pkcs11Config { module: "/nowhere.so".into(), ..hsm.config() }).await.unwrap_err();
    assert!(matches!(&error, Error::KeyProvider(why) if why.contains("/nowhere.so")), "{error}");
    let error = Pkcs11::open(Pkcs11Config { token: "other".into(), ..hsm.config() }).await.unwrap_err();
    assert!(matches!(&error, Error::KeyProviderAway(why) if why.contains("label other")), "{error}");
    fs::write(hsm.folder.path().join("pin"), "9999").unwrap();
    let error = Pkcs11::open(hsm.config()).await.unwrap_err();
    assert!(matches!(error, Error::KeyProviderDenied(_)), "{error}");
    fs::write(hsm.folder.path().join("pin"), "1234").unwrap();
    Pkcs11::open(hsm.config()).await.unwrap();
    hsm.key("02", &["--keygen", "--key-type", "aes:32", "--label", "aesp", "--extractable"]);
    let error = Pkcs11::open(hsm.config()).await.unwrap_err();
    assert!(matches!(&error, Error::KeyProvider(why) if why.contains("can leave the token")), "{error}");
}
