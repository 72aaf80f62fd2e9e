//! TLS to a cluster that speaks nothing else.

use std::{fs, path::Path, time::Duration};

use aesp_storage::{FdbEngine, FdbOptions};
use aesp_tests::{FdbCluster, FdbFiles};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::store::{open, options, read, write};

/// An authority with one certificate for both sides.
struct Authority {
    folder: TempDir,
}

impl Authority {
    fn new(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut ca = CertificateParams::default();
        ca.distinguished_name.push(DnType::CommonName, name);
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ca_key = KeyPair::generate().unwrap();
        let ca_certificate = ca.self_signed(&ca_key).unwrap();
        let issuer = Issuer::new(ca, ca_key);
        let mut own = CertificateParams::new(vec!["localhost".into()]).unwrap();
        own.distinguished_name.push(DnType::CommonName, "database");
        own.distinguished_name.push(DnType::OrganizationName, "Example");
        own.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        own.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = own.signed_by(&key, &issuer).unwrap();
        fs::write(folder.path().join("ca.pem"), ca_certificate.pem()).unwrap();
        fs::write(folder.path().join("own.pem"), certificate.pem()).unwrap();
        fs::write(folder.path().join("own.key"), key.serialize_pem()).unwrap();
        Self { folder }
    }

    fn files(&self) -> FdbFiles {
        let at = |name: &str| self.folder.path().join(name);
        FdbFiles { certificate: at("own.pem"), key: at("own.key"), ca: at("ca.pem") }
    }
}

async fn cluster() -> (FdbCluster, Authority) {
    let authority = Authority::new("database authority");
    (FdbCluster::single_with(Some(authority.files())).await.unwrap(), authority)
}

/// Returns why the store does not open; it says so in time.
async fn refusal(options: FdbOptions) -> String {
    let began = Instant::now();
    let options = FdbOptions { connect_timeout: Duration::from_secs(5), ..options };
    let Err(error) = FdbEngine::open(options).await else { panic!("it must be refused") };
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}: {error}", began.elapsed());
    error.to_string()
}

#[cfg_attr(not(fdb_server), ignore = "AESP_TEST_FDB_BIN names no folder with the server's programs")]
#[tokio::test]
async fn the_right_files_open_a_store() {
    let (cluster, authority) = cluster().await;
    let mut options = options(&cluster.file(), Some(&authority.files()));
    options.tls.as_mut().unwrap().verify_peers = Some("Check.Valid=1,S.O=Example".into());
    let folder = tempfile::tempdir().unwrap();
    let store = open(options, folder.path()).await.unwrap();
    write(&store, 7).await.unwrap();
    assert_eq!(read(&store).await.unwrap(), Some(7));
}

#[cfg_attr(not(fdb_server), ignore = "AESP_TEST_FDB_BIN names no folder with the server's programs")]
#[tokio::test]
async fn another_authority_is_told_as_a_reason() {
    let (cluster, authority) = cluster().await;
    let other = Authority::new("another authority");
    let files = FdbFiles { ca: other.files().ca, ..authority.files() };
    let error = refusal(options(&cluster.file(), Some(&files))).await;
    assert!(error.contains("did not answer within 5 s") && error.contains("store.fdb.ca"), "{error}");
}

#[cfg_attr(not(fdb_server), ignore = "AESP_TEST_FDB_BIN names no folder with the server's programs")]
#[tokio::test]
async fn a_rule_that_no_server_meets_is_told_as_a_reason() {
    let (cluster, authority) = cluster().await;
    let mut options = options(&cluster.file(), Some(&authority.files()));
    options.tls.as_mut().unwrap().verify_peers = Some("Check.Valid=1,S.O=Somebody else".into());
    let error = refusal(options).await;
    assert!(error.contains("did not answer within 5 s") && error.contains("verify_peers"), "{error}");
}

#[tokio::test]
async fn a_missing_file_is_named() {
    let authority = Authority::new("database authority");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("fdb.cluster");
    fs::write(&file, "test:1@127.0.0.1:9:tls\n").unwrap();
    let refused = async |files: &FdbFiles| refusal(options(&file, Some(files))).await;
    let missing = FdbFiles { ca: Path::new("/nowhere/ca.pem").into(), ..authority.files() };
    let error = refused(&missing).await;
    assert!(error.contains("can't read /nowhere/ca.pem") && error.contains("store.fdb.ca"), "{error}");
}
