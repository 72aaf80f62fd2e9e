use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use aesp_alerts::{Outcome, Receiver, ReceiverKind};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

use crate::{
    fixture::{World, config, until},
    peers::{Peer, free_ports, program},
};

/// aiosmtpd with TLS and a user, which writes each mail into a file of its own.
const SERVER: &str = r#"
import asyncio, os, ssl, sys
from aiosmtpd.smtp import SMTP, AuthResult
folder, port, mode = sys.argv[1], int(sys.argv[2]), sys.argv[3]
tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
tls.minimum_version = ssl.TLSVersion.TLSv1_3
tls.load_cert_chain(f"{folder}/srv.crt", f"{folder}/srv.key")
count = 0
class Handler:
    async def handle_DATA(self, server, session, envelope):
        global count
        count += 1
        head = f"x-encrypted: {session.ssl is not None or mode == 'smtps'}\r\nx-to: {','.join(envelope.rcpt_tos)}\r\n".encode()
        with open(f"{folder}/mail.new", "wb") as out:
            out.write(head + envelope.content)
        os.rename(f"{folder}/mail.new", f"{folder}/{count}.mail")
        return "250 taken"
def authenticate(server, session, envelope, mechanism, data):
    return AuthResult(success=(data.login, data.password) == (b"aesp", b"canary-of-the-mail"), handled=False)
def new():
    starttls = None if mode == "smtps" else tls
    return SMTP(Handler(), hostname="localhost", tls_context=starttls, require_starttls=mode == "smtp",
                authenticator=authenticate, auth_required=True, auth_require_tls=mode == "smtp")
async def main():
    server = await asyncio.get_running_loop().create_server(
        new, "127.0.0.1", port, ssl=tls if mode == "smtps" else None)
    await server.serve_forever()
asyncio.run(main())
"#;

fn certify(folder: &Path) -> PathBuf {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "Test authority");
    let key = KeyPair::generate().unwrap();
    fs::write(folder.join("ca.crt"), params.self_signed(&key).unwrap().pem()).unwrap();
    let issuer = Issuer::new(params, key);
    let mut server = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate().unwrap();
    fs::write(folder.join("srv.crt"), server.signed_by(&key, &issuer).unwrap().pem()).unwrap();
    fs::write(folder.join("srv.key"), key.serialize_pem()).unwrap();
    folder.join("ca.crt")
}

async fn mailed(scheme: &str) {
    let Some(python) = program("AESP_SMTP_BIN", "smtp", "python3") else { return };
    if !python.with_file_name("aiosmtpd").exists() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "skipped in CI: aiosmtpd is not installed");
        println!("SKIPPED: aiosmtpd is not installed; run scripts/install-peers");
        return;
    }
    let world = World::new().await;
    let folder = world.folder.path().to_owned();
    let ca = certify(&folder);
    let [port] = free_ports();
    let mut command = Command::new(python);
    command.args(["-c", SERVER]).arg(&folder).args([&port.to_string(), scheme]);
    let mail = Receiver {
        name: "mail".into(),
        kind: ReceiverKind::Email,
        target: format!("{scheme}://localhost:{port}"),
        ca: Some(ca),
        user: "aesp".into(),
        secret: Some(world.secret("a wrong password").parse().unwrap()),
        from: "AESP <aesp@example.com>".into(),
        to: vec!["soc@example.com".into(), "Duty <duty@example.com>".into()],
        ..Receiver::default()
    };
    let running = world.start(1, &config(vec![mail])).await;
    world.apply(&running, crate::webhook::KNOCKS).await;
    world.log("door.knock", "192.0.2.1", 3).await;
    running.look().await;
    let failed = async || world.deliveries(Outcome::Failed).await;
    // Nobody is there; then somebody who wants another password.
    until("it is told that nobody is there", async || {
        failed().await.iter().any(|one| one.cause == "unreachable")
    })
    .await;
    let _peer = Peer::start(&mut command, &folder.join("smtp.log"));
    until("it is told that the password is wrong", async || {
        failed().await.iter().any(|one| one.cause == "refused")
    })
    .await;
    let why = failed().await.into_iter().find(|one| one.cause == "refused").unwrap().why;
    assert!(why.contains("535"), "{why}");
    world.secret("canary-of-the-mail");
    until("the mail is there", async || folder.join("1.mail").exists()).await;
    let text = fs::read_to_string(folder.join("1.mail")).unwrap();
    assert!(
        text.contains("x-encrypted: True") && text.contains("x-to: soc@example.com,duty@example.com"),
        "{text}"
    );
    assert!(text.contains("Subject: [AESP ALERT] high: 3 knocks from 192.0.2.1"), "{text}");
    assert!(
        text.contains("[FIRING] 3 knocks from 192.0.2.1") && text.contains("source_ip: 192.0.2.1"),
        "{text}"
    );
    assert!(!text.contains("canary"));
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_goes_out_over_tls_at_once() {
    mailed("smtps").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_goes_out_after_starttls() {
    mailed("smtp").await;
}
