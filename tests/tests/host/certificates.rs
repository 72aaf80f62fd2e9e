//! Certificates that are right in everything but one thing, shown to the running node.

use std::{fs, path::Path, time::Duration};

use aesp_sdk::{Client, Error, ErrorCode, v1};
use aesp_tests::{Certificate, Host, World, until};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType, date_time_ymd,
};
use tokio::io::AsyncReadExt;

use crate::support::refused;

/// A certificate authority of which the test has the key.
struct Authority(Issuer<'static, KeyPair>);

impl Authority {
    /// Returns the one that the node trusts.
    fn of(host: &Host) -> Self {
        let key = fs::read_to_string(host.ca().with_file_name("ca.key")).unwrap();
        let certificate = fs::read_to_string(host.ca()).unwrap();
        Self(Issuer::from_ca_cert_pem(&certificate, KeyPair::from_pem(&key).unwrap()).unwrap())
    }

    /// Makes one that nobody trusts, with the same name.
    fn strange() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, "AESP development authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Self(Issuer::new(params, KeyPair::generate().unwrap()))
    }

    /// Issues a certificate like those of Runtimes, but for what `spoil` changes.
    fn issue(&self, folder: &Path, name: &str, spoil: impl FnOnce(&mut CertificateParams)) -> Certificate {
        let identity = "spiffe://aesp.local/runtime/worker".to_owned();
        let mut params = CertificateParams::default();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        params.subject_alt_names = vec![uri(&identity)];
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2090, 1, 1));
        spoil(&mut params);
        let key = KeyPair::generate().unwrap();
        let signed = params.signed_by(&key, &self.0).unwrap();
        let (certificate, key_file) =
            (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")));
        fs::write(&certificate, signed.pem()).unwrap();
        fs::write(&key_file, key.serialize_pem()).unwrap();
        Certificate { certificate, key: key_file, identity, serial: String::new() }
    }
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

async fn connects(host: &Host, certificate: &Certificate) -> Result<String, Error> {
    let client = Client::builder(host.tls(Some(certificate)).unwrap()).endpoint(host.endpoint()).build()?;
    client.session(Duration::from_secs(60)).await.map(|session| session.id().to_owned())
}

/// Waits until the platform's log has a refused handshake with this reason.
async fn recorded(world: &World, reason: &str) {
    until("the refused handshake is recorded", async || {
        let query = v1::QueryEventsRequest { action: "tls.handshake".into(), ..Default::default() };
        let found = world.administrator.audit().query_events(query).await?.into_inner().events;
        let reasons: Vec<_> = found.iter().map(|event| event.reason.as_str()).collect();
        anyhow::ensure!(reasons.contains(&reason), "{reasons:?}");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_certificate_outside_of_its_time_its_authority_and_its_purpose_is_refused() {
    let world = World::new().await.unwrap();
    let (own, strange) = (Authority::of(&world.host), Authority::strange());
    let folder = world.host.folder();
    // With the same identity as the Runtime that is registered.
    let good = own.issue(folder, "good", |_| {});
    let refusal = refused(connects(&world.host, &good).await, &[ErrorCode::CertificateInvalid]);
    assert!(refusal.message().contains("belongs to no account"), "the handshake itself: {refusal}");

    let spoilt = [
        ("expired", own.issue(folder, "expired", |params| params.not_after = date_time_ymd(2021, 1, 1))),
        ("not_yet_valid", own.issue(folder, "early", |params| params.not_before = date_time_ymd(2089, 1, 1))),
        ("unknown_authority", strange.issue(folder, "strange", |_| {})),
        (
            "wrong_purpose",
            own.issue(folder, "server", |params| {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            }),
        ),
        ("nameless_certificate", own.issue(folder, "nameless", |params| params.subject_alt_names.clear())),
        (
            "nameless_certificate",
            own.issue(folder, "double", |params| {
                params.subject_alt_names.push(uri("spiffe://aesp.local/admin/root"));
            }),
        ),
        (
            "nameless_certificate",
            own.issue(folder, "web", |params| {
                params.subject_alt_names = vec![uri("https://aesp.local/runtime/worker")];
            }),
        ),
    ];
    for (reason, certificate) in &spoilt {
        let outcome = connects(&world.host, certificate).await;
        refused(outcome, &[ErrorCode::CertificateInvalid, ErrorCode::TransportError]);
        recorded(&world, reason).await;
    }
    world.session().await.expect("the node goes on");
}

#[tokio::test]
async fn a_certificate_of_another_name_is_nobody_and_a_node_of_another_name_is_left() {
    let world = World::new().await.unwrap();
    let own = Authority::of(&world.host);
    for (name, identity) in [
        ("longer", "spiffe://aesp.local/runtime/worker2"),
        ("shorter", "spiffe://aesp.local/runtime/worke"),
        ("elsewhere", "spiffe://other.local/runtime/worker"),
        ("case", "spiffe://aesp.local/runtime/Worker"),
    ] {
        let stranger =
            own.issue(world.host.folder(), name, |params| params.subject_alt_names = vec![uri(identity)]);
        let runtime = aesp_tests::Worker::builder(&world.host, "worker", &stranger).unwrap();
        let runtime = runtime.tool("echo", async |_, args| Ok(args));
        assert!(aesp_tests::Worker::start(runtime).await.is_err(), "{identity} serves as another's Runtime");
    }
    let other = world.host.socket("elsewhere.example", None).await;
    let error = format!("{:#}", other.expect_err("a client takes a node of another name"));
    assert!(error.contains("not valid for name"), "{error}");
    recorded(&world, "refused_by_client").await;
}

#[tokio::test]
async fn a_revoked_certificate_loses_what_it_holds() {
    let world = World::new().await.unwrap();
    let mut open = world.host.socket("localhost", Some(&world.certificate)).await.unwrap();
    let mut revoke = world.host.command();
    revoke.args(["pki", "revoke", "--serial", &world.certificate.serial]);
    assert!(revoke.output().await.unwrap().status.success());
    let mut heard = Vec::new();
    let closed = aesp_tests::soon("the connection is closed", open.read_to_end(&mut heard)).await;
    assert!(closed.is_ok(), "the connection of a revoked certificate stays open");
    let outcome = connects(&world.host, &world.certificate).await;
    refused(outcome, &[ErrorCode::CertificateInvalid, ErrorCode::TransportError]);
    recorded(&world, "revoked").await;
}
